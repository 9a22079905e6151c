package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func tempFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// faults returns what Load complains of, without the path of the file.
func faults(t testing.TB, in Input) string {
	t.Helper()
	_, err := Load(in)
	var e *Error
	require.ErrorAs(t, err, &e)
	var lines []string
	for _, f := range e.Faults {
		line := f.String()
		if in.File != "" {
			line = strings.ReplaceAll(line, in.File, "FILE")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestDefaults(t *testing.T) {
	l, err := Load(Input{})
	require.NoError(t, err)
	c := l.Config
	require.Equal(t, []string{":8000"}, c.Client.Listen)
	require.EqualValues(t, 32<<10, c.Client.KernelSendBuffer)
	require.Equal(t, 25*time.Second, c.Client.PingInterval)
	require.Equal(t, []string{"127.0.0.1:9092"}, c.Kafka.Brokers)
	require.Empty(t, c.Kafka.Topics)
	require.Equal(t, 5*time.Millisecond, c.Bus.BatchAge)
	require.Equal(t, originDefault, l.Origin("client.listen"))
	require.Contains(t, faults(t, Input{NeedTopics: true}), "kafka.topics: empty; name at least one topic")
}

func TestPrecedence(t *testing.T) {
	file := tempFile(t, "wsd.yaml", "kafka:\n  topics: [file]\n  client_id: file\n  brokers: file:1\nlog: {level: warn}\nshards: 4\n")
	l, err := Load(Input{
		DefaultFile: file,
		Environ:     []string{"WSD_KAFKA_TOPICS=env1, env2", "WSD_KAFKA_CLIENT_ID=env", "WSD_REQUIRE_ROOT=1", "HOME=/", "WSD_ADMIN_LISTEN="},
		Flags:       map[string]any{"kafka.topics": []string{"flag"}, "debug.shard_header": true},
	})
	require.NoError(t, err)
	c := l.Config
	require.Equal(t, []string{"flag"}, c.Kafka.Topics)
	require.Equal(t, "env", c.Kafka.ClientID)
	require.Equal(t, []string{"file:1"}, c.Kafka.Brokers)
	require.Equal(t, "warn", c.Log.Level)
	require.Equal(t, 4, c.Shards)
	require.True(t, c.Debug.ShardHeader)
	require.Empty(t, c.Admin.Listen)
	require.Equal(t, file, l.File)
	for key, want := range map[string]string{
		"kafka.topics": "flag --kafka.topics", "kafka.client_id": "environment WSD_KAFKA_CLIENT_ID", "shards": "file " + file + ":6",
		"kafka.start": "default", "debug.shard_header": "flag --debug.shard-header",
	} {
		require.Equal(t, want, l.Origin(key))
	}
}

func TestFiles(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(Input{DefaultFile: missing})
	require.NoError(t, err)
	require.Contains(t, faults(t, Input{File: missing}), "no such file")
	require.Contains(t, faults(t, Input{File: t.TempDir()}), "is a directory")
	for text, want := range map[string]string{
		"client: {listen: [a": "not valid YAML", "- a\n": "not a mapping", "just text": "not a mapping", "a: 1\n---\nb: 1\n": "more than one",
		"\tclient: 1":                                         "not valid YAML",
		strings.Repeat("#\n", 1<<20):                          "larger than",
		"client:\n  lisen: a\n":                               "client.lisen (file FILE:2): no such option; did you mean client.listen?",
		"clint: {}\n":                                         "clint (file FILE:1): no such option",
		"client: 5\n":                                         "client = 5 (file FILE:1): a section of options",
		"shards: abc\n":                                       "shards = abc (file FILE:1): not a whole number",
		"shards: 1.5\n":                                       "shards = 1.5 (file FILE:1): not a whole number",
		"shards: [1]\n":                                       "takes one value, not a list",
		"shards: 1\nshards: 2\n":                              "shards (file FILE:2): duplicate key",
		"client: {listen: {a: b}}":                            "must be a plain value",
		"client: {listen: [[a]]}":                             "must be a plain value",
		"client: {listen: [null]}":                            "must be a plain value",
		"client: {ping_interval: 5}":                          "client.ping_interval = 5 (file FILE:1): not a duration: write a number with a unit",
		"client: {outbound_max: 5 apples}":                    "is not a size",
		"dev: {rate: \"1\\nx\"}":                              `dev.rate = "1\nx"`,
		"debug: {shard_header: yes please}":                   "must be true or false",
		"routes: [{topic: a, chanel: b}]":                     "unknown key \"chanel\" in the route; did you mean \"channel\"?",
		"routes: [{topic: a, channel: [b]}]":                  "channel must be a text",
		"routes: ['a{b}']":                                    "unknown placeholder {b}",
		"routes: [{channel: ''}]":                             "the channel is empty",
		"routes: [{topic: 'a b', channel: x}]":                "not a topic's name",
		"client: {slow_policies: [{channel: a, polcy: b}]}":   `line 1: unknown key "polcy" in the policy; did you mean "policy"?`,
		"client: {slow_policies: [{channel: a}]}":             `client.slow_policies = a= (file FILE:1): "" is not a policy; use disconnect, conflate or resync`,
		"client: {slow_policies: [{policy: conflate}]}":       "the channel is missing",
		"client: {slow_policies: [a]}":                        "lacks a policy: write PATTERN=POLICY",
		"client: {slow_policies: [a=resink]}":                 `"resink" is not a policy`,
		"recovery: {cache_channels: ['a*b']}":                 "recovery.cache_channels = a*b (file FILE:1): only the last character may be a *",
		"recovery: {cache_channels: [a, a]}":                  "recovery.cache_channels = a (file FILE:1): listed twice",
		"recovery: {read_bytes: 2MiB, max_bytes: 4MiB}":       "recovery.read_bytes = 2MiB (file FILE:1): must hold at least one answer, and recovery.max_bytes is 4MiB",
		"recovery: {max_publications: 0}":                     "recovery.max_publications = 0 (file FILE:1): must be from 1 to 100000000",
		"bus: {batch_age: 1500us}":                            "bus.batch_age = 1.5ms (file FILE:1): must be whole milliseconds",
		"kafka: {partitioner: random}":                        "kafka.partitioner = random (file FILE:1): must be murmur2, crc32 or empty",
		"client: {slow_policies: ['a*b=conflate']}":           "only the last character may be a *",
		"client: {slow_policies: ['**=conflate']}":            "only the last character may be a *",
		"client: {slow_policies: [a=conflate, a=disconnect]}": "its pattern is listed twice",
		"client: {slow_policies: ['*=conflate', b=conflate]}": "has no effect after *=conflate, which matches every channel",
		"kafka: {sasl: {password: [hush]}}":                   "kafka.sasl.password (file FILE:1): takes one value, not a list",
		"? [complex, key]\n: 1\n":                             "no such option",
	} {
		require.Contains(t, faults(t, Input{File: tempFile(t, "wsd.yaml", text)}), want, cut(text))
	}
	for _, text := range []string{"", "# nothing\n", "---\n", "client:\n", "client:\n  listen:\n", "shards: &n 4\nbus: {batch_max: *n}\n"} {
		_, err := Load(Input{File: tempFile(t, "wsd.yaml", text)})
		require.NoError(t, err, text)
	}
}

func TestChecks(t *testing.T) {
	pem := tempFile(t, "a.pem", "x")
	for _, c := range []struct {
		flags map[string]any
		want  string // Empty: no fault.
	}{
		{map[string]any{"client.listen": []string{"8000"}}, "client.listen = 8000 (flag --client.listen): not HOST:PORT; write 127.0.0.1:8000"},
		{map[string]any{"client.listen": []string{":http"}}, `port "http" must be a number`},
		{map[string]any{"client.listen": []string{":70000"}}, `port "70000" must be a number`},
		{map[string]any{"client.listen": []string{":1", ":1"}}, "listed twice"},
		{map[string]any{"client.listen": []string{""}}, "client.listen = \"\" (flag --client.listen): empty; set an address"},
		{map[string]any{"client.listen": []string{"[::1]:0,127.0.0.1:0"}}, ""},
		{map[string]any{"admin.listen": ""}, ""},
		{map[string]any{"admin.listen": "9000"}, "admin.listen = 9000"},
		{map[string]any{"control.socket": "wsd.sock"}, "absolute"},
		{map[string]any{"steering.pin_dir": "wsd"}, "absolute"},
		{map[string]any{"steering.mode": "on"}, "must be auto, require or off"},
		{map[string]any{"log.level": "loud"}, "must be debug, info, warn or error"},
		{map[string]any{"log.format": "xml"}, "must be auto, text or json"},
		{map[string]any{"shards": "257"}, "must be from 0 to 256"},
		{map[string]any{"client.ping_interval": "10s"}, "client.pong_timeout = 10s (default): must be shorter"},
		{map[string]any{"client.message_max": "17MiB"}, "must be from 1KiB to 16MiB"},
		{map[string]any{"client.kernel_send_buffer": "0"}, ""},
		{map[string]any{"client.kernel_send_buffer": "-1"}, "is out of range"},
		{map[string]any{"bus.ring_batches": "1000"}, "must be a power of two; set 1024"},
		{map[string]any{"bus.ring_bytes_max": "128KiB"}, "must hold at least one batch"},
		{map[string]any{"bus.batch_bytes_max": "513KiB"}, "half of client.outbound_max, which is 1MiB, or one batch could nearly use it up; set at most 512KiB"},
		{map[string]any{"bus.batch_age": "-1s"}, "must be from 0s"},
		{map[string]any{"shutdown.drain": "1ms"}, "must be from 100ms to 10m0s"},
		{map[string]any{"dev.rate": "-1"}, "must be from 0"},
		{map[string]any{"dev.stdin": "a b"}, "dev.stdin = a b"},
		{map[string]any{"kafka.brokers": []string{":9092"}}, "the host is missing"},
		{map[string]any{"kafka.brokers": []string{"a:0"}}, "must be a number from 1"},
		{map[string]any{"kafka.brokers": []string{""}}, "(flag --kafka.brokers): empty"},
		{map[string]any{"kafka.topics": []string{"a", "b,a"}}, "listed twice"},
		{map[string]any{"kafka.topics": []string{strings.Repeat("a", 250)}}, "not a topic's name"},
		{map[string]any{"kafka.start": "2026-01-31"}, "must be latest, earliest, committed or a time"},
		{map[string]any{"kafka.start": "committed"}, "needs kafka.commit_group, which is empty"},
		{map[string]any{"kafka.start": "committed", "kafka.commit_group": "wsd-1"}, ""},
		{map[string]any{"kafka.commit_group": strings.Repeat("x", 1<<15)}, "the maximum is 32767"},
		{map[string]any{"kafka.max_record_bytes": "1023"}, "must be from 1KiB to 1GiB"},
		{map[string]any{"kafka.start": "2026-01-31T08:00:00Z"}, ""},
		{map[string]any{"kafka.start": "0001-01-01T00:00:00Z"}, "must be latest"},
		{map[string]any{"kafka.tls.ca_file": pem}, "has no effect, because kafka.tls.enabled is false"},
		{map[string]any{"kafka.tls.insecure_skip_verify": true}, "has no effect"},
		{map[string]any{"kafka.tls.enabled": true, "kafka.tls.ca_file": pem}, "does not contain a certificate in PEM form"},
		{map[string]any{"kafka.tls.enabled": true, "kafka.tls.cert_file": pem, "kafka.tls.key_file": pem}, "cannot be used with key_file"},
		{map[string]any{"kafka.tls.enabled": true, "kafka.tls.server_name": "kafka"}, ""},
		{map[string]any{"kafka.tls.server_name": "kafka"}, "kafka.tls.server_name = kafka (flag --kafka.tls.server-name): has no effect"},
		{map[string]any{"kafka.tls.enabled": true, "kafka.tls.ca_file": pem + "x"}, "no such file"},
		{map[string]any{"kafka.tls.enabled": true, "kafka.tls.cert_file": pem}, "must be set together"},
		{map[string]any{"kafka.sasl.username": "u"}, "(default): missing, although"},
		{map[string]any{"kafka.sasl.mechanism": "magic", "kafka.sasl.username": "u", "kafka.sasl.password": "p"}, "not a mechanism that wsd supports"},
		{map[string]any{"kafka.sasl.mechanism": "plain", "kafka.sasl.password": "p"}, "kafka.sasl.username"},
		{map[string]any{"kafka.sasl.mechanism": "plain", "kafka.sasl.username": "u"}, "set kafka.sasl.password_file"},
		{map[string]any{"kafka.sasl.mechanism": "SCRAM-SHA-256", "kafka.sasl.username": "u", "kafka.sasl.password_file": pem}, ""},
		{map[string]any{"kafka.sasl.mechanism": "plain", "kafka.sasl.username": "u", "kafka.sasl.password_file": pem + "x"}, "no such file"},
		{map[string]any{"kafka.sasl.mechanism": "plain", "kafka.sasl.username": "u", "kafka.sasl.password_file": tempFile(t, "e", "\n")}, "the file is empty"},
		{map[string]any{"kafka.sasl.mechanism": "plain", "kafka.sasl.username": "u", "kafka.sasl.password": "p", "kafka.sasl.password_file": pem}, "remove one"},
		{map[string]any{"nonsense": "1"}, "no such option"},
	} {
		if c.want == "" {
			_, err := Load(Input{Flags: c.flags})
			require.NoError(t, err)
			continue
		}
		require.Contains(t, faults(t, Input{Flags: c.flags}), c.want, c.flags)
	}
}

// All faults come at once, from everywhere.
func TestAllFaults(t *testing.T) {
	text := faults(t, Input{
		NeedTopics: true,
		File:       tempFile(t, "wsd.yaml", "shards: x\nlog: {level: y}\nnone: 1\n"), Environ: []string{"WSD_KAFKA_TOPIC=a"}, Flags: map[string]any{"dev.rate": "z"},
	})
	require.Equal(t, 6, strings.Count(text, "\n")+1, text)
	require.Contains(t, text, "kafka.topics: empty")
	require.Contains(t, text, "WSD_KAFKA_TOPIC (environment): no option has this environment variable; did you mean WSD_KAFKA_TOPICS?")
}

func TestPassword(t *testing.T) {
	file := tempFile(t, "password", "hush hush\r\n")
	l, err := Load(Input{Flags: map[string]any{"kafka.sasl.mechanism": "Plain", "kafka.sasl.username": "u", "kafka.sasl.password_file": file}})
	require.NoError(t, err)
	require.Equal(t, "hush hush", string(l.Config.Kafka.SASL.Password))
	require.Equal(t, "plain", l.Config.Kafka.SASL.Mechanism)
	var shown strings.Builder
	require.NoError(t, l.Show(&shown))
	require.NotContains(t, shown.String(), "hush")
	printed := fmt.Sprintf("%v %+v %#v %s", l.Config, l.Config, l.Config, l.Config.Kafka.SASL.Password)
	require.NotContains(t, printed, "hush")
	require.Equal(t, 4, strings.Count(printed, redacted))
	l, err = Load(Input{Flags: map[string]any{"kafka.sasl.mechanism": "plain", "kafka.sasl.username": "u", "kafka.sasl.password": "hush"}})
	require.NoError(t, err)
	shown.Reset()
	require.NoError(t, l.Show(&shown))
	require.NotContains(t, shown.String(), "hush")
	require.Contains(t, shown.String(), "password: (redacted) # flag --kafka.sasl.password\n")
	public := tempFile(t, "wsd.yaml", "kafka: {sasl: {mechanism: plain, username: u, password: hush}}\n")
	require.NoError(t, os.Chmod(public, 0o644))
	text := faults(t, Input{File: public})
	require.Contains(t, text, "everybody can read")
	require.NotContains(t, text, "hush")
}
