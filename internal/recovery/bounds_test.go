package recovery

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
)

// waiting returns a Recovery without workers in which n queries wait.
func waiting(n int) (r *Recovery, l *lane, all []*query) {
	o := Options{Timeout: time.Hour, WaitingMax: n, AddressMax: n}
	r = &Recovery{o: o, stats: NewStats(), groups: make(map[stream]*group), waiting: n}
	for kind := range r.ready {
		r.ready[kind] = make(chan struct{}, 1)
	}
	for i := range n {
		all = append(all, newQuery(bus.Query{Owner: uint64(i / 8), UpTo: 10}, &o, time.Now()))
		r.enqueueLocked(all[i])
	}
	return r, &r.groups[stream{}].lanes[laneNear], all
}

// Shards that ask do not wait while the clock looks at all queries, and what comes meanwhile comes behind them.
func TestClockHoldsUpNobody(t *testing.T) {
	const n = 1000
	r, l, all := waiting(n)
	another := newQuery(bus.Query{}, &r.o, time.Now())
	looked := 0
	r.filter(l, func(*query) bool {
		require.True(t, r.mu.TryLock(), "a shard would wait")
		defer r.mu.Unlock()
		if looked++; looked == n/2 {
			r.enqueueLocked(another)
		}
		return looked%2 == 0
	})
	require.Equal(t, n, looked)
	require.Len(t, l.waiting, n/2+1)
	for i := range n / 2 {
		require.Same(t, all[2*i], l.waiting[i])
	}
	require.Same(t, another, l.waiting[n/2])
	require.True(t, l.queued)
}

// What the clock looks at is not lost when a pass ends the group meanwhile, or another group begins.
func TestClockKeepsQueriesOfEndedGroup(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("again ", again), func(t *testing.T) {
			r, l, all := waiting(3)
			l.queued = false
			another := newQuery(bus.Query{}, &r.o, time.Now())
			once := true
			r.filter(l, func(*query) bool {
				if once {
					once = false
					require.Empty(t, r.beginPass(l))
					r.endPass(l, &rest{})
					require.Empty(t, r.groups)
					if again {
						r.enqueueLocked(another)
					}
				}
				return false
			})
			require.Len(t, r.groups, 1)
			now := &r.groups[stream{}].lanes[laneNear]
			require.True(t, now.queued)
			if again {
				all = append(all, another)
			}
			require.Equal(t, all, now.waiting)
		})
	}
}

// Addresses take turns, and the owners of each, in the order in which they came.
func TestRankedIsStable(t *testing.T) {
	var list []*query
	for _, owner := range []uint64{1, 1, 2, 1, 3, 2, 2} {
		list = append(list, &query{Query: bus.Query{Owner: owner, Address: netip.AddrFrom4([4]byte{1, 0, 0, byte(owner)})}})
	}
	want := []*query{list[0], list[2], list[4], list[1], list[5], list[3], list[6]}
	require.Equal(t, want, ranked(list, func(q *query) uint64 { return q.Owner }))
	require.Equal(t, want, inTurn(list))
	require.Empty(t, inTurn(nil))
}

// BenchmarkManyWait measures what looking at all queries takes.
func BenchmarkManyWait(b *testing.B) {
	r, _, all := waiting(100_000)
	b.Run("clock", func(b *testing.B) {
		for b.Loop() {
			r.expire(time.Now())
		}
	})
	b.Run("turns", func(b *testing.B) {
		for b.Loop() {
			inTurn(all)
		}
	})
}
