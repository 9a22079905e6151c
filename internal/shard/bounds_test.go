package shard

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
)

// fill puts n connections without a socket into a shard without a loop, clients of the protocol that have joined.
func fill(s *Shard, n int) []*conn {
	list := make([]*conn, n)
	for i := range list {
		c := s.slab.take()
		c.state, c.fd = stateJoined, -1
		s.clients++
		list[i] = c
	}
	return list
}

// Timers have a bound of work in each turn: what is over goes on in the next one, which does not wait for an event, and
// the connections that were due first come first. A turn that has done enough runs some as well.
func TestTimersTakeTurns(t *testing.T) {
	const clients = 1000
	for over, most := range map[bool]int{false: workPart / unitsTimer, true: leastPart / unitsTimer} {
		t.Run(fmt.Sprint("over ", over), func(t *testing.T) {
			s := bare()
			list := fill(s, clients)
			for i, c := range list {
				c.pingAt = 1 + uint32(i)/(clients/4) // On four ticks.
				s.wheel.rearm(c)
			}
			s.tick = 10
			pinged := func() (n int) {
				for _, c := range list {
					n += int(c.pings)
				}
				return n
			}
			for n, turns := 0, 1; n < clients; turns++ {
				s.work.over = over
				more := s.expireTimers(0)
				before := n
				n = pinged()
				require.LessOrEqual(t, n-before, most)
				require.Equal(t, min(clients, turns*most), n, "each turn does its part")
				require.Equal(t, n < clients, more)
				for tick := range 4 { // Nobody of a later tick before one of an earlier.
					part := list[tick*clients/4 : (tick+1)*clients/4]
					if slices.ContainsFunc(part, func(c *conn) bool { return c.pings == 0 }) {
						later := list[(tick+1)*clients/4:]
						require.False(t, slices.ContainsFunc(later, func(c *conn) bool { return c.pings > 0 }))
						break
					}
				}
			}
			require.False(t, s.expireTimers(0))
			for _, c := range list {
				require.EqualValues(t, 1, c.pings)
				require.Equal(t, s.tick+ticks(s.opts.Limits.PongTimeout), c.pingAt)
			}
		})
	}
}

// While every turn has as many ready sockets as it takes, timers wait until each connection could be read once, and then
// go on in each turn until none is due: clients that never stop sending keep nobody from a ping or a deadline.
func TestTimersInFlood(t *testing.T) {
	const clients = 1000
	s := bare()
	list := fill(s, clients)
	for _, c := range list {
		c.pingAt = 1
		s.wheel.rearm(c)
	}
	s.tick = 10
	pinged := func() (n int) {
		for _, c := range list {
			n += int(c.pings)
		}
		return n
	}
	s.slab.blocks = append(s.slab.blocks, make([]*[blockSlots]conn, 1000)...) // Given back: no connection is there.
	waits := (clients+blockSlots-1)/blockSlots*blockSlots/eventsPerTurn + 1
	for range waits {
		s.expireTimers(eventsPerTurn)
	}
	require.Zero(t, pinged())
	for n := 0; n < clients; n = pinged() {
		s.expireTimers(eventsPerTurn)
		require.Greater(t, pinged(), n, "each turn does its part")
	}
	require.Zero(t, s.heldTurns, "what is due next waits again")
}

// What is armed while a turn's timers are not all run is neither lost nor run twice.
func TestTimersCarriedOver(t *testing.T) {
	const clients = 500
	s := bare()
	s.opts.Limits.PingInterval, s.opts.Limits.PongTimeout = 4*tickLength, tickLength
	list := fill(s, clients)
	due := func(c *conn) bool { return c.timerAt != 0 && c.pingAt != 0 }
	for _, c := range list {
		c.pingAt = 1
		s.wheel.rearm(c)
	}
	for range 200 {
		s.tick++
		s.expireTimers(0)
		for _, c := range list {
			require.True(t, due(c), "slot %d is in the wheel", c.slot)
			if c.pings > 0 {
				s.pings.pong(c)
			}
			c.out.chunks = nil
		}
		s.outlet.dirty = s.outlet.dirty[:0]
	}
}

// Streams whose pauses are over go on in the order of their ends, as many in a turn as it takes, and a pause costs the
// same however many there are.
func TestPausesTakeTurns(t *testing.T) {
	const many = 5000
	s := bare()
	s.tick = 100
	for i := range many {
		s.flows.pauses.add(pauseKind(i%2), s.tick, pause{conn: connRef{uint32(i), 1}})
	}
	require.Equal(t, s.tick+ticks(startPause), s.flows.pauses.wakeAt())
	s.work.beginPart()
	require.False(t, s.recoveries.resumePaused(), "none is over")
	s.tick += ticks(retryPause)
	left := func() int { return len(s.flows.pauses[pauseStart]) + len(s.flows.pauses[pauseRetry]) }
	for more := true; more; {
		before := left()
		s.work.beginPart()
		more = s.recoveries.resumePaused()
		require.LessOrEqual(t, before-left(), workPart)
		require.Equal(t, left() > 0, more)
		require.True(t, len(s.flows.pauses[pauseStart]) == 0 || len(s.flows.pauses[pauseRetry]) == many/2)
	}
	require.Nil(t, s.flows.pauses[pauseStart])
	require.Zero(t, s.flows.pauses.wakeAt())
}

// Results that bring no bytes, such as failures, have a bound of work in each turn as well, and so has asking.
func TestResultsTakeTurns(t *testing.T) {
	const many = 3 * workPart / unitsAsk
	r := newStepped(t, nil)
	r.during(func() { r.join() })
	c := r.shard.slab.get(0)
	done := 0
	for range many {
		k := r.shard.inbox.begin(c)
		k.post(0, false, func(*conn, bool) { done++ })
	}
	for done < many {
		before := done
		more, _ := r.shard.turnOver(false)
		require.LessOrEqual(t, done-before, workPart/unitsAsk)
		require.Positive(t, done-before)
		require.Equal(t, done < many, more && len(r.shard.completions.due) > 0)
	}
}

// Peers that close are work as well: each leaves its channels, and a client may have many.
func TestClosesTakeTurns(t *testing.T) {
	const clients, channels = 20, 200
	r := newStepped(t, func(o *Options) { o.Limits.ChannelsMax = channels })
	var list []*client
	r.during(func() {
		for range clients {
			list = append(list, r.join())
		}
	})
	r.shard.slab.each(func(c *conn) {
		for i := range channels {
			r.shard.channels.subscribe(c, fmt.Sprintf("%d.%d", c.slot, i))
		}
	})
	r.shard.work.max = 0 // The clock ends each turn's work when it is first looked at.
	for _, c := range list {
		require.NoError(t, c.conn.Close())
	}
	before := r.shard.connections
	for left := before; left > 0; {
		r.step()
		require.LessOrEqual(t, left-r.shard.connections, 1)
		left = r.shard.connections
	}
	require.Zero(t, r.interest.Len())
}

// The shutdown and the drain close clients by the work that it takes.
func TestShutdownTakesTurns(t *testing.T) {
	const clients, channels = 100, 128
	r := newStepped(t, func(o *Options) { o.Limits.ChannelsMax = channels })
	r.during(func() {
		for range clients {
			r.join()
		}
	})
	r.shard.slab.each(func(c *conn) {
		for i := range channels {
			r.shard.channels.subscribe(c, fmt.Sprintf("%d.%d", c.slot, i))
		}
	})
	r.shard.deadline.Store(int64(time.Hour))
	most := workPart/(unitsEnd+channels*unitsLeave) + 1
	for more := true; more; {
		before := r.shard.clients
		more = r.shard.closeSome(0)
		require.LessOrEqual(t, before-r.shard.clients, most)
	}
	require.Zero(t, r.shard.clients)
}

// A client with many channels finds each at the price of one, as do all parts of the shard that ask for it.
func TestManyChannelsAreFound(t *testing.T) {
	const channels = 3 * indexedFrom
	s := bareChannels()
	c := fill(s, 1)[0]
	other := fill(s, 1)[0]
	name := func(i int) string { return fmt.Sprint("c", i) }
	known := map[string]bool{}
	verify := func() {
		t.Helper()
		require.Len(t, c.subs, len(known))
		for i := range channels {
			at := s.channels.find(c, name(i))
			require.Equal(t, known[name(i)], at >= 0, name(i))
			if at >= 0 {
				require.Equal(t, name(i), s.channels.list[c.subs[at].channel].name)
			}
		}
		require.Equal(t, len(known) > indexedFrom, s.channels.indexed[c.slot] != nil)
	}
	for i := range channels {
		s.channels.subscribe(c, name(i))
		s.channels.subscribe(other, name(i))
		known[name(i)] = true
		if i%50 == 0 {
			verify()
		}
	}
	verify()
	for i := channels - 1; i >= 0; i-- {
		n := i * 7 % channels // 7 and channels have no common factor.
		s.channels.unsubscribe(c, s.channels.find(c, name(n)), false)
		delete(known, name(n))
		if i%50 == 0 || i == 2 {
			verify()
		}
	}
	verify()
	s.channels.unsubscribeAll(other)
	require.Empty(t, s.channels.indexed)
	require.Zero(t, s.opts.Interest.Len())
}

// bareChannels is bare with what channels need.
func bareChannels() *Shard {
	s := bare()
	s.opts.Interest, s.opts.Head = routing.NewInterest(), func() uint64 { return 1 }
	s.opts.Positions = &place{offset: map[string]uint64{}}
	return s
}

// BenchmarkFind measures what a command costs a client with channels.
func BenchmarkFind(b *testing.B) {
	for _, channels := range []int{1, 16, 128, 1000, 65536} {
		b.Run(fmt.Sprint(channels), func(b *testing.B) {
			s := bareChannels()
			c := fill(s, 1)[0]
			names := make([]string, channels)
			for i := range names {
				names[i] = fmt.Sprint("channel", i)
				s.channels.subscribe(c, names[i])
			}
			i := 0
			for b.Loop() {
				if s.channels.find(c, names[i%channels]) < 0 {
					b.Fatal("not found")
				}
				i++
			}
		})
	}
}
