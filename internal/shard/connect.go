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
		if s.opts.Auth.Anonymous {
			return s.join(c, id, &Identity{})
		}
		return s.refuseConnect(c, id, proto.ErrUnauthorized)
	}
	s.verify(c, TokenForConnection, r.Token, func(c *conn, a TokenAnswer) {
		if !c.isClient() {
			return
		}
		if reply := s.connectVerified(c, id, a); reply != nil {
			s.outlet.sendReply(c, reply)
		}
	})
	return nil
}

// connectVerified returns the reply to a connect command whose token was verified; nil: c has ended.
func (s *Shard) connectVerified(c *conn, id uint32, a TokenAnswer) *protocol.Reply {
	switch a.Result {
	case TokenOK:
		return s.join(c, id, a.Identity)
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
	return &protocol.Reply{Id: id, Error: e.Reply()}
}

// join makes c the client that who says, and returns the reply to its connect command; nil: c has ended.
func (s *Shard) join(c *conn, id uint32, who *Identity) *protocol.Reply {
	if !s.become(c, who) {
		s.end(c, ReasonUserConnections)
		return nil
	}
	result := s.connect(c)
	if at := s.identities.of(c).ends.at; !at.IsZero() {
		result.Expires, result.Ttl = true, ttlOf(at)
	}
	return &protocol.Reply{Id: id, Connect: result}
}

// become makes c a connection of who's user, until the token expires. It reports false if the user has too many.
func (s *Shard) become(c *conn, who *Identity) bool {
	id := s.identities.of(c)
	s.identities.set(id, who)
	if who.User != "" {
		if !s.takeUser(id) {
			return false
		}
		s.setUser(c, who.User)
	}
	id.ends = s.expiresAt(who.ExpireAt)
	return true
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
