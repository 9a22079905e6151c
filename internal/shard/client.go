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
		if reply = s.subscribeCommand(c, cmd.Id, cmd.Subscribe); reply == nil {
			return nil // It comes later.
		}
	case cmd.Unsubscribe != nil:
		s.tell(c)
		s.unsubscribeCommand(c, cmd.Unsubscribe.Channel)
		reply.Unsubscribe = &protocol.UnsubscribeResult{}
	case cmd.History != nil && cmd.Publish == nil && cmd.Presence == nil && cmd.PresenceStats == nil:
		if reply = s.historyCommand(c, cmd.Id, cmd.History); reply == nil {
			return nil // It comes later.
		}
	case cmd.Publish != nil, cmd.Presence != nil, cmd.PresenceStats != nil:
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

// subscribeCommand subscribes c. It returns nil when the reply comes later.
func (s *Shard) subscribeCommand(c *conn, id uint32, r *protocol.SubscribeRequest) *protocol.Reply {
	refusal := (*proto.Error)(nil)
	switch {
	case r.Channel == "" || len(r.Channel) > s.limits.ChannelLengthMax || !utf8.ValidString(r.Channel):
		refusal = proto.ErrBadRequest
	case r.Type != 0 || r.Tf != nil: // Maps, shared polls and filters are not served.
		refusal = proto.ErrNotAvailable
	case s.find(c, r.Channel) >= 0:
		refusal = proto.ErrAlreadySubscribed
	case len(c.subs)-c.firstChannel() >= s.limits.ChannelsMax:
		refusal = proto.ErrLimitExceeded
	case r.Recover && s.recovery.Recoverer != nil && !s.settled(r.Channel):
		refusal = &notYet
	}
	if refusal != nil {
		return &protocol.Reply{Id: id, Error: refusal.Reply()}
	}
	result := &protocol.SubscribeResult{}
	if offset, epoch, known := s.subscribe(c, r.Channel); known {
		result.Offset, result.Epoch, result.Recoverable = offset, epoch, s.recovery.Recoverer != nil
	}
	if r.Recover {
		return s.recover(c, id, r, result)
	}
	return &protocol.Reply{Id: id, Subscribe: result}
}

// notYet is for what needs the stream's position while reading has not begun: after a restart clients are back sooner than Kafka has
// answered. They try again by themselves.
var notYet = proto.Error{Code: proto.ErrNotAvailable.Code, Message: "not available yet", Temporary: true}

// settled reports whether it is known where the channel's stream is, or that it has none.
func (s *Shard) settled(channel string) bool {
	_, _, known := s.positions.Position(channel)
	return known || s.positions.Settled(channel)
}

// unsubscribeCommand ends a subscription. One whose reply is still to come gets it first.
func (s *Shard) unsubscribeCommand(c *conn, channel string) {
	index, ok := s.channelIndex[channel]
	if !ok {
		return
	}
	if rec := s.recoverings[recoveringKey{c.slot, index}]; rec != nil {
		s.failRecovering(rec)
	}
	if i := s.find(c, channel); i >= 0 {
		s.unsubscribe(c, i)
	}
}
