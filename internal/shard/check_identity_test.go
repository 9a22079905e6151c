package shard

import (
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
)

// checkIdentities is check for what is known of clients, and for connections that are held.
func checkIdentities(t testing.TB, s *Shard) {
	t.Helper()
	var bytes, answers int64
	held := 0
	s.slab.each(func(c *conn) {
		id := s.identities.bySlot[c.slot]
		require.Equal(t, c.known&knownIdentity != 0, id != nil, "identity of slot %d", c.slot)
		bytes += s.identities.memory(c)
		if c.input == inputHeld {
			held++
			require.True(t, c.isClient() || c.state == stateHead || c.state == stateFailed, "slot %d is held", c.slot)
			require.Zero(t, s.work.waitingOf(c), "slot %d is held and in the list", c.slot)
		} else {
			require.NotContains(t, s.inbound.held, c.slot, "slot %d is not held", c.slot)
		}
		if c.isClient() && !c.recalled { // A raw client that is recalled has left everything.
			require.Equal(t, c.known&knownUser != 0,
				len(c.subs) > 0 && routing.Reserved(s.channels.list[c.subs[0].channel].name), "the user of slot %d", c.slot)
		}
		if len(c.subs) > indexedFrom {
			for i, sub := range c.subs {
				require.EqualValues(t, i, s.channels.indexed[c.slot][sub.channel], "index of slot %d", c.slot)
			}
		}
		if id == nil {
			return
		}
		for channel := range id.granted {
			require.GreaterOrEqual(t, s.channels.indexIn(c, channel), 0, "slot %d was granted a channel that it has not", c.slot)
		}
		for channel := range id.server {
			require.GreaterOrEqual(t, s.channels.indexIn(c, channel), 0, "slot %d was served a channel that it has not", c.slot)
		}
		require.True(t, !id.counted || id.who.User != "", "slot %d counts for no user", c.slot)
		if next := id.next(); c.state == stateJoined && next != 0 {
			require.True(t, c.deadline != 0 && c.deadline <= max(next, s.tick+1), "the end of slot %d is forgotten", c.slot)
		}
		_, joins := s.identities.joins[c.slot]
		require.Equal(t, id.join != nil, joins, "slot %d waits for its connect command", c.slot)
		if j := id.join; j != nil {
			answers += int64(j.bytes)
			waiting := 0
			for _, asked := range j.asked {
				if asked.answer == nil {
					waiting++
				}
			}
			require.Equal(t, waiting, j.waiting, "answers that slot %d waits for", c.slot)
		}
	})
	require.Equal(t, bytes, s.identities.bytes, "memory of identities")
	require.Equal(t, answers, s.identities.answers, "publications that connect commands wait with")
	require.LessOrEqual(t, len(s.inbound.held), held)
}

// checkCalls is check for calls of the backend.
func checkCalls(t testing.TB, s *Shard) {
	t.Helper()
	total := int64(0)
	s.slab.each(func(c *conn) {
		of := s.calls.bySlot[c.slot]
		require.Equal(t, c.known&knownCalls != 0, of != nil, "calls of slot %d", c.slot)
		if of == nil {
			return
		}
		bytes := callsBytes + fieldsBytes(of.header)
		for _, u := range of.list {
			bytes += u.bytes
		}
		require.Equal(t, bytes, of.bytes, "memory of the calls of slot %d", c.slot)
		require.False(t, len(of.list) == 0 && of.header == nil, "slot %d has no calls", c.slot)
		require.False(t, of.held && (len(of.list) == 0 || c.input != inputHeld), "slot %d waits for no call", c.slot)
		total += bytes
	})
	require.Equal(t, total, s.calls.bytes, "memory of calls")
}

// waitingOf returns how often c is in the list.
func (w *work) waitingOf(c *conn) (n int) {
	for _, ref := range w.waiting {
		if ref == (connRef{c.slot, c.generation}) {
			n++
		}
	}
	return n
}
