package shard

import (
	"github.com/centrifugal/protocol"

	"wsd/internal/proto"
)

// errRefreshToken is for a refresh without a token.
var errRefreshToken = &ending{ReasonBadRequest, "refresh: the token is missing"}

// refreshCommand gives c another token of its user. The reply comes later: as Centrifugo does, a token that cannot be
// verified ends the connection with 3500, and one that has expired itself with 3005.
func (s *Shard) refreshCommand(c *conn, id uint32, r *protocol.RefreshRequest) error {
	if r.Token == "" {
		return errRefreshToken
	}
	s.verify(c, TokenForConnection, r.Token, func(c *conn, a TokenAnswer) {
		if !c.isClient() {
			return
		}
		known := s.identities.of(c)
		switch {
		case a.Result == TokenLater:
			s.outlet.sendReply(c, errorReply(id, proto.ErrTooManyRequests))
			return
		case a.Result == TokenExpired:
			s.end(c, ReasonExpired)
			return
		case a.Result != TokenOK || a.Identity.User != known.who.User:
			s.end(c, ReasonInvalidToken)
			return
		}
		s.identities.set(known, a.Identity)
		known.ends = s.connectionEnds(a.Identity.ExpireAt)
		s.rescheduleEnd(c)
		result := &protocol.RefreshResult{Client: s.clientID(c), Version: s.opts.Version}
		if at := known.ends.at; !at.IsZero() {
			result.Expires, result.Ttl = true, ttlOf(at)
		}
		s.outlet.sendReply(c, &protocol.Reply{Id: id, Refresh: result})
		s.revokeUnauthorized(c, known)
	})
	return nil
}

// revokeUnauthorized ends subscriptions that c had by claims which its new token no longer has, also those that the
// server made.
func (s *Shard) revokeUnauthorized(c *conn, known *identity) {
	s.work.spendPart(unitsCommand * len(c.subs))
	var served map[string]bool
	if len(known.server) > 0 {
		served = make(map[string]bool, len(known.who.Channels))
		for _, name := range known.who.Channels {
			served[name] = true
		}
	}
	for i := len(c.subs) - 1; i >= c.firstChannel(); i-- {
		channel := c.subs[i].channel
		name := s.channels.list[channel].name
		if known.server[channel] && served[name] || known.granted[channel] != nil || s.allows(c, name, false) {
			continue
		}
		s.revoke(c, channel, proto.UnsubscribeServer)
	}
}

// subRefreshCommand gives a subscription of c another token. The reply comes later, unless it is returned.
func (s *Shard) subRefreshCommand(c *conn, id uint32, r *protocol.SubRefreshRequest) *protocol.Reply {
	find := func(c *conn) (channel uint32, ok bool) {
		i := s.channels.find(c, r.Channel)
		if i < 0 || s.identities.of(c).granted[c.subs[i].channel] == nil {
			return 0, false
		}
		return c.subs[i].channel, true
	}
	if _, ok := find(c); !ok || r.Token == "" { // It has nothing that a token could extend.
		return errorReply(id, proto.ErrPermissionDenied)
	}
	s.verify(c, TokenForSubscription, r.Token, func(c *conn, a TokenAnswer) {
		if !c.isClient() {
			return
		}
		channel, ok := find(c)
		if !ok { // It has ended meanwhile.
			s.outlet.sendReply(c, errorReply(id, proto.ErrPermissionDenied))
			return
		}
		switch e := s.grants(c, r.Channel, a); e {
		case nil:
		case proto.ErrTokenExpired:
			s.endUnrefreshed(c, channel, errorReply(id, e))
			return
		default:
			s.outlet.sendReply(c, errorReply(id, e))
			return
		}
		e := s.grantEnds(a.Identity.ExpireAt)
		s.identities.grant(c, channel, e, a.Identity.Info)
		s.endsBy(c, e.end)
		result := &protocol.SubRefreshResult{}
		if !e.at.IsZero() {
			result.Expires, result.Ttl = true, ttlOf(e.at)
		}
		s.outlet.sendReply(c, &protocol.Reply{Id: id, SubRefresh: result})
	})
	return nil
}

// endUnrefreshed ends a subscription of c that was to be refreshed by a token that has expired itself. The SDKs give a
// subscription up whose refresh is refused; after 2501 they subscribe again by another token. So that comes first, in
// one frame with the reply.
func (s *Shard) endUnrefreshed(c *conn, channel uint32, reply *protocol.Reply) {
	name := s.channels.list[channel].name
	if rec := s.recoveries.of(c, channel); rec != nil && !rec.started {
		s.recoveries.failRecovery(c, rec, rec.origin)
	}
	d := c.speaks()
	frame := make([]byte, 0, 256)
	if i := s.channels.find(c, name); i >= 0 {
		// The reply overtakes what waits: nothing of the channel may come after it.
		s.sender.dropChannel(&c.out, channel)
		s.channels.unsubscribe(c, i, false)
		frame = append(d.unsubscribePushes(frame, proto.UnsubscribeExpired, name), d.encoding.Separator...)
	}
	frame, err := d.encoding.AppendReply(frame, reply)
	if err != nil {
		s.outlet.encodeFailed(c, err)
		return
	}
	s.outlet.queueReply(c, chunk{bytes: d.frame(frame)})
	s.outlet.markDirty(c)
}
