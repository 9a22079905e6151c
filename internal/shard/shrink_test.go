package shard

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/routing"
)

// heap returns the bytes in use, when nothing is left to be collected.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// later lets a turn end in another tick.
func (s *Shard) laterShrink() {
	s.tick++
	s.shrink()
}

// Channels that have gone leave no memory behind: neither in the shard, nor in the table of interests, nor with the
// client that had them. Of those whose position is known the table remembers some for a while.
func TestChannelsGiveMemoryBack(t *testing.T) {
	const many = 100_000
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprint("known ", known), func(t *testing.T) {
			s := bareChannels()
			name := func(i int) string { return fmt.Sprint("channel", i) }
			if known {
				place := s.opts.Positions.(*place)
				for i := range many {
					place.offset[name(i)] = 1
				}
			}
			c := fill(s, 1)[0]
			empty := heap()
			for i := range many {
				s.channels.subscribe(c, name(i))
			}
			full := heap() - empty
			require.Greater(t, full, int64(many*200))
			// One in a hundred stays: what is left is the list up to the last of them, and what they need.
			random := rand.New(rand.NewPCG(1, 2))
			for len(c.subs) > many/100 {
				s.channels.unsubscribe(c, random.IntN(len(c.subs)), false)
			}
			s.laterShrink()
			s.opts.Interest.Sweep()
			s.opts.Interest.Sweep()
			require.LessOrEqual(t, heap()-empty, full*2/5)
			for i := range c.subs {
				ch := &s.channels.list[c.subs[i].channel]
				require.Equal(t, i, s.channels.find(c, ch.name))
				index, ok := s.channels.byID.Get(ch.id)
				require.True(t, ok)
				require.Equal(t, c.subs[i].channel, index)
			}

			s.channels.unsubscribeAll(c)
			s.laterShrink()
			s.opts.Interest.Sweep()
			s.opts.Interest.Sweep()
			require.LessOrEqual(t, heap()-empty, int64(512<<10), "of %d bytes", full) // 256 stripes of the table.
			require.Empty(t, s.channels.list)
			s.channels.subscribe(c, "again")
			require.Zero(t, c.subs[0].channel)
			runtime.KeepAlive(s)
		})
	}
}

// Channels come and go at random: each has one index, which is the lowest that was free, and is found.
func TestChannelsModel(t *testing.T) {
	s := bareChannels()
	conns := fill(s, 3)
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 20_000 {
		c := conns[random.IntN(len(conns))]
		name := fmt.Sprint(random.IntN(300 - 290*(round/2000%2)))
		if i := s.channels.find(c, name); i >= 0 {
			s.channels.unsubscribe(c, i, false)
		} else {
			s.channels.subscribe(c, name)
		}
		if random.IntN(50) == 0 {
			s.laterShrink()
		}
		if round%100 > 0 {
			continue
		}
		used := map[uint32]bool{}
		for _, c := range conns {
			for i, sub := range c.subs {
				used[sub.channel] = true
				require.Equal(t, subscriber{c.slot, uint32(i)}, s.channels.list[sub.channel].subscribers[sub.subscriber])
			}
		}
		require.Len(t, used, s.channels.byName.Len())
		require.Len(t, used, s.channels.byID.Len())
		for index := range s.channels.list {
			require.Equal(t, used[uint32(index)], s.channels.list[index].name != "")
		}
	}
}

// Connections that have gone leave a block or two behind, whatever of the shard they used.
func TestClientsGiveMemoryBack(t *testing.T) {
	const many = 50_000
	s := bareChannels()
	s.opts.Descriptors, s.opts.Memory, s.opts.Drain = &Descriptors{}, &Memory{Limit: 1 << 40}, &Drain{}
	s.tick = 1
	fill(s, 1) // What the first connection alone brings.
	empty := heap()
	list := fill(s, many)
	s.connections = many + 1
	for i, c := range list {
		s.dryRuns[c.slot] = 1
		s.emptying[c.slot] = departure{}
		c.emptying = true
		s.resyncs.last[c.slot] = resyncTicks{}
		f := &flow{}
		s.flows.bySlot[c.slot], c.hasFlow, f.gone = f, true, new(atomic.Bool)
		s.flows.list(c, f)
		for range 1 + i%8 {
			s.sender.push(&c.out, chunk{bytes: make([]byte, 100)})
		}
		s.outlet.markDirty(c)
		c.pingAt = s.tick + 1
		s.wheel.rearm(c)
		s.laterShrink()
	}
	full := heap() - empty
	require.Greater(t, full, int64(many*800))
	for _, c := range list {
		s.wheel.disarm(c)
		s.sender.discard(&c.out)
		delete(s.dryRuns, c.slot)
		s.emptying.forget(c)
		s.resyncs.forget(c)
		s.flows.forget(c)
		s.slab.put(c)
		s.connections--
	}
	s.connections = 0
	s.outlet.dirty, s.flows.ready = nil, nil
	s.laterShrink()
	require.LessOrEqual(t, heap()-empty, int64(200<<10), "of %d bytes", full)
	runtime.KeepAlive(s)
}

// Blocks of the slab are given back but for some, and a slot that comes back has another generation.
func TestSlabGivesBack(t *testing.T) {
	var s slab
	random := rand.New(rand.NewPCG(5, 6))
	seen := map[routing.ConnID]bool{}
	var taken []*conn
	for round := range 8 {
		for range 3000 {
			c := s.take()
			id := routing.MakeConnID(1, c.generation, c.slot)
			require.False(t, seen[id], "an id came twice")
			seen[id] = true
			c.state = stateHead
			taken = append(taken, c)
		}
		random.Shuffle(len(taken), func(i, j int) { taken[i], taken[j] = taken[j], taken[i] })
		left := []int{0, 1, 100, 0, 2000, 50, 3, 0}[round]
		for len(taken) > left {
			c := taken[len(taken)-1]
			taken = taken[:len(taken)-1]
			slot, generation := c.slot, c.generation
			s.put(c)
			require.Nil(t, s.find(slot, generation))
		}
		used, made, spare := map[uint32]bool{}, 0, 0
		for _, c := range taken {
			used[c.slot>>blockBits] = true
			require.Equal(t, c, s.find(c.slot, c.generation))
		}
		for i, block := range s.blocks {
			if block != nil {
				made++
				if !used[uint32(i)] {
					spare++
				}
			}
		}
		require.Equal(t, []int{made, spare}, []int{s.made, s.spare})
		require.LessOrEqual(t, spare, 1+len(used)/4)
		require.LessOrEqual(t, len(s.empty), len(s.blocks))
		n := 0
		s.each(func(*conn) { n++ })
		require.Equal(t, len(taken), n)
	}
}

// The lowest free slot comes first, and the end is that of the highest in use.
func TestSlotsModel(t *testing.T) {
	var s slots
	random := rand.New(rand.NewPCG(7, 8))
	used := map[uint32]bool{}
	for range 20_000 {
		if random.IntN(2) == 0 && len(used) > 0 {
			for slot := range used {
				delete(used, slot)
				all := s.free(slot)
				for other := range used {
					all = all && other/64 != slot/64
					if !all {
						break
					}
				}
				break
			}
		} else {
			lowest := uint32(0)
			for used[lowest] {
				lowest++
			}
			require.Equal(t, lowest, s.next())
			require.Equal(t, lowest, s.take())
			used[lowest] = true
		}
		if random.IntN(20) == 0 {
			end := uint32(0)
			for slot := range used {
				end = max(end, slot+1)
			}
			require.Equal(t, end, s.trim())
		}
	}
}

// Messages of a peak leave nothing behind when all have been sent: neither the queues nor the holds.
func TestOutboxesGiveMemoryBack(t *testing.T) {
	const many = 100_000
	r := newStepped(t, nil)
	s := &r.shard.sender
	r.interest.Add("a", 0, 0)
	defer r.interest.Remove("a", 0)
	r.publish("a", "1")
	batch, state := r.shard.opts.Cursor.Next()
	require.Equal(t, bus.StateReady, state)
	empty := heap()
	var o outbox
	for range many {
		hold := s.holds.take(&pending{batch: batch, segment: batch.Segments[0]})
		s.push(&o, chunk{bytes: []byte("shared"), hold: hold})
		s.holds.drop(hold) // The delivery is over.
	}
	require.Greater(t, heap()-empty, int64(many*60))
	s.discard(&o)
	r.shard.laterShrink()
	require.LessOrEqual(t, heap()-empty, int64(200<<10))
	require.Len(t, s.holds.list, 1)
	require.True(t, slices.Equal(s.holds.free, nil))
}
