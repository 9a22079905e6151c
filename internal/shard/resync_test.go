package shard

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// resyncRig is a pastRig with a client that is slow on "a".
type resyncRig struct {
	*pastRig
	c    *client
	last int // Number of the last record published.
	got  int // Of the last one that the client has.
}

func newResyncRig(t *testing.T, change func(*Options)) *resyncRig {
	t.Helper()
	r := &resyncRig{}
	r.pastRig = newPastRig(t, func(o *Options) {
		o.Limits.OutboundMax, o.Recovery.PublicationsMax, o.Slow = 128<<10, 1<<20, []SlowPolicy{{"a", PolicyResync}}
		if change != nil {
			change(o)
		}
	})
	r.c = r.joined("a", "b")
	r.joined() // So that most clients keep up, and nothing is held back for their sake.
	r.joined()
	return r
}

// gather turns the loop until everything is taken from the bus, which the brake may hold up for a moment.
func (r *resyncRig) gather() {
	for r.shard.Stats().Batches.Load() < r.ring.Stats().Batches.Load() {
		r.step()
	}
}

// stuff publishes on a until the policy acts, or the client is closed.
func (r *resyncRig) stuff() {
	r.t.Helper()
	st := r.shard.Stats()
	require.NoError(r.t, tcp(r.c.conn).SetReadBuffer(4096))
	for before := st.Slow[PolicyResync].Load(); st.Slow[PolicyResync].Load() == before && st.Slow[PolicyDisconnect].Load() == 0; {
		r.last++
		value := fmt.Sprintf(`{"n":%d,"pad":%q}`, r.last, strings.Repeat("x", 4<<10))
		r.past.records = append(r.past.records, record(uint64(r.last), value))
		r.offset = uint64(r.last) - 1
		r.publish("a", value)
		r.gather()
	}
}

// drain reads publications of a, in order, up to what says something else, which it returns.
func (r *resyncRig) drain() (other string) {
	r.t.Helper()
	require.NoError(r.t, tcp(r.c.conn).SetReadBuffer(1<<20))
	for other == "" {
		var text string
		r.during(func() { text = r.c.message(wire.EventText) })
		for line := range strings.SplitSeq(text, "\n") {
			if line == "{}" { // A portion's ping.
				r.c.send(ws.OpText, "{}")
				continue
			}
			var m publicationOf
			require.NoError(r.t, json.Unmarshal([]byte(line), &m))
			if m.Push.Pub.Data.N == 0 {
				return line
			}
			require.Equal(r.t, r.got+1, m.Push.Pub.Data.N)
			r.got++
		}
	}
	return other
}

// follow reads what the client recovers, in the reply or after it, and answers pings.
func (r *resyncRig) follow() {
	r.t.Helper()
	r.during(func() {
		for r.got < r.last {
			var m struct {
				Subscribe struct {
					Publications []struct{ Data struct{ N int } }
				}
				publicationOf
			}
			for line := range strings.SplitSeq(r.c.message(wire.EventText), "\n") {
				if line == "{}" {
					r.c.send(ws.OpText, "{}")
					continue
				}
				if err := json.Unmarshal([]byte(line), &m); err != nil {
					r.t.Error(err)
					return
				}
				for _, p := range m.Subscribe.Publications {
					require.Equal(r.t, r.got+1, p.Data.N)
					r.got++
				}
				if n := m.Push.Pub.Data.N; n > 0 {
					require.Equal(r.t, r.got+1, n)
					r.got++
				}
				m.Subscribe.Publications, m.Push.Pub.Data.N = nil, 0
			}
		}
	})
}

type publicationOf struct {
	Push struct {
		Pub struct{ Data struct{ N int } }
	}
}

// A slow client loses what waits of the channel, and recovers it; the third time within a minute it is closed.
func TestResync(t *testing.T) {
	r := newResyncRig(t, nil)
	st := r.shard.Stats()
	for round := 1; round < resyncsMax; round++ {
		r.stuff()
		require.EqualValues(t, round, st.Slow[PolicyResync].Load())
		require.EqualValues(t, 1, st.Subscriptions.Load(), "that of b")
		require.Contains(t, r.drain(), `"channel":"a","unsubscribe":{"code":2500`)
		require.Positive(t, r.got)
		require.Less(t, r.got, r.last)
		require.EqualValues(t, r.got, st.Deliveries.Load(), "those that came")

		r.past.auto()
		r.say(r.c, back(r.got, ""))
		r.follow()
		require.Equal(t, r.last, r.got)
	}
	r.stuff()
	require.EqualValues(t, 1, st.Slow[PolicyDisconnect].Load())
	require.EqualValues(t, resyncsMax-1, st.Slow[PolicyResync].Load())
	r.step()
	require.Empty(t, r.shard.slab.get(0).subs)
}

// A minute later it is as if nothing had been.
func TestResyncForgets(t *testing.T) {
	r := newResyncRig(t, nil)
	c := r.shard.slab.get(0)
	r.shard.tick = 100
	for range resyncsMax - 1 {
		require.False(t, r.shard.resyncs.tooOften(c, r.shard.tick))
	}
	require.True(t, r.shard.resyncs.tooOften(c, r.shard.tick))
	r.shard.tick += ticks(resyncsWithin)
	for range resyncsMax - 1 {
		require.False(t, r.shard.resyncs.tooOften(c, r.shard.tick))
	}
	require.True(t, r.shard.resyncs.tooOften(c, r.shard.tick))
}

// What waits of other channels stays, and where that alone is too much, or nothing can be recovered, the client is
// closed.
func TestResyncOrDisconnect(t *testing.T) {
	fill := func(r *resyncRig, channel string, bytes int) {
		for n := 0; n < bytes; n += 4 << 10 {
			r.publish(channel, fmt.Sprintf(`{"pad":%q}`, strings.Repeat("x", 4<<10)))
			r.gather()
		}
	}
	t.Run("other channels stay", func(t *testing.T) {
		r := newResyncRig(t, nil)
		for r.shard.slab.get(0).out.cost < 32<<10 {
			fill(r, "b", 1)
		}
		r.stuff()
		require.EqualValues(t, 1, r.shard.Stats().Slow[PolicyResync].Load())
		require.Greater(t, r.shard.slab.get(0).out.cost, 24<<10)
	})
	t.Run("other channels are too much", func(t *testing.T) {
		r := newResyncRig(t, nil)
		r.publish("b", fmt.Sprintf(`{"pad":%q}`, strings.Repeat("x", 8<<20))) // Being sent, so not counted.
		r.gather()
		fill(r, "b", 128<<10)
		r.stuff()
		require.EqualValues(t, 1, r.shard.Stats().Slow[PolicyDisconnect].Load())
		require.Zero(t, r.shard.Stats().Slow[PolicyResync].Load())
	})
	t.Run("no stream", func(t *testing.T) {
		r := newResyncRig(t, func(o *Options) { o.Slow[0].Pattern = "b" })
		fill(r, "b", 16<<20)
		require.EqualValues(t, 1, r.shard.Stats().Slow[PolicyDisconnect].Load())
	})
	t.Run("no recovery", func(t *testing.T) {
		r := newResyncRig(t, func(o *Options) { o.Recovery = RecoveryOptions{} })
		r.stuff()
		require.EqualValues(t, 1, r.shard.Stats().Slow[PolicyDisconnect].Load())
	})
}
