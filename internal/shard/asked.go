package shard

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/centrifugal/protocol"

	"wsd/internal/proto"
	"wsd/internal/wire"
)

// The backend may say who clients are, which channels they may have, and for how long. What it is asked goes the way of
// tokens: it stands before what is done (invariant 28).

// askConnect asks the backend who c is. The reply to the connect command comes later, unless it is returned.
func (s *Shard) askConnect(c *conn, id uint32, r *protocol.ConnectRequest) *protocol.Reply {
	k := s.newCall(c, CallConnect)
	k.Name, k.Version, k.Data = r.Name, r.Version, r.Data
	k.Channels = slices.Sorted(maps.Keys(r.Subs))
	e := s.call(c, k, callWay{hold: true, answered: func(c *conn, a *CallAnswer, _ bool) {
		if !c.isClient() {
			return
		}
		if reply := s.connectAnswered(c, id, r, a); reply != nil {
			s.outlet.sendReply(c, reply)
		}
	}})
	if e != nil {
		return s.refuseConnect(c, id, e)
	}
	return nil
}

// keepEmulated keeps the fields that c's connect command names for those that a browser cannot send. Calls have them
// like those of the upgrade request, which come first.
func (s *Shard) keepEmulated(c *conn, fields map[string]string) {
	if len(fields) == 0 || s.opts.Calls.Backend == nil || len(s.opts.Calls.Emulated) == 0 {
		return
	}
	var header [][2]string
	if of := s.calls.find(c); of != nil {
		header = slices.Clone(of.header)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		lower := strings.ToLower(name)
		i := slices.Index(s.opts.Calls.Emulated, lower)
		has := func(f [2]string) bool { return f[0] == lower }
		if i >= 0 && !slices.ContainsFunc(header, has) && wire.FieldValue(fields[name]) {
			header = append(header, [2]string{s.opts.Calls.Emulated[i], strings.Clone(fields[name])})
		}
	}
	s.calls.keepHeader(c, header)
}

// connectAnswered returns the reply to a connect command that the backend was asked about; nil: c has ended, or the
// reply is sent or comes later.
func (s *Shard) connectAnswered(c *conn, id uint32, r *protocol.ConnectRequest, a *CallAnswer) *protocol.Reply {
	switch {
	case a.Disconnect != nil:
		s.endForBackend(c, a.Disconnect)
		return nil
	case a.Error != nil:
		return s.refuseConnect(c, id, a.Error)
	case !a.Given && s.opts.Auth.Anonymous:
		return s.join(c, id, r, &Identity{})
	case !a.Given:
		return s.refuseConnect(c, id, proto.ErrUnauthorized)
	case hasPassed(a.Identity.ExpireAt):
		return s.refuseConnect(c, id, proto.ErrExpired)
	}
	return s.join(c, id, r, a.Identity)
}

// hasPassed reports whether a time at which something expires has passed.
func hasPassed(at time.Time) bool { return !at.IsZero() && !time.Now().Before(at) }

// askRaw asks the backend who the raw client c is, whose request is looked at again when it has answered. It returns
// verifying, or the response to the request.
func (s *Shard) askRaw(c *conn, head []byte) error {
	k := s.newCall(c, CallConnect)
	k.Header = wire.Fields(head, s.opts.Calls.Headers)
	e := s.call(c, k, callWay{hold: true, answered: func(c *conn, a *CallAnswer, _ bool) {
		answer := &TokenAnswer{Result: TokenRefused}
		switch {
		case a.Failed:
			answer.Result = TokenUnanswered
		case a.Error != nil, a.Disconnect != nil, a.Given && hasPassed(a.Identity.ExpireAt):
		case a.Given:
			answer = &TokenAnswer{Result: TokenOK, Identity: a.Identity.withoutData()}
		case s.opts.Auth.Anonymous:
			answer = &TokenAnswer{Result: TokenOK, Identity: &Identity{}}
		}
		s.identities.of(c).answer = answer
	}})
	if e != nil {
		return backendAway()
	}
	return verifying
}

// backendAway is the response to a raw client about whom the backend cannot be asked, or says nothing.
func backendAway() *wire.Reject {
	return rejectForNow(causeVerification, 503, "The application that knows its clients does not answer; try again "+
		"later.", retryAfterLeast)
}

// withoutData returns who without what is for the client alone, which it has got.
func (who *Identity) withoutData() *Identity {
	if who.Data == nil && who.SubData == nil {
		return who
	}
	kept := *who
	kept.Bytes -= len(who.Data)
	for name, data := range who.SubData {
		kept.Bytes -= len(name) + len(data)
	}
	kept.Data, kept.SubData = nil, nil
	return &kept
}

// asks reports whether the backend decides whether c may have a channel.
func (s *Shard) asks(channel string) bool {
	return s.opts.Calls.serves(CallSubscribe) && s.opts.Calls.Backend.Decides(channel)
}

// askSubscribe asks the backend whether c may subscribe to a channel. It returns nil when the reply comes later.
func (s *Shard) askSubscribe(c *conn, id uint32, r *protocol.SubscribeRequest) *protocol.Reply {
	switch {
	case s.calls.pending(c, r.Channel) != nil:
		return errorReply(id, proto.ErrAlreadySubscribed)
	case s.overSubscriptions(len(c.subs) - c.firstChannel() + s.calls.pendingCount(c) + 1):
		return errorReply(id, proto.ErrLimitExceeded)
	case s.opts.CanFeed != nil && !s.opts.CanFeed(r.Channel):
		return errorReply(id, proto.ErrUnknownChannel)
	}
	k := s.newCall(c, CallSubscribe)
	k.Channel, k.Token, k.Data = r.Channel, r.Token, r.Data
	e := s.call(c, k, callWay{command: id, answered: func(c *conn, a *CallAnswer, _ bool) {
		s.notify(c)
		var reply *protocol.Reply
		switch {
		case a.Disconnect != nil:
			s.endForBackend(c, a.Disconnect)
		case a.Error != nil:
			reply = errorReply(id, a.Error)
		case hasPassed(a.ExpireAt):
			reply = errorReply(id, proto.ErrExpired)
		default:
			reply = s.subscribeCommand(c, id, r, &Identity{ExpireAt: a.ExpireAt, Data: a.Data, Asked: true})
		}
		if reply != nil {
			s.outlet.sendReply(c, reply)
		}
	}})
	if e != nil {
		return errorReply(id, e)
	}
	return nil
}

// errTakenBack is for a subscribe command whose subscription the client has ended before there was an answer.
var errTakenBack = proto.Error{Code: proto.ErrInternal.Code, Message: "unsubscribed meanwhile", Temporary: true}

// takeBackSubscribe ends c's call for a subscription to a channel, if there is one, and replies to its command.
func (s *Shard) takeBackSubscribe(c *conn, channel string) {
	if u := s.calls.pending(c, channel); u != nil {
		u.over = true
		u.cancel()
		s.outlet.sendReply(c, errorReply(u.command, &errTakenBack))
	}
}

// refreshAgain is how long a connection or subscription goes on whose backend cannot say whether it may, as
// Centrifugo has it. Then it is asked again.
const refreshAgain = time.Minute

// asksAt returns when the backend is asked whether what expires at a time may go on.
func (s *Shard) asksAt(at time.Time) expiry {
	if at.IsZero() {
		return expiry{}
	}
	return expiry{at: at, end: s.endTick(at)}
}

// askDue reports whether the backend is to be asked about what e stands for, and has it asked again in refreshAgain.
func (s *Shard) askDue(e *expiry) bool {
	switch {
	case e.end == 0 || s.tick < e.end:
		return false
	case time.Now().Before(e.at):
		e.end = s.endTick(e.at)
		return false
	}
	e.end = s.endTick(time.Now().Add(refreshAgain))
	return true
}

// askRefresh asks the backend whether c may go on.
func (s *Shard) askRefresh(c *conn) {
	k := s.newCall(c, CallRefresh)
	asked := s.identities.of(c).who
	// If it cannot be asked now, it is in refreshAgain.
	_ = s.call(c, k, callWay{server: true, answered: func(c *conn, a *CallAnswer, _ bool) {
		if !c.isClient() {
			return
		}
		id := s.identities.of(c)
		switch {
		case id.who != asked:
			return // The client has another token meanwhile, which says when it expires.
		case a.Disconnect != nil:
			s.endForBackend(c, a.Disconnect)
			return
		case a.Failed:
			id.ends = s.asksAt(time.Now().Add(refreshAgain))
		case a.Expired || !a.Given || hasPassed(a.Identity.ExpireAt):
			s.end(c, ReasonExpired)
			return
		default:
			s.identities.set(id, id.who.refreshed(a.Identity))
			id.ends = s.asksAt(a.Identity.ExpireAt)
		}
		s.rescheduleEnd(c)
	}})
}

// refreshed returns who with what the backend says anew.
func (who *Identity) refreshed(by *Identity) *Identity {
	next := *who
	next.ExpireAt = by.ExpireAt
	if by.Info != nil {
		next.Bytes += len(by.Info) - len(next.Info)
		next.Info = by.Info
	}
	if by.Meta != nil {
		next.Bytes += len(by.Meta) - len(next.Meta)
		next.Meta = by.Meta
	}
	return &next
}

// askSubRefresh asks the backend whether a subscription of c may go on, or does so in a second if c has too many calls.
func (s *Shard) askSubRefresh(c *conn, channel uint32, g *grant) {
	if of := s.calls.find(c); of != nil && len(of.list) >= s.opts.Calls.Max {
		g.end = s.endTick(time.Now().Add(time.Second))
		return
	}
	k := s.newCall(c, CallSubRefresh)
	k.Channel = s.channels.list[channel].name
	_ = s.call(c, k, callWay{server: true, answered: func(c *conn, a *CallAnswer, _ bool) {
		if !c.isClient() {
			return
		}
		i := s.channels.find(c, k.Channel)
		if i < 0 || s.identities.of(c).granted[c.subs[i].channel] != g {
			return // It has ended meanwhile, and may have begun anew.
		}
		channel, next := c.subs[i].channel, s.asksAt(a.ExpireAt)
		info := s.identities.of(c).granted[channel].info
		if a.Identity != nil && a.Identity.Info != nil {
			info = a.Identity.Info
		}
		switch {
		case a.Disconnect != nil:
			s.endForBackend(c, a.Disconnect)
			return
		case a.Failed:
			next = s.asksAt(time.Now().Add(refreshAgain))
		case a.Expired || !a.Given || hasPassed(a.ExpireAt):
			s.revoke(c, channel, proto.UnsubscribeExpired)
			return
		}
		s.identities.grant(c, channel, next, info)
		s.endsBy(c, next.end)
	}})
}
