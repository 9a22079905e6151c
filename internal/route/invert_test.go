package route

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func inverter(t testing.TB, topics []string, o *Overrides, rules ...Rule) (*Inverter, []NotInvertible) {
	t.Helper()
	table, err := New(rules, o)
	require.NoError(t, err)
	inv, faults, err := table.Invert(topics)
	require.NoError(t, err)
	return inv, faults
}

func TestInvert(t *testing.T) {
	inv, faults := inverter(t, []string{"chat", "users", "parts", "re:log-.*", "fixed"}, nil,
		Rule{Topic: "chat", Channel: "chat.{key}"}, Rule{Topic: "users", Key: "u1", Channel: "first"},
		Rule{Topic: "users", Channel: "{topic}:{key}"}, Rule{Topic: "parts", Channel: "p{partition}-{key}!"},
		Rule{Channel: "{topic}"})
	require.Empty(t, faults)
	for channel, want := range map[string]*Written{
		"chat.room":   {Topic: "chat", Partition: AnyPartition, Key: []byte("room")},
		"chat.a.b":    {Topic: "chat", Partition: AnyPartition, Key: []byte("a.b")},
		"chat.ü":      {Topic: "chat", Partition: AnyPartition, Key: []byte("ü")},
		"chat.":       nil,
		"chat":        nil, // An earlier rule takes all records of the topic.
		"first":       {Topic: "users", Partition: AnyPartition, Key: []byte("u1")},
		"users:u2":    {Topic: "users", Partition: AnyPartition, Key: []byte("u2")},
		"p3-k!":       {Topic: "parts", Partition: 3, Key: []byte("k")},
		"p03-k!":      nil,
		"p3-4-k!!":    {Topic: "parts", Partition: 3, Key: []byte("4-k!")},
		"p-1-k!":      nil,
		"p9999999999": nil,
		"log-x":       {Topic: "log-x", Partition: AnyPartition},
		"logs":        nil,
		"fixed":       {Topic: "fixed", Partition: AnyPartition},
		"other":       nil,
	} {
		w, ok := inv.Find(channel)
		require.Equal(t, want != nil, ok, channel)
		if want == nil {
			continue
		}
		require.Equal(t, *want, w, channel)
		require.True(t, inv.Goes(&w, &Record{Key: w.Key}, channel, &Placement{}), channel)
	}
	// An earlier rule decides for this key.
	w, ok := inv.Find("users:u1")
	require.True(t, ok)
	require.False(t, inv.Goes(&w, &Record{Key: w.Key}, "users:u1", &Placement{}))
	for topic, want := range map[string][]Names{
		"chat": {{"chat.", true}}, "users": {{"users:", true}, {"first", true}}, "log-9": {{"log-9", true}}, "fixed": {{"fixed", false}},
		"other": nil, "__log-9": nil,
	} {
		require.ElementsMatch(t, want, inv.Written(topic), topic)
	}
}

func TestInvertRefuses(t *testing.T) {
	for problem, rule := range map[string]Rule{
		"header or on the value": {Channel: "a.{header.x}"},
		"on the value":           {Channel: "a.{json.x}"},
		"nothing is between":     {Channel: "{partition}{key}"},
		"twice":                  {Channel: "{key}.{key}"},
		"match a pattern":        {Key: "re:x.*", Channel: "a"},
		"do not have":            {Channel: "a", Headers: []Condition{{Name: "x", Test: TestExists}}},
	} {
		_, faults := inverter(t, []string{"t"}, nil, rule)
		require.Len(t, faults, 1, problem)
		require.Contains(t, faults[0].Problem, problem)
		require.Equal(t, rule.Channel, faults[0].Channel)
	}
	for problem, channel := range map[string]string{"does not name it": "a", "several topics": "{topic}.{key}"} {
		_, faults := inverter(t, []string{"re:t.*"}, nil, Rule{Channel: channel})
		require.Len(t, faults, 1, problem)
		require.Contains(t, faults[0].Problem, problem)
	}
	o := &Overrides{Client: HeaderClient, ChannelsMax: 1}
	_, faults := inverter(t, []string{"t"}, o, Rule{Channel: "a"})
	require.Len(t, faults, 1)
	require.Contains(t, faults[0].Problem, "who published")
	inv, faults := inverter(t, []string{"a", "b"}, nil, Rule{Channel: "all.{key}"}, Rule{Topic: "c", Channel: "x"})
	require.Empty(t, faults)
	_, ok := inv.Find("all.k")
	require.False(t, ok, "two topics feed the channel")
}

// FuzzInvert: what is found for a channel goes there, if no earlier rule decides.
func FuzzInvert(f *testing.F) {
	f.Add("chat.{key}", "chat.a")
	f.Add("{topic}-{partition}/{key}", "t-1/k")
	f.Add("{key}.{partition}", "a.1.2")
	f.Fuzz(func(t *testing.T, template, channel string) {
		if len(channel) > ChannelBytesMax || strings.Contains(template, "{json") {
			return
		}
		table, err := New([]Rule{{Channel: template}}, nil)
		if err != nil {
			return
		}
		inv, faults, err := table.Invert([]string{"t"})
		require.NoError(t, err)
		w, ok := inv.Find(channel)
		if !ok {
			return
		}
		require.Empty(t, faults)
		require.True(t, inv.Goes(&w, &Record{Key: w.Key}, channel, &Placement{}), "%q %q %+v", template, channel, w)
	})
}
