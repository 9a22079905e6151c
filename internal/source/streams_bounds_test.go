package source

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/route"
)

// openTopics returns topics whose channels a template names.
func openTopics(t testing.TB, names []string, templates ...string) (list []*topic) {
	t.Helper()
	s := &Source{}
	for i, name := range names {
		var rules []Route
		template := templates[i%len(templates)]
		rules = append(rules, Route{Channel: template})
		table, err := route.New(rules, nil)
		require.NoError(t, err)
		tp := &topic{name: name, route: table.Topic(name), id: [16]byte{byte(i), byte(i >> 8)}}
		p := s.newPartition(tp, 0, Start{})
		p.routed.Store(5)
		tp.parts = append(tp.parts, p)
		list = append(list, tp)
	}
	return list
}

// looked returns how many topics a look for the channel has to ask.
func (t *streams) looked(channel string) (n int) {
	for _, length := range t.lengths {
		if length <= len(channel) {
			n += len(t.feeds[channel[:length]])
		}
	}
	return n
}

// A look for a channel asks only the topics whose channels begin like it, and finds what asking all of them would.
func TestStreamsAreFoundByPrefix(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, templates := range [][]string{
		{"{topic}:{key}"}, {"{key}", "{topic}.{key}"}, {"x.{topic}.{key}.{partition}", "x.{key}", "{topic}{key}"}, {"{header.h}.{topic}"},
	} {
		var names []string
		for range 40 {
			names = append(names, fmt.Sprint("t", random.IntN(1000)))
		}
		topics := openTopics(t, names, templates...)
		list := buildStreams(topics)
		for range 3000 {
			channel := fmt.Sprintf("%s%s%st%d%s", []string{"", "x."}[random.IntN(2)], []string{"", "k."}[random.IntN(2)],
				[]string{"", "."}[random.IntN(2)], random.IntN(1000), []string{"", ":k", ".k", ".k.0"}[random.IntN(4)])
			var want *Stream
			several := false
			for i, tp := range topics {
				if tp.route.CanFill(channel) {
					several = several || want != nil
					want = topics[i].parts[0].streamOf(1)
				}
			}
			got, ok := list.find(channel, false)
			require.Equal(t, want != nil && !several, ok, channel)
			if ok {
				require.Same(t, want, got, channel)
			}
		}
	}
}

// With 10,000 topics a subscribe command asks the one whose channel it may be.
func TestManyTopicsAreNotAsked(t *testing.T) {
	var names []string
	for i := range 10_000 {
		names = append(names, fmt.Sprint("topic-", i, "-"))
	}
	list := buildStreams(openTopics(t, names, "{topic}:{key}"))
	for _, channel := range []string{"topic-17-:key", "topic-9999-:k", "unknown", "topic-1", ""} {
		require.LessOrEqual(t, list.looked(channel), 1, channel)
	}
	_, ok := list.find("topic-17-:key", false)
	require.True(t, ok)
}

// BenchmarkStreams measures a look for a channel among topics whose records name channels.
func BenchmarkStreams(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000} {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("topic-", i, "-"))
		}
		list := buildStreams(openTopics(b, names, "{topic}:{key}"))
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, ok := list.find("topic-0-:key", false); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
}
