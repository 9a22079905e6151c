package route

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
)

// The first rule of which every condition holds decides.
func TestConditions(t *testing.T) {
	is := func(name, value string) []Condition { return []Condition{{Name: name, Value: value}} }
	test := func(name string, what Test, value string) []Condition {
		return []Condition{{Name: name, Test: what, Value: value}}
	}
	rec := Record{
		Key:     []byte("eu-7"),
		Value:   []byte(` {"status":"open","n":3,"big":12345678901234567890,"ok":true,"no":null,"user":{"id":"u\"1","tags":["a","b"]},"odd.name":1,"a":"x"} `),
		Headers: AppendHeaders(nil, [2]string{"kind", "order"}, [2]string{"empty", ""}),
	}
	for i, c := range []struct {
		rule Rule
		fits bool
	}{
		{Rule{Topic: "orders"}, true},
		{Rule{Topic: "order"}, false},
		{Rule{Topic: "re:ord.*"}, true},
		{Rule{Topic: "re:ord"}, false}, // The whole name.
		{Rule{Topic: "re:x|orders"}, true},
		{Rule{Key: "eu-7"}, true},
		{Rule{Key: "eu-"}, false},
		{Rule{Key: "re:eu-[0-9]+"}, true},
		{Rule{Key: "re:[0-9]+"}, false},
		{Rule{Headers: is("kind", "order")}, true},
		{Rule{Headers: is("kind", "re:or.*r")}, true},
		{Rule{Headers: is("kind", "other")}, false},
		{Rule{Headers: is("none", "re:.*")}, false},
		{Rule{Headers: is("empty", "")}, true},
		{Rule{Headers: test("empty", TestExists, "")}, true},
		{Rule{Headers: test("none", TestExists, "")}, false},
		{Rule{Headers: test("none", TestAbsent, "")}, true},
		{Rule{Headers: test("kind", TestAbsent, "")}, false},
		{Rule{Fields: is("status", "open")}, true},
		{Rule{Fields: is("status", "re:o.*")}, true},
		{Rule{Fields: is("status", "clos")}, false},
		{Rule{Fields: is("n", "3")}, false}, // A number is no text.
		{Rule{Fields: test("n", TestNumber, "3")}, true},
		{Rule{Fields: test("n", TestNumber, "3.0")}, true},
		{Rule{Fields: test("n", TestNumber, "4")}, false},
		{Rule{Fields: test("big", TestNumber, "12345678901234567890")}, true},
		{Rule{Fields: test("status", TestNumber, "0")}, false},
		{Rule{Fields: test("ok", TestBool, "true")}, true},
		{Rule{Fields: test("ok", TestBool, "false")}, false},
		{Rule{Fields: test("none", TestBool, "false")}, false},
		{Rule{Fields: test("n", TestBool, "true")}, false},
		{Rule{Fields: test("no", TestExists, "")}, true},
		{Rule{Fields: test("none", TestExists, "")}, false},
		{Rule{Fields: test("none", TestAbsent, "")}, true},
		{Rule{Fields: is("user.id", `u"1`)}, true},
		{Rule{Fields: is("user.tags.1", "b")}, true},
		{Rule{Fields: test("user.tags.#", TestExists, "")}, false}, // gjson's queries mean nothing here.
		{Rule{Fields: test("*", TestExists, "")}, false},
		{Rule{Fields: test("@this", TestExists, "")}, false},
		{Rule{Fields: test("!1", TestExists, "")}, false},
		{Rule{Fields: test("a|b", TestExists, "")}, false},
		{Rule{Key: "eu-7", Headers: is("kind", "order"), Fields: is("status", "open")}, true},
		{Rule{Key: "eu-7", Headers: is("kind", "order"), Fields: is("status", "shut")}, false},
		{Rule{Topic: "orders", Key: "eu-8", Fields: is("status", "open")}, false},
	} {
		c.rule.Channel = "first"
		p := place(mustTopic(t, "orders", c.rule, Rule{Channel: "second"}), 0, rec)
		want := "second"
		if c.fits {
			want = "first"
		}
		require.Equal(t, [][]byte{[]byte(want)}, p.Channels, "case %d: %+v", i, c.rule)
		require.Equal(t, ByRule, p.By())
	}
	keyed := mustTopic(t, "orders", Rule{Key: "re:.*", Channel: "x"})
	require.Equal(t, ToChannels, place(keyed, 0, Record{Key: []byte{}}).To)
	require.Equal(t, UnplacedNoRoute, place(keyed, 0, Record{}).Why, "no key is not an empty one")
}

func TestFieldPlaceholder(t *testing.T) {
	for value, want := range map[string]any{
		`{"a":{"b":"x"}}`:          "c.x",
		`{"a":{"b":12.50}}`:        "c.12.50",
		`{"a":{"b":true}}`:         "c.true",
		`{"a":{"b":"é\u00e9"}}`:    "c.éé",
		`{"a":{"b":""}}`:           UnplacedMissing,
		`{"a":{"b":null}}`:         UnplacedMissing,
		`{"a":{"b":{}}}`:           UnplacedMissing,
		`{"a":{"b":[1]}}`:          UnplacedMissing,
		`{"a":1}`:                  UnplacedMissing,
		`text {"a":{"b":"x"}}`:     UnplacedMissing,
		`"text"`:                   UnplacedMissing,
		``:                         UnplacedMissing,
		"{\"a\":{\"b\":\"\xff\"}}": UnplacedText,
		`{"a":{"b":"` + strings.Repeat("x", 254) + `"}}`: UnplacedLength,
	} {
		p := place(mustTopic(t, "t", Rule{Channel: "c.{json.a.b}"}), 0, Record{Value: []byte(value)})
		if why, ok := want.(Unplaced); ok {
			require.Equal(t, why, p.Why, value)
			require.Equal(t, ToNobody, p.To, value)
			continue
		}
		require.Equal(t, []byte(want.(string)), p.Channels[0], value)
	}
}

func TestDropAndOnError(t *testing.T) {
	p := place(mustTopic(t, "t", Rule{Drop: true}), 0, Record{})
	require.Equal(t, ToDrop, p.To)
	require.Equal(t, Placed, p.Why)
	require.Equal(t, 0, p.Rule)

	p = place(mustTopic(t, "t", Rule{Channel: "{key}", OnError: OnError{Action: ErrorChannel, Channel: "lost"}}), 0, Record{})
	require.Equal(t, ToChannels, p.To)
	require.Equal(t, UnplacedMissing, p.Why)
	require.Equal(t, "lost", string(p.Channels[0]))

	topic := mustTopic(t, "t", Rule{Channel: "{key}", OnError: OnError{Action: ErrorStop}})
	p = place(topic, 0, Record{})
	require.Equal(t, ToStop, p.To)
	require.Equal(t, UnplacedMissing, p.Why)
	require.Equal(t, ToChannels, place(topic, 0, Record{Key: []byte("k")}).To)
}

func mustOverride(t testing.TB, o Overrides) *Topic {
	t.Helper()
	if o.ChannelsMax == 0 {
		o.ChannelsMax = 3
	}
	table, err := New(nil, &o)
	require.NoError(t, err)
	return table.Topic("t")
}

var allHeaders = Overrides{Channels: "wsd-channels", Client: "wsd-client", User: "wsd-user", Everybody: "wsd-broadcast"}

func TestOverrides(t *testing.T) {
	topic := mustOverride(t, allHeaders)
	client := routing.NewClientIDs([16]byte{}).Of(routing.MakeConnID(3, 2, 1))
	id := string(client.Append(nil))
	for _, c := range []struct {
		headers  []string
		to       Target
		why      Unplaced
		channels string
	}{
		{nil, ToChannels, Placed, "t"},
		{[]string{"other", "x"}, ToChannels, Placed, "t"},
		{[]string{"wsd-channels", "a"}, ToChannels, Placed, "a"},
		{[]string{"wsd-channels", " a , b,a", "wsd-channels", "c"}, ToChannels, Placed, "a b c"},
		{[]string{"wsd-channels", "a,b,c,d"}, ToNobody, UnplacedHeader, ""},
		{[]string{"wsd-channels", "a,,b"}, ToNobody, UnplacedMissing, ""},
		{[]string{"wsd-channels", ""}, ToNobody, UnplacedMissing, ""},
		{[]string{"wsd-channels", "a,\xff"}, ToNobody, UnplacedText, ""},
		{[]string{"wsd-channels", strings.Repeat("x", 256)}, ToNobody, UnplacedLength, ""},
		{[]string{"wsd-client", id}, ToConnection, Placed, ""},
		{[]string{"wsd-client", id[1:]}, ToNobody, UnplacedHeader, ""},
		{[]string{"wsd-client", strings.ToUpper(id)}, ToNobody, UnplacedHeader, ""},
		{[]string{"wsd-client", "g" + id[1:]}, ToNobody, UnplacedHeader, ""},
		{[]string{"wsd-user", "ann"}, ToUser, Placed, ""},
		{[]string{"wsd-user", ""}, ToNobody, UnplacedMissing, ""},
		{[]string{"wsd-user", "\xff"}, ToNobody, UnplacedText, ""},
		{[]string{"wsd-broadcast", "true"}, ToEverybody, Placed, ""},
		{[]string{"wsd-broadcast", "1"}, ToEverybody, Placed, ""},
		{[]string{"wsd-broadcast", "false"}, ToChannels, Placed, "t"},
		{[]string{"wsd-broadcast", "yes"}, ToNobody, UnplacedHeader, ""},
		// The narrowest counts.
		{[]string{"wsd-broadcast", "true", "wsd-channels", "a", "wsd-user", "ann", "wsd-client", id}, ToConnection, Placed, ""},
		{[]string{"wsd-broadcast", "true", "wsd-channels", "a", "wsd-user", "ann"}, ToUser, Placed, ""},
		{[]string{"wsd-broadcast", "true", "wsd-channels", "a"}, ToChannels, Placed, "a"},
	} {
		p := place(topic, 0, Record{Headers: headers(c.headers...)})
		require.Equal(t, c.to, p.To, c.headers)
		require.Equal(t, c.why, p.Why, c.headers)
		var names []string
		for _, name := range p.Channels {
			names = append(names, string(name))
		}
		require.Equal(t, c.channels, strings.Join(names, " "), c.headers)
		switch c.to {
		case ToConnection:
			require.Equal(t, client, p.Client)
			require.Equal(t, ByConnection, p.By())
		case ToUser:
			require.Equal(t, "ann", string(p.User))
			require.Equal(t, ByUser, p.By())
		case ToEverybody:
			require.Equal(t, ByEverybody, p.By())
		case ToChannels:
			require.Equal(t, p.Rule < 0, p.By() == ByChannels)
		default:
		}
	}
	// Many long names move the scratch, and none is lost.
	var list []string
	for i := range 200 {
		list = append(list, fmt.Sprintf("%0200d", i))
	}
	many := allHeaders
	many.ChannelsMax = 200
	p := place(mustOverride(t, many), 0, Record{Headers: headers("wsd-channels", strings.Join(list, ","))})
	require.Len(t, p.Channels, 200)
	for i := range list {
		require.Equal(t, list[i], string(p.Channels[i]))
	}
}

// Only the topics that are named are believed, and only headers that are switched on.
func TestOverridesLimited(t *testing.T) {
	o := Overrides{Topics: []string{"re:in-.*"}, User: "u", ChannelsMax: 1}
	table, err := New(nil, &o)
	require.NoError(t, err)
	rec := Record{Headers: headers("u", "ann", "wsd-client", "x", "", "y")}
	require.Equal(t, ToUser, place(table.Topic("in-a"), 0, rec).To)
	require.Equal(t, ToChannels, place(table.Topic("out"), 0, rec).To)
	require.Equal(t, ToChannels, place(table.Topic("in-a"), 0, Record{Headers: headers("", "y")}).To)
	require.Nil(t, table.Topic("in-a").Always(0))
	require.False(t, table.Topic("in-a").Open(), "no header names channels")
	require.True(t, mustOverride(t, allHeaders).Open())
	require.True(t, mustOverride(t, allHeaders).CanFill("whatever"))
	require.True(t, mustOverride(t, allHeaders).CanName(0, "whatever"))
}

// What rules and overrides may have to walk over is bounded. A record with more headers goes nowhere, and where nobody
// looks at headers it goes where it always does.
func TestHeadersAreLimited(t *testing.T) {
	pairs := func(n int) (list []string) {
		for range n - 1 {
			list = append(list, "", "")
		}
		return append(list, "h", "v")
	}
	few, many := Record{Headers: headers(pairs(headersMax)...)}, Record{Headers: headers(pairs(headersMax + 1)...)}
	rules := map[string][]Rule{
		"condition": {{Headers: []Condition{{Name: "h", Test: TestExists}}, Channel: "found"}, {Channel: "else"}},
		"template":  {{Channel: "{header.h}"}},
	}
	for name, list := range rules {
		topic := mustTopic(t, "t", list...)
		require.Equal(t, ToChannels, place(topic, 0, few).To, name)
		got := place(topic, 0, many)
		require.Equal(t, ToNobody, got.To, name)
		require.Equal(t, UnplacedHeader, got.Why, name)
	}
	table, err := New(nil, &Overrides{User: "h", ChannelsMax: 1})
	require.NoError(t, err)
	require.Equal(t, ToUser, place(table.Topic("t"), 0, few).To)
	require.Equal(t, UnplacedHeader, place(table.Topic("t"), 0, many).Why)
	require.Equal(t, ToChannels, place(mustTopic(t, "t", Rule{Channel: "{topic}"}), 0, many).To)
}

func TestNamesOfSeveralRules(t *testing.T) {
	topic := mustTopic(t, "t",
		Rule{Key: "a", Channel: "x.{partition}"},
		Rule{Headers: []Condition{{Name: "h", Test: TestExists}}, Drop: true},
		Rule{Topic: "other", Channel: "o"},
		Rule{Key: "b", Channel: "k.{json.f}", OnError: OnError{Action: ErrorChannel, Channel: "lost"}},
		Rule{Channel: "{topic}"},
		Rule{Channel: "never"})
	require.Nil(t, topic.Always(1))
	require.Equal(t, [][]byte{[]byte("x.1"), []byte("lost"), []byte("t")}, topic.Fixed(1))
	require.True(t, topic.Open())
	for channel, want := range map[string]bool{"x.1": true, "x.2": false, "lost": true, "t": true, "k.f": true, "k.": false, "never": false, "o": false, "": false} {
		require.Equal(t, want, topic.CanName(1, channel), channel)
	}
	require.True(t, topic.CanFill("k.f"))
	open := mustTopic(t, "t", Rule{Channel: "{key}"})
	require.False(t, open.CanFill(routing.Everybody), "no record can name what only the server may")
	require.False(t, open.CanName(AnyPartition, routing.Everybody))
	require.False(t, topic.CanFill("t"))
}

func TestRuleErrors(t *testing.T) {
	many := make([]Condition, 17)
	for i := range many {
		many[i] = Condition{Name: fmt.Sprint("h", i), Test: TestExists}
	}
	for want, r := range map[string]Rule{
		`routes[1].topic "a b": not a topic's name`:                                           {Topic: "a b", Channel: "x"},
		`routes[1].topic "re:(": not a regular expression of RE2: missing closing )`:          {Topic: "re:(", Channel: "x"},
		`routes[1].key "re:a)(b": not a regular expression`:                                   {Key: "re:a)(b", Channel: "x"},
		`routes[1].key "re:": re: without an expression`:                                      {Key: "re:", Channel: "x"},
		`routes[1].key "re:(a{1,500}){2}": the expression has`:                                {Key: "re:(a{1,500}){2}", Channel: "x"},
		`routes[1].key "re:(?=a)": not a regular expression`:                                  {Key: "re:(?=a)", Channel: "x"},
		`routes[1]: the rule has conditions on 17 headers and JSON fields, at most 16`:        {Headers: many, Channel: "x"},
		`routes[1].headers: not a header's name`:                                              {Headers: []Condition{{}}, Channel: "x"},
		`routes[1].headers.h "5": a header's value must be a text; put quotes around it`:      {Headers: []Condition{{"h", TestNumber, "5"}}, Channel: "x"},
		`routes[1].json ".": the path of the JSON field has an empty name`:                    {Fields: []Condition{{Name: "."}}, Channel: "x"},
		`routes[1].json.n "x": not a JSON number`:                                             {Fields: []Condition{{"n", TestNumber, "x"}}, Channel: "x"},
		`routes[1].channel: the channel is empty; write a template`:                           {Topic: "a"},
		`routes[1].channel "x": a rule that drops its records cannot have a channel`:          {Channel: "x", Drop: true},
		`routes[1].on_error: a rule that drops its records cannot have on_error`:              {Drop: true, OnError: OnError{Action: ErrorStop}},
		`routes[1].on_error.channel: the channel is empty`:                                    {Channel: "x", OnError: OnError{Action: ErrorChannel}},
		`routes[1].on_error.channel "{key}": a template could fail again`:                     {Channel: "x", OnError: OnError{Action: ErrorChannel, Channel: "{key}"}},
		`routes[1].on_error.channel "` + strings.Repeat("x", 256) + `": not a channel's name`: {Channel: "x", OnError: OnError{Action: ErrorChannel, Channel: strings.Repeat("x", 256)}},
	} {
		_, err := New([]Rule{{Key: "k", Channel: "y"}, r}, nil)
		require.ErrorContains(t, err, want)
		var fault *Fault
		require.ErrorAs(t, err, &fault)
	}
	_, err := New(make([]Rule, RulesMax+1), nil)
	require.ErrorContains(t, err, "257 rules, at most 256")
	fields := make([]Rule, fieldsMax+1)
	for i := range fields {
		fields[i].Channel = fmt.Sprintf("{json.f%d}", i)
	}
	_, err = New(fields, nil)
	require.ErrorContains(t, err, "routes[64].channel \"f64\": the rules read more than 64 different JSON fields")
	for want, o := range map[string]Overrides{
		"overrides.channels_max \"0\": it must be from 1 to 256":                                {User: "u"},
		"overrides: overrides are enabled, but every header is switched off":                    {ChannelsMax: 1},
		"overrides.user \"u\": the header is also that of overrides.channels; name another one": {Channels: "u", User: "u", ChannelsMax: 1},
		"overrides.topics \"a b\": not a topic's name":                                          {User: "u", ChannelsMax: 1, Topics: []string{"a b"}},
		"overrides.user \"\\xff\": not a header's name":                                         {User: "\xff", ChannelsMax: 1},
	} {
		_, err := New(nil, &o)
		require.ErrorContains(t, err, want)
	}
}

// Two rules that ask for one field look it up once, and nothing is kept of a record.
func TestFieldsOfOneRecord(t *testing.T) {
	topic := mustTopic(t, "t",
		Rule{Fields: []Condition{{Name: "type", Value: "a"}}, Channel: "1"},
		Rule{Fields: []Condition{{Name: "type", Value: "b"}}, Channel: "{json.type}.{json.id}"})
	var p Placement
	topic.Place(&p, 0, &Record{Value: []byte(`{"type":"b","id":5}`)})
	require.Equal(t, "b.5", string(p.Channels[0]))
	for i := range p.fields {
		require.Zero(t, p.fields[i])
	}
	topic.Place(&p, 0, &Record{Value: []byte(`{"type":"a"}`)})
	require.Equal(t, "1", string(p.Channels[0]))
	topic.Place(&p, 0, &Record{Value: []byte(`{}`)})
	require.Equal(t, UnplacedNoRoute, p.Why)
}

func TestRulesAllocateNothing(t *testing.T) {
	o := allHeaders
	o.ChannelsMax = 8
	table, err := New([]Rule{
		{Key: "re:x.*", Channel: "x"},
		{Headers: []Condition{{Name: "h", Value: "re:n.w"}}, Fields: []Condition{{Name: "type", Value: "b"}}, Channel: "{json.user.id}:{json.n}"},
		{Channel: "{key}", OnError: OnError{Action: ErrorChannel, Channel: "lost"}},
	}, &o)
	require.NoError(t, err)
	topic := table.Topic("t")
	var p Placement
	id := string(routing.ClientID{77}.Append(nil))
	for _, rec := range []Record{
		{Key: []byte("k"), Value: []byte(`{"type":"b","user":{"id":"ann"},"n":3}`), Headers: headers("h", "new")},
		{Key: []byte("k"), Value: []byte(`{"type":"c"}`), Headers: headers("h", "new")},
		{},
		{Headers: headers("wsd-channels", "a,b,c")},
		{Headers: headers("wsd-user", "ann")},
		{Headers: headers("wsd-client", id)},
		{Headers: headers("wsd-broadcast", "true")},
	} {
		topic.Place(&p, 0, &rec)
		require.Zero(t, testing.AllocsPerRun(100, func() { topic.Place(&p, 3, &rec) }), "%+v", p)
	}
}

func BenchmarkRules(b *testing.B) {
	value := `{"pad":"` + strings.Repeat("x", 500) + `","type":"b","user":{"id":"ann"},"n":3}`
	rec := Record{Key: []byte("eu-7"), Value: []byte(value), Headers: headers("h", "new", "user", "ann")}
	for _, c := range []struct {
		name  string
		rules []Rule
	}{
		{"key", []Rule{{Channel: "{key}"}}},
		{"key pattern", []Rule{{Key: "re:eu-[0-9]+", Channel: "{key}"}}},
		{"header", []Rule{{Headers: []Condition{{Name: "h", Value: "new"}}, Channel: "{key}"}}},
		{"field", []Rule{{Channel: "{json.user.id}"}}},
		{"ten rules on one field", append(tenOn("type"), Rule{Channel: "{key}"})},
	} {
		b.Run(c.name, func(b *testing.B) {
			topic := mustTopic(b, "trades", c.rules...)
			var p Placement
			b.ReportAllocs()
			for b.Loop() {
				topic.Place(&p, 3, &rec)
			}
		})
	}
}

// BenchmarkWorstPattern is a pattern of nearly the most steps on a key of the most bytes: its time per byte is the
// price of an expression.
func BenchmarkWorstPattern(b *testing.B) {
	topic := mustTopic(b, "t", Rule{Key: "re:(.*a){1,45}b", Channel: "x"})
	rec := Record{Key: []byte(strings.Repeat("a", matchedTextMax))}
	var p Placement
	for b.Loop() {
		topic.Place(&p, 0, &rec)
	}
}

func tenOn(field string) (rules []Rule) {
	for i := range 10 {
		rules = append(rules, Rule{Fields: []Condition{{Name: field, Value: fmt.Sprint("v", i)}}, Channel: "x"})
	}
	return rules
}

// Whatever conditions and values hold, placing returns and yields possible names.
func FuzzRules(f *testing.F) {
	f.Add("a.b", "re:x.*", []byte("k"), []byte(`{"a":{"b":"x"}}`), []byte{2, 2, 'h', 2, 'v'})
	f.Add("#", "", []byte(nil), []byte(`[1,2]`), []byte{2, 24, 'w', 's', 'd', '-', 'c', 'h', 'a', 'n', 'n', 'e', 'l', 's', 6, 'a', ',', 'b'})
	f.Fuzz(func(t *testing.T, path, text string, key, value, headers []byte) {
		o := allHeaders
		o.ChannelsMax = 2
		table, err := New([]Rule{{Key: text, Fields: []Condition{{Name: path, Value: text}}, Channel: "{json.a}"}, {Channel: "{json." + path + "}"}}, &o)
		if err != nil {
			return
		}
		topic := table.Topic("t")
		p := place(topic, 7, Record{Key: key, Value: value, Headers: headers})
		if len(p.Channels) > 2 || (p.To == ToChannels) != (len(p.Channels) > 0) {
			t.Fatalf("%+v", p)
		}
		for _, name := range p.Channels {
			if len(name) == 0 || len(name) > ChannelBytesMax || !topic.CanName(7, string(name)) {
				t.Fatalf("channel %q", name)
			}
		}
	})
}

// A channel has one key only if nothing else can put a record into it.
func TestKey(t *testing.T) {
	keyed := Rule{Channel: "k.{key}", Partitioner: PartitionerCRC32}
	key, by, ok := mustTopic(t, "t", Rule{Key: "x", Drop: true}, keyed).Key("k.a")
	require.True(t, ok)
	require.Equal(t, "a", key)
	require.Equal(t, PartitionerCRC32, by)
	for name, rules := range map[string][]Rule{
		"fallback":   {{Key: "x", Channel: "{json.f}", OnError: OnError{Action: ErrorChannel, Channel: "k.a"}}, keyed},
		"field":      {{Key: "x", Channel: "k.{json.f}"}, keyed},
		"fixed":      {{Key: "x", Channel: "k.a"}, keyed},
		"other key":  {{Key: "x", Channel: "{key}", Partitioner: PartitionerCRC32}, keyed},
		"none":       {{Channel: "x.{key}"}},
		"only drops": {{Drop: true}},
	} {
		_, _, ok := mustTopic(t, "t", rules...).Key("k.a")
		require.False(t, ok, name)
	}
	o := allHeaders
	o.ChannelsMax = 1
	table, err := New([]Rule{keyed}, &o)
	require.NoError(t, err)
	_, _, ok = table.Topic("t").Key("k.a")
	require.False(t, ok, "a header may name it")
}
