package shard

import (
	"errors"
	"time"
	"unicode/utf8"

	"github.com/centrifugal/protocol"

	"wsd/internal/proto"
	"wsd/internal/routing"
	"wsd/internal/wire"
)

// flagRejectUnrecovered asks for error 112 instead of a subscription that has not recovered (protocol.md A7).
const flagRejectUnrecovered = 1 << 1

// ending is the error with which a command ends its connection.
type ending Reason

func (e ending) Error() string { return Reason(e).String() }

// commands acts on one frame of the client protocol. The replies go out together, in one frame and before any publication that
// comes later.
func (s *Shard) commands(c *conn, frame []byte) {
	e := encodings[c.variant]
	s.replies = s.replies[:0]
	err := e.Decode(frame, func(cmd *protocol.Command) error { return s.command(c, cmd) })
	if len(s.replies) > 0 {
		s.queueReply(c, chunk{bytes: wire.AppendFrame(make([]byte, 0, headerMax+len(s.replies)), opOf(e), s.replies)})
	}
	if err == nil {
		return
	}
	reason := ReasonBadRequest
	if end := ending(0); errors.As(err, &end) {
		reason = Reason(end)
	}
	s.end(c, reason)
}

// command acts on one command. The first must be connect; of several requests in one command the first in the protocol's order
// counts (protocol.md A2).
func (s *Shard) command(c *conn, cmd *protocol.Command) error {
	s.stats.Commands.Add(1)
	reply := &protocol.Reply{Id: cmd.Id}
	switch {
	case cmd.Id == 0 && cmd.Send == nil: // The decoder lets nothing else through without an id: a pong.
		if c.nativePing || !s.pong(c) {
			return ending(ReasonBadRequest)
		}
		return nil
	case (c.state == stateJoining) != (cmd.Connect != nil):
		return ending(ReasonBadRequest)
	case cmd.Connect != nil:
		reply.Connect = s.connect(c)
	case cmd.Subscribe != nil:
		s.tell(c)
		result, refusal := s.subscribeCommand(c, cmd.Subscribe)
		if refusal != nil {
			reply.Error = refusal.Reply()
		} else {
			reply.Subscribe = result
		}
	case cmd.Unsubscribe != nil:
		s.tell(c)
		if i := s.find(c, cmd.Unsubscribe.Channel); i >= 0 {
			s.unsubscribe(c, i)
		}
		reply.Unsubscribe = &protocol.UnsubscribeResult{}
	case cmd.Publish != nil, cmd.Presence != nil, cmd.PresenceStats != nil, cmd.History != nil:
		reply.Error = proto.ErrMethodNotFound.Reply()
	case cmd.Ping != nil:
		reply.Ping = &protocol.PingResult{}
	case cmd.Send != nil:
		return ending(ReasonNotAvailable) // It has no reply that could say so.
	default:
		reply.Error = proto.ErrMethodNotFound.Reply()
	}
	return s.reply(encodings[c.variant], reply)
}

// reply puts r behind the other replies of the frame.
func (s *Shard) reply(e *proto.Encoding, r *protocol.Reply) error {
	if len(s.replies) > 0 {
		s.replies = append(s.replies, e.Separator...)
	}
	out, err := e.AppendReply(s.replies, r)
	if err != nil {
		s.logger.Error("BUG: encode reply", "error", err)
		return ending(ReasonInternal)
	}
	s.replies = out
	return nil
}

func (s *Shard) connect(c *conn) *protocol.ConnectResult {
	c.state = stateJoined
	c.deadline = 0
	s.schedulePings(c)
	result := &protocol.ConnectResult{
		Client:  string(routing.AppendClientID(nil, s.nonce, routing.MakeConnID(s.id, c.generation, c.slot))),
		Version: s.version,
	}
	if !c.nativePing {
		result.Ping, result.Pong = uint32(max(1, s.limits.PingInterval/time.Second)), true
	}
	return result
}

// subscribeCommand subscribes c. A client that wants to recover is told that it has not (protocol.md A7); the position, where one
// is known, tells it what it gets.
func (s *Shard) subscribeCommand(c *conn, r *protocol.SubscribeRequest) (*protocol.SubscribeResult, *proto.Error) {
	switch {
	case r.Channel == "" || len(r.Channel) > s.limits.ChannelLengthMax || !utf8.ValidString(r.Channel):
		return nil, proto.ErrBadRequest
	case r.Type != 0 || r.Tf != nil: // Maps, shared polls and filters are not served.
		return nil, proto.ErrNotAvailable
	case s.find(c, r.Channel) >= 0:
		return nil, proto.ErrAlreadySubscribed
	case len(c.subs)-c.firstChannel() >= s.limits.ChannelsMax:
		return nil, proto.ErrLimitExceeded
	case r.Recover && r.Flag&flagRejectUnrecovered != 0:
		return nil, proto.ErrUnrecoverablePosition
	}
	result := &protocol.SubscribeResult{WasRecovering: r.Recover}
	if offset, epoch, known := s.subscribe(c, r.Channel); known {
		result.Offset, result.Epoch = offset, epoch
	}
	return result, nil
}
