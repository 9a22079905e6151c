package shard

import (
	"slices"
	"strings"

	"github.com/centrifugal/protocol"

	"wsd/internal/proto"
	"wsd/internal/wire"
)

// mayRead reports whether c may read what a channel's stream holds: it is subscribed to it, or may be at once.
func (s *Shard) mayRead(c *conn, channel string) bool {
	if !s.opts.Auth.on() {
		return true
	}
	return s.channels.find(c, channel) >= 0 || s.allows(c, channel, false)
}

// allows reports whether c may have a channel.
func (s *Shard) allows(c *conn, channel string, token bool) bool {
	id := s.identities.find(c)
	return id != nil && id.who != nil && s.opts.Auth.Authority.Allows(id.who, channel, token)
}

// authorizedSubscribe is subscribeCommand where clients have identities: it asks first whether c may have the channel.
func (s *Shard) authorizedSubscribe(c *conn, id uint32, r *protocol.SubscribeRequest) *protocol.Reply {
	switch {
	case !s.opts.Limits.allowName(r.Channel):
		return errorReply(id, proto.ErrBadRequest)
	case s.channels.find(c, r.Channel) >= 0:
		return errorReply(id, proto.ErrAlreadySubscribed)
	case s.allows(c, r.Channel, false):
		return s.subscribeCommand(c, id, r, nil)
	case s.asks(r.Channel) && (r.Token == "" || !s.allows(c, r.Channel, true)):
		return s.askSubscribe(c, id, r)
	case r.Token == "" || !s.allows(c, r.Channel, true):
		return errorReply(id, proto.ErrPermissionDenied)
	}
	s.verify(c, TokenForSubscription, r.Token, func(c *conn, a TokenAnswer) {
		if !c.isClient() {
			return
		}
		s.notify(c)
		var reply *protocol.Reply
		if e := s.grants(c, r.Channel, a); e != nil {
			reply = errorReply(id, e)
		} else {
			reply = s.subscribeCommand(c, id, r, a.Identity)
		}
		if reply != nil {
			s.outlet.sendReply(c, reply)
		}
	})
	return nil
}

// grants returns the error for a subscription token that does not let c have the channel.
func (s *Shard) grants(c *conn, channel string, a TokenAnswer) *proto.Error {
	switch a.Result {
	case TokenOK:
		if a.Identity.Channel == channel && a.Identity.User == s.identities.of(c).who.User {
			return nil
		}
	case TokenExpired:
		return proto.ErrTokenExpired
	case TokenLater:
		return proto.ErrTooManyRequests
	case TokenInvalid, TokenRefused, TokenUnanswered:
	}
	return proto.ErrPermissionDenied
}

// verifying stands for the response to the request of a raw client whose token is being verified: there is none yet.
var verifying = &wire.Reject{Cause: wire.CauseInternal, Status: 500, Body: "BUG: the request waits for its token."}

// authorizeRaw lets a raw client in that may have the channels it names, or returns the response to its request. It
// returns verifying if that comes later, when the request is looked at again.
func (s *Shard) authorizeRaw(c *conn, req *request) error {
	id := s.identities.find(c)
	switch {
	case id == nil && req.token == "" && s.opts.Calls.serves(CallConnect):
		return s.askRaw(c, req.head)
	case id == nil && req.token == "" && !s.opts.Auth.Anonymous:
		return &wire.Reject{Cause: causeUnauthorized, Status: 401, Header: bearer,
			Body: "A token is needed: send it as Authorization: Bearer, as a subprotocol wsd.token.TOKEN, or as " +
				"?token=."}
	case id == nil && req.token == "":
		s.identities.of(c).answer = &TokenAnswer{Result: TokenOK, Identity: &Identity{}}
	case id == nil:
		held := s.verify(c, TokenForConnection, req.token, func(c *conn, a TokenAnswer) {
			s.identities.of(c).answer = &a
		})
		if held {
			return verifying
		}
		return verificationBusy()
	}
	id = s.identities.find(c)
	switch id.answer.Result {
	case TokenOK:
	case TokenLater:
		return verificationBusy()
	case TokenUnanswered:
		return backendAway()
	case TokenExpired:
		return &wire.Reject{Cause: causeUnauthorized, Status: 401, Header: bearer, Body: "The token has expired."}
	case TokenRefused:
		return &wire.Reject{Cause: causeForbidden, Status: 403, Body: "The application refuses this client."}
	default:
		return &wire.Reject{Cause: causeUnauthorized, Status: 401, Header: bearer, Body: "The token is not valid."}
	}
	who := id.answer.Identity
	for _, name := range req.channels {
		if !slices.Contains(who.Channels, name) && !s.opts.Auth.Authority.Allows(who, name, false) {
			return &wire.Reject{Cause: causeForbidden, Status: 403, Body: "A channel is named that this client may " +
				"not have."}
		}
	}
	for _, name := range who.Channels {
		if !slices.Contains(req.channels, name) {
			req.channels = append(req.channels, strings.Clone(name))
		}
	}
	req.who = who
	return nil
}

var bearer = [][2]string{{"WWW-Authenticate", "Bearer"}}

func verificationBusy() *wire.Reject {
	return rejectForNow(causeVerification, 503, "Too many tokens wait to be verified; try again later.",
		retryAfterLeast)
}
