package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/route"
)

const routesExample = `
routes:
  - match: {topic: re:orders-.*, key: re:eu-.*, headers: {kind: order, trace: {exists: TRUE}}, json: {status: open, n: 3, big: 1.5e3, ok: True, no: FALSE, old: {exists: false}, text: "3"}}
    channel: orders.{json.id}
    on_error: {channel: lost}
  - match: {headers: {noise: "1"}}
    drop: True
  - {topic: trades, channel: "trades.{key}", on_error: stop}
  - {match: {key: k}, channel: x, on_error: skip}
  - trades=t
  - "{topic}"
`

var wantRoutes = []Route{
	{
		Topic: "re:orders-.*", Key: "re:eu-.*", Headers: []route.Condition{{Name: "kind", Value: "order"}, {Name: "trace", Test: route.TestExists}},
		Fields: []route.Condition{
			{Name: "status", Value: "open"}, {Name: "n", Test: route.TestNumber, Value: "3"}, {Name: "big", Test: route.TestNumber, Value: "1.5e3"},
			{Name: "ok", Test: route.TestBool, Value: "true"}, {Name: "no", Test: route.TestBool, Value: "false"}, {Name: "old", Test: route.TestAbsent}, {Name: "text", Value: "3"},
		},
		Channel: "orders.{json.id}", OnError: route.OnError{Action: route.ErrorChannel, Channel: "lost"},
	},
	{Headers: []route.Condition{{Name: "noise", Value: "1"}}, Drop: true},
	{Topic: "trades", Channel: "trades.{key}", OnError: route.OnError{Action: route.ErrorStop}},
	{Key: "k", Channel: "x"},
	{Topic: "trades", Channel: "t"},
	{Channel: "{topic}"},
}

// Rules are read as they are meant, and what is shown of them is read the same again.
func TestRoutes(t *testing.T) {
	l, err := Load(Input{File: tempFile(t, "wsd.yaml", routesExample)})
	require.NoError(t, err)
	require.Equal(t, wantRoutes, l.Config.Routes)
	var shown strings.Builder
	require.NoError(t, l.Show(&shown))
	again, err := Load(Input{File: tempFile(t, "wsd.yaml", shown.String())})
	require.NoError(t, err, shown.String())
	require.Equal(t, wantRoutes, again.Config.Routes)
	require.Nil(t, l.Config.RouteOverrides())
}

// Whatever is wrong with a rule is said with its place.
func TestRouteFaults(t *testing.T) {
	for text, want := range map[string]string{
		`{match: {topik: a}, channel: x}`:                    `routes[0] (file FILE:1): unknown key "topik" in match; did you mean "topic"?`,
		`{match: a, channel: x}`:                             "match must be a mapping",
		`{topic: a, match: {topic: b}, channel: x}`:          "topic is set both in match and next to it; remove one",
		`{match: {key: ''}, channel: x}`:                     "key is empty; write a key or a pattern",
		`{match: {headers: {h: 5}}, channel: x}`:             `routes[0].headers.h = 5 (file FILE:1): a header's value must be a text; put quotes around it`,
		`{match: {headers: {h: [a]}}, channel: x}`:           "the condition on h must not be a list",
		`{match: {headers: {h: {}}}, channel: x}`:            "the condition on h is empty",
		`{match: {headers: {h: {exist: true}}}, channel: x}`: `unknown key "exist" in h; did you mean "exists"?`,
		`{match: {headers: {h: {exists: 1}}}, channel: x}`:   "exists must be true or false",
		`{match: {json: {f: ~}}, channel: x}`:                `the condition on f is "~", which is not a text, number or boolean`,
		`{match: {json: {f: 0x10}}, channel: x}`:             `routes[0].json.f = 0x10 (file FILE:1): not a JSON number; put quotes around a text`,
		`{match: {json: {a..b: 1}}, channel: x}`:             `the path of the JSON field has an empty name`,
		`{match: {key: 're:('}, channel: x}`:                 `routes[0].key = re:( (file FILE:1): not a regular expression of RE2: missing closing ): ` + "`(`",
		`{match: {topic: a}}`:                                "routes[0].channel (file FILE:1): the channel is empty; write a template such as {topic} or user.{key}, or drop: true",
		`{drop: true, channel: x}`:                           "a rule that drops its records cannot have a channel; remove channel or drop",
		`{drop: 1}`:                                          "drop must be true or false",
		`{drop: true, on_error: stop}`:                       "a rule that drops its records cannot have on_error",
		`{channel: x, on_error: halt}`:                       `on_error is "halt"; write skip, stop or {channel: NAME}`,
		`{channel: x, on_error: {channel: '{key}'}}`:         "a template could fail again",
		`{channel: x, on_error: {chan: y}}`:                  `unknown key "chan" in on_error; possible keys: channel`,
		`{channel: x, on_error: {}}`:                         "routes[0].on_error.channel (file FILE:1): the channel is empty",
	} {
		require.Contains(t, faults(t, Input{File: tempFile(t, "wsd.yaml", "routes: ["+text+"]\n")}), want, text)
	}
	got := faults(t, Input{File: tempFile(t, "wsd.yaml", "routes: [a, {channel: x}, {topic: a b, channel: '{x}'}]\n")})
	require.Contains(t, got, "routes[2].topic = a b")
	require.Contains(t, got, "routes[2].channel = {x}", "every fault is named")
	got = faults(t, Input{File: tempFile(t, "wsd.yaml", "routes: [{drop: 1}, {channel: '{x}'}, {chanel: y}]\n")})
	for _, want := range []string{"routes[0] ", "routes[1].channel", "routes[2] "} {
		require.Contains(t, got, want)
	}
}

func TestOverrides(t *testing.T) {
	l, err := Load(Input{Environ: []string{"WSD_OVERRIDES_ENABLED=true", "WSD_OVERRIDES_TOPICS=a,re:b.*", "WSD_OVERRIDES_BROADCAST="}})
	require.NoError(t, err)
	require.Equal(t, &route.Overrides{Topics: []string{"a", "re:b.*"}, Channels: "wsd-channels", Client: "wsd-client", User: "wsd-user", ChannelsMax: 16}, l.Config.RouteOverrides())
	for text, want := range map[string]string{
		"overrides: {enabled: true, channels_max: 0}":                                   "overrides.channels_max = 0 (file FILE:1): it must be from 1 to 256",
		"overrides: {channels_max: 257}":                                                "overrides.channels_max = 257 (file FILE:1): must be from 1 to 256",
		"overrides: {enabled: true, user: wsd-client}":                                  "overrides.user = wsd-client (file FILE:1): the header is also that of overrides.client; name another one",
		"overrides: {enabled: true, topics: [a b]}":                                     "overrides.topics = a b (file FILE:1): not a topic's name",
		"overrides: {enabled: true, user: '', client: '', channels: '', broadcast: ''}": "every header is switched off",
		"kafka: {topics: ['re:(']}":                                                     "kafka.topics = re:( (file FILE:1): not a regular expression",
		"kafka: {topics: ['re:a', 're:a']}":                                             "listed twice",
		"kafka: {topics_max: 0}":                                                        "must be from 1 to 10000",
	} {
		require.Contains(t, faults(t, Input{File: tempFile(t, "wsd.yaml", text+"\n")}), want, text)
	}
}
