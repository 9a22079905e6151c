package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every fault is named, also within one rule, with the line where it is.
func TestEveryFault(t *testing.T) {
	got := faults(t, Input{NeedTopics: true, File: tempFile(t, "wsd.yaml", `client:
  slow_policies: [a, b=resink, c]
  listen: 8000
routes:
  - match:
      topic: "re:("
      headers:
        h: {exist: true}
        n: 5
      json:
        f: 0x10
    channel: "{json.customer.id"
    on_error: stopp
  - chanel: x
    match:
      key: "re:["
  - "a b={topic}"
  - {channel: ok}
  - channel: x
    on_error: {channel: "{key}"}
topics: [a]
`)})
	want := []string{
		"client.slow_policies = a,b=resink,c (file FILE:2): \"a\" lacks a policy: write PATTERN=POLICY, such as prices.*=conflate; \"c\" lacks a policy",
		`client.slow_policies = b=resink (file FILE:2): "resink" is not a policy`,
		"client.listen = 8000 (file FILE:3): not HOST:PORT",
		`routes[0] (file FILE:8): unknown key "exist" in h; did you mean "exists"?`,
		`routes[0] (file FILE:13): on_error is "stopp"`,
		"routes[0].topic = re:( (file FILE:6): not a regular expression",
		"routes[0].headers.n = 5 (file FILE:9): a header's value must be a text",
		"routes[0].json.f = 0x10 (file FILE:11): not a JSON number",
		"routes[0].channel = {json.customer.id (file FILE:12): the { at byte 0 is not closed",
		`routes[1] (file FILE:14): unknown key "chanel" in the route; did you mean "channel"?`,
		"routes[1].key = re:[ (file FILE:16): not a regular expression",
		"routes[2].topic = a b (file FILE:17): not a topic's name",
		"routes[4].on_error.channel = {key} (file FILE:20): a template could fail again",
		"topics (file FILE:21): no such option; did you mean dev.topics or kafka.topics or overrides.topics?",
		"kafka.topics: empty",
	}
	for _, w := range want {
		require.Contains(t, got, w)
	}
	require.Len(t, strings.Split(got, "\n"), len(want), got)
}

func TestRuleWarnings(t *testing.T) {
	load := func(text string) []string {
		l, err := Load(Input{NeedTopics: true, File: tempFile(t, "wsd.yaml", text)})
		require.NoError(t, err)
		var lines []string
		for _, w := range l.Warnings {
			lines = append(lines, strings.ReplaceAll(w.String(), l.File, "FILE"))
		}
		return lines
	}
	for _, rules := range []string{
		"[{channel: a}]", "['a={key}', '{topic}']", "['re:a.*=x', '{topic}']", "[{match: {key: k}, channel: x}, '{topic}']",
		"[{match: {topic: a, headers: {h: x}}, channel: x}, {match: {topic: a, headers: {h: y}}, channel: y}]",
		"[{match: {topic: a, headers: {h: x, i: y}}, channel: x}, {match: {topic: a, headers: {h: x}}, channel: y}]",
		"['b2=x', 're:.*2=y']",
	} {
		require.Empty(t, load("kafka: {topics: [a, 're:b.*']}\nroutes: "+rules+"\n"), rules)
	}
	for rules, want := range map[string]string{
		"- '{topic}'\n- 'a={key}'":   "routes[1] = a={key} (file FILE:4): can never match: routes[0] decides for every record that it is for; move it before routes[0], or remove it",
		"- 'a={key}'\n- 'a={topic}'": "routes[1] = a={topic} (file FILE:4): can never match: routes[0] decides",
		"- 're:a.*=x'\n- 'a=y'":      "routes[1] = a=y (file FILE:4): can never match: routes[0] decides",
		"- {match: {headers: {h: x}}, channel: x}\n- {match: {topic: a, headers: {h: x}, key: k}, channel: y}": "(file FILE:4): can never match: routes[0] decides",
		"- topic: c\n  channel: x\n- '{topic}'":                               "routes[0].topic = c (file FILE:3): can never match: kafka.topics does not name such a topic",
		"- '{topic}.{key}'\n- {match: {topic: 're:c.*'}, channel: '{topic}'}": "routes[1]",
	} {
		lines := load("kafka: {topics: [a, 're:b.*']}\nroutes:\n" + rules + "\n")
		require.Len(t, lines, 1, rules)
		require.Contains(t, lines[0], want)
	}
	require.Len(t, load("kafka: {topics: [a]}\nroutes: ['re:c.*=x']\n"), 1)
	require.Contains(t, load("kafka: {topics: [a]}\noverrides: {enabled: true, topics: [b]}\n")[0], "overrides.topics = b (file FILE:2): kafka.topics does not name such a topic")
	l, err := Load(Input{Flags: map[string]any{"routes": []string{"trades={key}"}, "kafka.topics": []string{"a"}}})
	require.NoError(t, err)
	require.Empty(t, l.Warnings, "wsd dev reads topics of its own")
}
