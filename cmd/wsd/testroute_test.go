package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/internal/explain"
)

func TestTestRoute(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wsd.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
kafka: {topics: [trades, "re:orders-.*"]}
overrides: {enabled: true, topics: [trades]}
routes:
  - match: {topic: re:orders-.*, json: {type: test}}
    drop: true
  - match: {topic: re:orders-.*}
    channel: orders.{json.id}
    on_error: {channel: orders.lost}
  - {topic: trades, channel: "trades.{key}", on_error: stop}
  - match: {headers: {copy: {exists: true}}}
    channel: copy.{header.copy}
`), 0o600))
	id := strings.Repeat("0a", 16)
	for args, want := range map[string]struct {
		code   int
		stdout string
	}{
		"--topic orders-eu --value {\"type\":\"test\"}":              {command.OK, "nowhere: the rule drops the record\nby      routes[0]: {match: {topic: 're:orders-.*', json: {type: test}}, drop: true}\n"},
		"--topic orders-eu --value {\"id\":7}":                       {command.OK, "channel orders.7\nby      routes[1]: {match: {topic: 're:orders-.*'}, channel: 'orders.{json.id}', on_error: {channel: orders.lost}}\n"},
		"--topic orders-eu --value text":                             {command.OK, "channel orders.lost\nby      routes[1]: "},
		"--topic trades --key AAPL":                                  {command.OK, "channel trades.AAPL\nby      routes[2]: {match: {topic: trades}, channel: 'trades.{key}', on_error: stop}\n"},
		"--topic trades":                                             {command.Failed, "nowhere: reading its partition stops at this record\nby      routes[2]: "},
		"--topic trades --header wsd-channels=a,b":                   {command.OK, "channel a\nchannel b\nby      the header for channels\n"},
		"--topic trades --header wsd-user=ann":                       {command.OK, "user ann\nby      the header for a user\n"},
		"--topic trades --header wsd-broadcast=true":                 {command.OK, "everybody\nby      the header for everybody\n"},
		"--topic trades --header wsd-client=" + id:                   {command.OK, "connection " + id + ", if the wsd that reads the record has it\n"},
		"--topic trades --header wsd-client=x":                       {command.Failed, "nowhere: the record is skipped and counted\nby      a header\nreason  bad_header: "},
		"--topic other --header copy=1 --header wsd-broadcast=true":  {command.OK, "channel copy.1\nby      routes[3]: {match: {headers: {copy: {exists: true}}}, channel: 'copy.{header.copy}'}\nnote    wsd does not read this topic, because kafka.topics does not contain it\n"},
		"--topic __offsets --header copy=2 --kafka.topics re:.*":     {command.OK, "channel copy.2\nby      routes[3]: {match: {headers: {copy: {exists: true}}}, channel: 'copy.{header.copy}'}\nnote    wsd does not read this topic, because kafka.topics does not contain it\n"},
		"--topic trades --partition 3 --key A --kafka.topics trades": {command.OK, "channel trades.A\n"},
		"--topic other": {command.Failed, "nowhere: the record is skipped and counted\nreason  no_route: no rule matches the record\n"},
	} {
		code, stdout, stderr := call(append([]string{"config", "test-route", "--config", file}, strings.Fields(args)...)...)
		require.Equal(t, want.code, code, args+stdout+stderr)
		require.Contains(t, stdout, want.stdout, args)
		require.Empty(t, stderr, args)
	}
	code, stdout, _ := call("config", "test-route", "--config", file, "--topic", "trades", "--json")
	require.Equal(t, command.Failed, code)
	var got explain.Placed
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	rule := 2
	require.Equal(t, explain.Placed{To: "stop", By: "rule", Rule: &rule, Route: "{match: {topic: trades}, channel: 'trades.{key}', on_error: stop}", Reason: "missing", OnError: "stop"}, got)
	for args, want := range map[string]string{
		"":                                "missing flags: --topic",
		"--topic re:a":                    "not a topic name",
		"--topic a --header b":            `--header "b" is not NAME=VALUE`,
		"--topic a --partition=-1":        "partition -1 must be at least 0",
		"--topic a --partition x":         "--partition",
		"--topic a --routes {x}":          "unknown placeholder {x}",
		"--topic a --header h=a --nosuch": "unknown flag",
	} {
		code, _, stderr := call(append([]string{"config", "test-route"}, strings.Fields(args)...)...)
		require.Equal(t, command.Usage, code, args)
		require.Contains(t, stderr, want, args)
	}
	code, stdout, _ = call("config", "test-route", "--help")
	require.Equal(t, command.OK, code)
	require.Contains(t, stdout, "--header=NAME=VALUE")
}
