package shard

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// check recomputes every sum that the shard keeps by hand, and compares.
func check(t testing.TB, s *Shard) {
	t.Helper()
	var (
		bytes, conflating, conflatingBytes, blocked, behind int64
		connections, clients, parkedBytes                   int
		users                                               = make([]int, len(s.sender.holds.list))
		recovering                                          = map[uint32]int{}
	)
	s.slab.each(func(c *conn) {
		if c.state == stateFree {
			return
		}
		connections++
		if c.isClient() || c.state == stateFailed {
			clients++
		}
		o, cost := &c.out, 0
		for i := range o.chunks {
			cost += o.chunks[i].cost()
			users[o.chunks[i].hold]++
		}
		if o.merge != nil {
			cost += o.merge.cost
			conflating++
			conflatingBytes += int64(o.cost)
		} else if o.blocked {
			blocked++
		}
		require.Equal(t, cost, o.cost, "cost of slot %d", c.slot)
		isBehind := o.cost > s.opts.Limits.OutboundMax/2 && o.merge == nil
		require.Equal(t, isBehind, o.behindRound != 0, "slot %d is behind", c.slot)
		if o.behindRound == s.sender.pacing.round {
			behind++
		}
		bytes += int64(o.cost)
		// Whatever can be sent will be: by the flush, or when the socket is writable or the compressed layout is there.
		require.True(t, o.empty() || o.blocked || o.listed || o.chunks[0].deferred, "the outbox of slot %d is forgotten", c.slot)
		require.True(t, !s.secured.holds(&c.transport) || o.blocked || o.listed, "sealed bytes of slot %d are forgotten", c.slot)
		if o.merge != nil {
			require.NotEmpty(t, o.chunks, "what is merged waits for what is queued")
		}
		list := s.completions.putOff[c.slot]
		require.Equal(t, c.hasPutOff, len(list) > 0, "slot %d has put off completions", c.slot)
		for _, k := range list {
			parkedBytes += k.bytes
		}
		require.Equal(t, c.recalled, s.recalls.channels[c.slot] != nil || c.recalled && c.speaks().encoding == nil)
		f := s.flows.bySlot[c.slot]
		require.Equal(t, c.hasFlow, f != nil, "slot %d has a flow", c.slot)
		if f != nil {
			require.Len(t, f.pings, int(c.pings), "pings of slot %d", c.slot)
			inFlight := 0
			for _, p := range f.pings {
				inFlight += p.bytes
			}
			require.Equal(t, inFlight, f.bytes, "bytes in flight of slot %d", c.slot)
			require.False(t, f.idle() && c.histories == 0, "the flow of slot %d is idle", c.slot)
		}
		for i, sub := range c.subs {
			require.Equal(t, subscriber{c.slot, uint32(i)}, s.channels.list[sub.channel].subscribers[sub.subscriber])
		}
	})
	shared, held, answers := int64(0), int64(0), int64(s.completions.putOffBytes)
	s.slab.each(func(c *conn) {
		held += s.held(c)
		for i := range c.out.chunks {
			if k := &c.out.chunks[i]; k.hold != 0 {
				shared += int64(len(k.bytes))
			} else if k.kind == kindAnswer || k.kind == kindPortion {
				answers += int64(len(k.bytes))
			}
		}
		if id := s.identities.bySlot[c.slot]; c.known&knownIdentity != 0 && id.join != nil {
			answers += int64(id.join.bytes)
		}
	})
	require.Equal(t, shared, s.sender.shared, "bytes that connections share")
	require.Equal(t, held, s.ownMemory(), "what connections hold alone")
	require.Equal(t, held, s.accounted)
	require.Equal(t, answers, s.ownAnswers(), "what they hold of answers")
	require.Equal(t, answers, s.accountedAnswers)
	putOffBytes := 0
	for _, list := range s.completions.putOff {
		for _, k := range list {
			putOffBytes += k.bytes
		}
	}
	require.Equal(t, putOffBytes, s.completions.putOffBytes)
	inbound, sealed := int64(0), int64(0)
	used := 0
	for _, block := range s.secured.blocks {
		if block != nil {
			require.Positive(t, block.used)
			used += block.used
		}
	}
	s.slab.each(func(c *conn) {
		if c.secure {
			sc := s.secured.of(&c.transport)
			sealed += sc.keeps()
			used--
			require.Equal(t, sc.records == nil, sc.handshake != nil, "slot %d", c.slot)
			require.Equal(t, sc.records == nil, c.state == stateTLS, "slot %d", c.slot)
		}
	})
	require.Zero(t, used, "TLS of connections that have gone")
	require.Equal(t, sealed, s.secured.bytes, "what TLS keeps")
	s.slab.each(func(c *conn) { inbound += s.inbound.memory(c) })
	require.Equal(t, inbound, s.inbound.bytes, "memory of input")
	checkIdentities(t, s)
	checkCalls(t, s)
	flagged := map[string]int{}
	s.slab.each(func(c *conn) {
		for name, on := range map[string]bool{
			"recalled": c.recalled, "waiting": c.input != inputNone && c.input != inputHeld, "identified": c.known&knownIdentity != 0, "emptying": c.emptying, "flow": c.hasFlow, "put off": c.hasPutOff, "calls": c.known&knownCalls != 0,
		} {
			if on {
				flagged[name]++
			}
		}
	})
	waiting := map[*conn]bool{}
	for _, ref := range s.work.waiting {
		if c := s.slab.find(ref.slot, ref.generation); c != nil {
			require.False(t, waiting[c], "slot %d waits twice", c.slot)
			waiting[c] = true
		}
	}
	for slot := range s.dryRuns {
		require.NotEqual(t, stateFree, s.slab.get(slot).state, "slot %d is free and has a dry run", slot)
	}
	for slot := range s.resyncs.last {
		require.NotEqual(t, stateFree, s.slab.get(slot).state, "slot %d is free and known as resynced", slot)
	}
	for name, n := range map[string]int{
		"recalled": len(s.recalls.channels), "waiting": len(waiting), "emptying": len(s.emptying),
		"flow": len(s.flows.bySlot), "put off": len(s.completions.putOff), "identified": len(s.identities.bySlot), "calls": len(s.calls.bySlot),
	} {
		if name == "recalled" { // Raw clients have a flag alone.
			require.LessOrEqual(t, n, flagged[name], name)
			continue
		}
		require.Equal(t, flagged[name], n, name)
	}
	for slot, head := range s.wheel.heads {
		for next := head; next != timerNone; {
			c := s.slab.get(uint32(next))
			require.NotEqual(t, stateFree, c.state, "slot %d is in the wheel", c.slot)
			require.EqualValues(t, slot, c.timerAt%wheelSlots)
			next = c.timerNext
		}
	}
	for key, rec := range s.recoveries.waiting {
		require.False(t, rec.over)
		require.Equal(t, key, rec.key)
		recovering[key.channel]++
		cost := 0
		for i := range rec.parked.chunks {
			cost += rec.parked.chunks[i].cost()
			users[rec.parked.chunks[i].hold]++
		}
		require.Equal(t, cost, rec.parked.cost)
		parkedBytes += cost
	}
	require.Equal(t, bytes, s.sender.bytes, "bytes that wait")
	require.Equal(t, parkedBytes, s.sender.parkedBytes, "bytes parked")
	p := &s.sender.pacing
	require.Equal(t, []int64{blocked, behind, conflating, conflatingBytes},
		[]int64{p.blocked, p.behind, p.conflating, p.conflatingBytes}, "blocked, behind, conflating and what waits for those")
	require.Equal(t, []int{connections, clients}, []int{s.connections, s.clients}, "connections and clients")
	require.EqualValues(t, connections, s.stats.Connections.Load())
	require.EqualValues(t, clients, s.stats.Clients.Load())
	users[0] = 0
	for i := range s.sender.holds.list {
		h := &s.sender.holds.list[i]
		require.Equal(t, users[i], h.users, "users of hold %d", i)
		require.Equal(t, h.users > 0, h.batch != nil, "hold %d", i)
	}
	for i := range s.channels.list {
		ch := &s.channels.list[i]
		require.Equal(t, recovering[uint32(i)], ch.recovering, "recoveries of channel %q", ch.name)
		for j, sub := range ch.subscribers {
			require.Equal(t, subscription{uint32(i), uint32(j), s.slab.get(sub.slot).subs[sub.sub].start},
				s.slab.get(sub.slot).subs[sub.sub])
		}
	}
	failed := 0
	s.slab.each(func(c *conn) {
		if c.state == stateFailed {
			failed++
		}
	})
	for _, ref := range s.outlet.failed {
		if c := s.slab.find(ref.slot, ref.generation); c != nil && c.state == stateFailed {
			failed--
		}
	}
	require.Zero(t, failed, "connections that failed and that nobody ends")
	require.Empty(t, s.gatherer.segments)
	require.Empty(t, s.resyncs.ending)
	ready := map[uint32]bool{}
	for _, ref := range s.flows.ready { // What is over the turn's work asks in the next one.
		ready[ref.slot] = ready[ref.slot] || s.slab.find(ref.slot, ref.generation) != nil
	}
	for slot, f := range s.flows.bySlot {
		require.Equal(t, ready[slot], f.listed, "the flow of slot %d is to ask", slot)
	}
}
