package shard

import (
	"github.com/centrifugal/protocol"

	"wsd/internal/proto"
)

// errConnectRefused is for what a client sends after its connect command was refused.
var errConnectRefused = &ending{ReasonBadRequest, "the connect command was refused, connect again"}

// connectCommand acts on a connect command where clients have identities. The reply comes later if the command has a
// token; else connectCommand returns it.
func (s *Shard) connectCommand(c *conn, id uint32, r *protocol.ConnectRequest) *protocol.Reply {
	if r.Token == "" {
		if s.opts.Calls.serves(CallConnect) {
			return s.askConnect(c, id, r)
		}
		if s.opts.Auth.Anonymous {
			return s.join(c, id, r, &Identity{})
		}
		return s.refuseConnect(c, id, proto.ErrUnauthorized)
	}
	s.verify(c, TokenForConnection, r.Token, func(c *conn, a TokenAnswer) {
		if !c.isClient() {
			return
		}
		if reply := s.connectVerified(c, id, r, a); reply != nil {
			s.outlet.sendReply(c, reply)
		}
	})
	return nil
}

// connectVerified returns the reply to a connect command whose token was verified; nil: c has ended, or the reply is
// sent or comes later.
func (s *Shard) connectVerified(c *conn, id uint32, r *protocol.ConnectRequest, a TokenAnswer) *protocol.Reply {
	switch a.Result {
	case TokenOK:
		return s.join(c, id, r, a.Identity)
	case TokenExpired:
		return s.refuseConnect(c, id, proto.ErrTokenExpired)
	case TokenLater:
		return s.refuseConnect(c, id, proto.ErrTooManyRequests)
	default:
		s.end(c, ReasonInvalidToken)
		return nil
	}
}

// refuseConnect returns the reply to a connect command that is refused. The client is to close the connection; whatever
// else it sends ends it.
func (s *Shard) refuseConnect(c *conn, id uint32, e *proto.Error) *protocol.Reply {
	s.identities.of(c).refused = true
	return errorReply(id, e)
}

// join makes c the client that who says, and returns the reply to its connect command; nil: c has ended, or the reply
// is sent or comes later.
func (s *Shard) join(c *conn, id uint32, r *protocol.ConnectRequest, who *Identity) *protocol.Reply {
	names := s.joinNames(who, r)
	if s.tooManyServed(names) {
		return s.refuseConnect(c, id, proto.ErrLimitExceeded)
	}
	if n, settled := s.recovering(r, names); !settled {
		return s.refuseConnect(c, id, &notYet)
	} else if n > 0 && !s.charge(c, RateRecoveries, n) {
		return nil
	}
	known := s.identities.of(c)
	s.identities.set(known, who)
	if who.User != "" && !s.takeUser(known) {
		s.end(c, ReasonUserConnections)
		return nil
	}
	known.ends = s.connectionEnds(who.ExpireAt)
	if len(names) > 0 {
		s.serveChannels(c, id, r, names)
		return nil
	}
	return &protocol.Reply{Id: id, Connect: s.connectResult(c)}
}

// connectAnybody is connectCommand where clients have no identity.
func (s *Shard) connectAnybody(c *conn, id uint32, r *protocol.ConnectRequest) *protocol.Reply {
	s.ignoreToken(r.Token)
	if len(r.Subs) == 0 {
		return &protocol.Reply{Id: id, Connect: s.connect(c)}
	}
	return s.join(c, id, r, &Identity{})
}

// connectResult makes c, whose identity is known, joined, and returns the result of its connect command.
func (s *Shard) connectResult(c *conn) *protocol.ConnectResult {
	id := s.identities.of(c)
	if id.who.User != "" {
		s.setUser(c, id.who.User)
	}
	result := s.connect(c)
	if id.who.Data != nil || id.who.SubData != nil {
		result.Data = id.who.Data
		s.identities.set(id, id.who.withoutData())
	}
	if at := id.ends.at; !at.IsZero() && !id.who.Asked && !s.opts.Calls.serves(CallRefresh) {
		result.Expires, result.Ttl = true, ttlOf(at)
	}
	return result
}

// takeUser counts a connection of id's user, or reports that it has too many.
func (s *Shard) takeUser(id *identity) bool {
	limit := s.opts.Quotas.Limits[QuotaUserConnections].Max
	if limit == 0 || id.counted {
		return true
	}
	user := id.who.User
	if n := s.opts.Quotas.users.add(user, 1); int64(n) > limit && s.exceeded(QuotaUserConnections) {
		s.opts.Quotas.users.add(user, -1)
		return false
	}
	id.counted = true
	return true
}

// refused reports whether c's connect command was refused.
func (s *Shard) refused(c *conn) bool {
	id := s.identities.find(c)
	return id != nil && id.refused
}
