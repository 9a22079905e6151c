package source

import (
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/stats"
)

// Topics keep their place in the list until they are gone. The sum of those without a place never shrinks.
func TestListed(t *testing.T) {
	s := newStats(2)
	all := make(map[string]*topic)
	set := func(names ...string) {
		var list []*topic
		for _, n := range names {
			if all[n] == nil {
				all[n] = &topic{name: n, stats: &TopicStats{Name: n}}
			}
			list = append(list, all[n])
		}
		s.setTopics(list)
	}
	listed := func() (names []string) {
		for _, ts := range s.Topics() {
			if ts.Listed {
				names = append(names, ts.Name)
			}
		}
		return names
	}
	sum := func() (records, lost uint64) {
		for _, ts := range s.Unlisted() {
			records, lost = records+ts.Records.Load(), lost+ts.Lost[LossRetention].Load()
		}
		return records, lost
	}
	set("a", "b")
	require.Nil(t, s.Unlisted())
	set("a", "b", "c", "d")
	require.Equal(t, []string{"a", "b"}, listed())
	require.Equal(t, 2, s.TopicsUnlisted())
	for _, n := range []string{"a", "b", "c", "d"} {
		all[n].stats.Records.Add(10)
		all[n].stats.Lost[LossRetention].Add(1)
	}
	set("a", "c", "d")
	require.Equal(t, []string{"a"}, listed(), "c stays in the sum, which would shrink otherwise")
	set("a", "d", "e", "f")
	require.Equal(t, []string{"a", "e"}, listed())
	records, lost := sum()
	require.EqualValues(t, 20, records, "with c, which is gone")
	require.EqualValues(t, 2, lost)
	set("a", "e")
	require.Zero(t, s.TopicsUnlisted())
	records, lost = sum()
	require.EqualValues(t, 20, records)
	require.EqualValues(t, 2, lost)
}

// No counter of a topic is forgotten in the sum.
func TestEveryCounterIsSummed(t *testing.T) {
	fields, found := reflect.ValueOf(&TopicStats{}).Elem(), 0
	for i := range fields.NumField() {
		switch f := fields.Field(i); f.Interface().(type) {
		case atomic.Uint64:
			found++
		case string, bool, *stats.Deliveries, atomic.Uint32:
		default:
			found += f.Len()
		}
	}
	ts := &TopicStats{}
	require.Len(t, ts.counters(), found)
	for _, c := range ts.counters() {
		c.Add(1)
	}
	for _, c := range ts.counters() {
		require.EqualValues(t, 1, c.Load(), "each stands there once")
	}
}
