package shard

import (
	"time"

	"github.com/centrifugal/protocol"

	"wsd/internal/proto"
)

// A connection or subscription that expires is refreshed by the backend, if that is asked (asked.go). Otherwise one
// whose token expires goes on for AuthOptions.Grace. A client that refreshes it by another token before its end has
// lost nothing. A connection that is not refreshed is closed with 3005, and a subscription ends with 2501; after both
// the SDKs come back with another token.

// setExpiry tells the client when to refresh a subscription.
func (*Shard) setExpiry(result *protocol.SubscribeResult, at time.Time) {
	if !at.IsZero() {
		result.Expires, result.Ttl = true, ttlOf(at)
	}
}

// endExpired closes c if its token has expired and the grace is over, and reports whether it did. It ends subscriptions
// of c whose tokens have.
func (s *Shard) endExpired(c *conn) bool {
	id := s.identities.find(c)
	switch {
	case s.opts.Calls.serves(CallRefresh):
		if s.askDue(&id.ends) {
			s.askRefresh(c)
		}
	case s.expired(&id.ends):
		s.end(c, ReasonExpired)
		return true
	}
	for channel, g := range id.granted {
		switch e := &g.expiry; {
		case s.opts.Calls.serves(CallSubRefresh):
			if s.askDue(e) {
				s.askSubRefresh(c, channel, g)
			}
		case s.expired(e):
			s.revoke(c, channel, proto.UnsubscribeExpired)
		}
	}
	return false
}

// connectionEnds returns what follows when a connection expires at a time: it ends after the grace, or the backend is
// asked.
func (s *Shard) connectionEnds(at time.Time) expiry {
	if s.opts.Calls.serves(CallRefresh) {
		return s.asksAt(at)
	}
	return s.expiresAt(at)
}

// grantEnds is connectionEnds for a subscription.
func (s *Shard) grantEnds(at time.Time) expiry {
	if s.opts.Calls.serves(CallSubRefresh) {
		return s.asksAt(at)
	}
	return s.expiresAt(at)
}

// revoke ends a subscription of c, which is a client of the protocol, and notifies it. A reply that is still to come is
// sent first. What was queued before stays: the client had the channel then.
func (s *Shard) revoke(c *conn, channel uint32, why proto.Unsubscribe) {
	name := s.channels.list[channel].name
	if rec := s.recoveries.of(c, channel); rec != nil && !rec.started {
		s.recoveries.failRecovery(c, rec, rec.origin)
	}
	i := s.channels.find(c, name)
	if i < 0 {
		return // It was rejected.
	}
	s.channels.unsubscribe(c, i, true)
	s.outlet.markDirty(c)
	d := c.speaks()
	s.outlet.offer(c, chunk{bytes: d.frame(d.unsubscribePushes(nil, why, name))})
}
