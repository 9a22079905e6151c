package route

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func headers(pairs ...string) Headers {
	var list [][2]string
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, [2]string{pairs[i], pairs[i+1]})
	}
	return AppendHeaders(nil, list...)
}

// mustTopic returns the rules as they apply to a topic.
func mustTopic(t testing.TB, topic string, rules ...Rule) *Topic {
	t.Helper()
	table, err := New(rules, nil)
	require.NoError(t, err)
	return table.Topic(topic)
}

// place returns where a record goes, with a placement that it shares with no other.
func place(topic *Topic, partition int32, rec Record) Placement {
	var p Placement
	topic.Place(&p, partition, &rec)
	return p
}

func TestTemplateErrors(t *testing.T) {
	for channel, want := range map[string]string{
		"":                       "the channel is empty",
		"{json.}":                "not a path",
		"{json.a..b}":            "an empty name",
		"a{":                     "the { at byte 1 is not closed",
		"a{topic":                "the { at byte 1 is not closed",
		"a}b":                    "the } at byte 1 has no {",
		"{topic}}":               "the } at byte 7 has no {",
		"{}":                     "unknown placeholder {}",
		"{user}":                 "unknown placeholder {user}",
		"{Topic}":                "unknown placeholder {Topic}",
		"{header.}":              "unknown placeholder {header.}",
		"{a{topic}}":             "unknown placeholder {a{topic}",
		"\xff":                   "not valid UTF-8",
		strings.Repeat("x", 256): "256 bytes of text",
	} {
		_, err := New([]Rule{{Channel: "{topic}"}, {Channel: channel}}, nil)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "routes[1].channel")
	}
}

func TestTemplateRender(t *testing.T) {
	rec := Record{Key: []byte("k1"), Headers: headers("h", "old", "user", "ann", "h", "new", "empty", "")}
	for channel, want := range map[string]string{
		"{topic}":                          "trades",
		"plain":                            "plain",
		"{topic}:{key}":                    "trades:k1",
		"{partition}/{key}/{partition}":    "12/k1/12",
		"u-{header.user}":                  "u-ann",
		"{header.h}":                       "new", // The last of several with one name.
		"é{key}":                           "ék1",
		strings.Repeat("x", 253) + "{key}": strings.Repeat("x", 253) + "k1",
	} {
		topic := mustTopic(t, "trades", Rule{Channel: channel})
		p := place(topic, 12, rec)
		require.Equal(t, Placed, p.Why, channel)
		require.Equal(t, 0, p.Rule)
		require.Equal(t, [][]byte{[]byte(want)}, p.Channels)
		require.True(t, topic.CanName(12, want), channel)
		require.True(t, topic.CanName(AnyPartition, want), channel)
	}
}

func TestTemplateUnplaced(t *testing.T) {
	for _, c := range []struct {
		channel string
		rec     Record
		want    Unplaced
	}{
		{"{key}", Record{}, UnplacedMissing},
		{"{key}", Record{Key: []byte{}}, UnplacedMissing},
		{"{key}", Record{Key: []byte("a\xffb")}, UnplacedText},
		{"{key}", Record{Key: []byte(strings.Repeat("k", 256))}, UnplacedLength},
		{"x{key}", Record{Key: []byte(strings.Repeat("k", 255))}, UnplacedLength},
		{"{key}{topic}", Record{Key: []byte(strings.Repeat("k", 255))}, UnplacedLength},
		{"{header.h}", Record{}, UnplacedMissing},
		{"{header.h}", Record{Headers: headers("g", "1")}, UnplacedMissing},
		{"{header.h}", Record{Headers: headers("h", "")}, UnplacedMissing},
		{"{header.h}", Record{Headers: headers("h", "\xff")}, UnplacedText},
		{"{header.h}", Record{Headers: []byte{2, 200}}, UnplacedMissing}, // Malformed.
	} {
		p := place(mustTopic(t, "t", Rule{Channel: c.channel}), 0, c.rec)
		require.Equal(t, c.want, p.Why, "%+v", c)
		require.Empty(t, p.Channels, "%+v", c)
	}
}

func TestFirstRuleWins(t *testing.T) {
	rules := []Rule{{Topic: "a", Channel: "one"}, {Channel: "two"}, {Topic: "b", Channel: "three"}}
	require.Equal(t, 0, place(mustTopic(t, "a", rules...), 0, Record{}).Rule)
	require.Equal(t, 1, place(mustTopic(t, "b", rules...), 0, Record{}).Rule)
	p := place(mustTopic(t, "b", rules[:1]...), 0, Record{})
	require.Equal(t, UnplacedNoRoute, p.Why)
	require.Equal(t, -1, p.Rule)
}

func TestNoRules(t *testing.T) {
	require.Equal(t, [][]byte{[]byte("a")}, place(mustTopic(t, "a"), 3, Record{}).Channels)
}

// A placement that was used before says nothing of it.
func TestPlacementReused(t *testing.T) {
	var p Placement
	topic := mustTopic(t, "t", Rule{Channel: "{key}"})
	topic.Place(&p, 0, &Record{Key: []byte("a")})
	require.Equal(t, [][]byte{[]byte("a")}, p.Channels)
	topic.Place(&p, 0, &Record{})
	require.Empty(t, p.Channels)
	require.Equal(t, UnplacedMissing, p.Why)
	topic.Place(&p, 0, &Record{Key: []byte("bc")})
	require.Equal(t, [][]byte{[]byte("bc")}, p.Channels)
	require.Equal(t, Placed, p.Why)
}

func TestNames(t *testing.T) {
	fixed := mustTopic(t, "t", Rule{Channel: "{topic}.{partition}"})
	require.Equal(t, "t.4", string(fixed.Always(4)))
	require.Equal(t, [][]byte{[]byte("t.4")}, fixed.Fixed(4))
	require.False(t, fixed.Open())
	require.True(t, fixed.CanName(4, "t.4"))
	require.False(t, fixed.CanName(5, "t.4"))
	require.True(t, fixed.CanName(AnyPartition, "t.4"))
	require.False(t, fixed.CanFill("t.4"))

	open := mustTopic(t, "t", Rule{Channel: "{topic}.{key}.{partition}-{header.h}"})
	require.Nil(t, open.Always(4))
	require.Empty(t, open.Fixed(4))
	require.True(t, open.Open())
	for channel, want := range map[string]bool{
		"t.k.4-x": true, "t.k.4-4-": true, "t.a.4-b.4-c": true, "t..4-x": false, "t.k.4-": false, "t.k.5-x": false, "u.k.4-x": false, "": false,
		"t.": false, "t.k": false, "t.k.4": false, "t.k.5-a.4-x": true,
	} {
		require.Equal(t, want, open.CanName(4, channel), channel)
	}
	require.True(t, open.CanFill("t.k.5-x"))

	long := mustTopic(t, strings.Repeat("t", 249), Rule{Channel: "1234567{topic}"})
	require.Nil(t, long.Always(0))
	require.Empty(t, long.Fixed(0))
	require.Equal(t, UnplacedLength, place(long, 0, Record{}).Why)
	none := mustTopic(t, "b", Rule{Topic: "a", Channel: "x"})
	require.Nil(t, none.Always(0))
	require.False(t, none.CanName(AnyPartition, "x"))
}

func TestPlaceAllocatesNothing(t *testing.T) {
	topic := mustTopic(t, "topic", Rule{Channel: "{topic}:{key}:{header.user}:{partition}"})
	rec := Record{Key: []byte("k1"), Headers: headers("h", "old", "user", "ann")}
	var p Placement
	require.Zero(t, testing.AllocsPerRun(100, func() { topic.Place(&p, 3, &rec) }))
	rec.Key = []byte(strings.Repeat("k", 300))
	require.Zero(t, testing.AllocsPerRun(100, func() { topic.Place(&p, 3, &rec) }))
}

func BenchmarkPlace(b *testing.B) {
	rec := Record{Key: []byte("AAPL.US"), Headers: headers("h", "old", "user", "ann")}
	for _, channel := range []string{"{topic}", "{key}", "{topic}:{key}:{header.user}"} {
		b.Run(channel, func(b *testing.B) {
			topic := mustTopic(b, "trades", Rule{Channel: channel})
			var p Placement
			b.ReportAllocs()
			for b.Loop() {
				topic.Place(&p, 3, &rec)
			}
		})
	}
}

// Whatever a record holds, its channel has a possible length, and the names that are said to be possible include it.
func FuzzPlace(f *testing.F) {
	f.Add("{topic}:{key}", []byte("k"), []byte{2, 2, 'h', 2, 'v'})
	f.Add("{header.h}{partition}", []byte(nil), []byte{})
	f.Fuzz(func(t *testing.T, channel string, key, headers []byte) {
		table, err := New([]Rule{{Channel: channel}}, nil)
		if err != nil {
			return
		}
		topic := table.Topic("t")
		p := place(topic, 7, Record{Key: key, Headers: headers})
		for _, name := range p.Channels {
			if len(name) == 0 || len(name) > ChannelBytesMax {
				t.Fatalf("channel of %d bytes", len(name))
			}
			if !topic.CanName(7, string(name)) || !topic.CanName(AnyPartition, string(name)) {
				t.Fatalf("%q is said to be no name of %q", name, channel)
			}
		}
	})
}

// A name that gjson had to repair is not a name.
func TestLossyField(t *testing.T) {
	table, err := New([]Rule{{Channel: "user.{json.id}"}}, nil)
	require.NoError(t, err)
	topic := table.Topic("t")
	for value, why := range map[string]Unplaced{
		`{"id":"a"}`: Placed, `{"id":"\ud834\udd1e"}`: Placed, `{"id":"\ufffd"}`: Placed, `{"id":"a","other":"\ud800"}`: Placed,
		`{"id":"\ud800"}`: UnplacedText, `{"id":"x\udc00"}`: UnplacedText, "{\"id\":\"\xff\"}": UnplacedText,
	} {
		var p Placement
		topic.Place(&p, 0, &Record{Value: []byte(value)})
		require.Equal(t, why, p.Why, value)
	}
}
