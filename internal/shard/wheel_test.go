package shard

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
)

// bare is a shard without a loop, for tests of its parts.
func bare() *Shard {
	s := &Shard{
		opts:  Options{Limits: testLimits(), Load: &load{}, Quotas: &Quotas{}, Logger: slog.New(slog.DiscardHandler)},
		stats: newStats(),
	}
	s.init()
	return s
}

// Against a plain list of deadlines: nothing is early, and nothing later than the tick it is due at.
func TestWheelModel(t *testing.T) {
	s := bare()
	random := rand.New(rand.NewPCG(3, 4))
	deadlines := map[uint32]uint32{} // By slot.
	var conns []*conn
	for range 300 {
		c := s.slab.take()
		c.state, c.fd = stateClosing, -1
		conns = append(conns, c)
	}
	fired := 0
	for range 20000 {
		c := conns[random.IntN(len(conns))]
		switch random.IntN(4) {
		case 0:
			c.pingAt = 0
			s.wheel.rearm(c)
			delete(deadlines, c.slot)
		default:
			c.pingAt = s.tick + 1 + random.Uint32N(3*wheelSlots)
			s.wheel.rearm(c)
			deadlines[c.slot] = c.pingAt
		}
		if random.IntN(3) > 0 {
			continue
		}
		ahead := s.wheel.next()
		if len(deadlines) == 0 {
			continue
		}
		require.NotZero(t, ahead)
		// The next slot is at or before the earliest deadline.
		earliest := ^uint32(0)
		for _, at := range deadlines {
			earliest = min(earliest, at)
		}
		require.LessOrEqual(t, s.wheel.now+ahead, max(earliest, s.wheel.now+1))
		s.tick += random.Uint32N(ahead + 40)
		if random.IntN(200) == 0 {
			s.tick += 5 * wheelSlots // The process stood still.
		}
		// due pings those whose time has come, which sets pingAt anew; note who should be.
		want := map[uint32]bool{}
		for slot, at := range deadlines {
			if at <= s.tick {
				want[slot] = true
			}
		}
		for c := s.wheel.pop(s.tick); c != nil; c = s.wheel.pop(s.tick) {
			s.due(c)
		}
		for slot := range want {
			c := s.slab.get(slot)
			require.NotZero(t, c.pings, "slot %d was due", slot)
			require.Equal(t, s.tick+ticks(s.opts.Limits.PongTimeout), c.pingAt)
			c.pings, c.out = 0, outbox{}
			deadlines[slot] = c.pingAt
			fired++
		}
		for slot, at := range deadlines {
			if !want[slot] {
				c := s.slab.get(slot)
				require.Zero(t, c.pings, "slot %d was not due", slot)
				require.Equal(t, at, c.pingAt)
			}
		}
		s.outlet.dirty = s.outlet.dirty[:0]
	}
	require.Greater(t, fired, 1000)
}

func TestTicks(t *testing.T) {
	require.EqualValues(t, 1, ticks(time.Nanosecond))
	require.EqualValues(t, 1, ticks(tickLength))
	require.EqualValues(t, 2, ticks(tickLength+1))
	require.EqualValues(t, 1<<31, ticks(1<<62))
}

// Slots are used again, with another generation each time, and a connection never moves.
func TestSlab(t *testing.T) {
	var s slab
	seen := map[uint64]bool{}
	var taken []*conn
	random := rand.New(rand.NewPCG(5, 6))
	for range 20000 {
		if len(taken) > 0 && random.IntN(2) == 0 {
			i := random.IntN(len(taken))
			require.Equal(t, taken[i], s.get(taken[i].slot))
			s.put(taken[i])
			taken[i] = taken[len(taken)-1]
			taken = taken[:len(taken)-1]
			continue
		}
		c := s.take()
		id := uint64(routing.MakeConnID(1, c.generation, c.slot))
		require.False(t, seen[id], "an id came twice")
		seen[id] = true
		c.state = stateHead
		taken = append(taken, c)
	}
	n := 0
	s.each(func(*conn) { n++ })
	require.Equal(t, len(taken), n)
	require.LessOrEqual(t, len(s.blocks)*blockSlots, 3*blockSlots)
}
