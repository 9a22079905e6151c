package shard

import (
	"errors"
	"fmt"
	"time"

	"github.com/centrifugal/protocol"

	"wsd/internal/proto"
	"wsd/internal/routing"
)

// ending is the error with which a command ends its connection.
type ending struct {
	reason Reason
	text   string // What was wrong, for the client; may be empty.
}

func (e *ending) Error() string { return e.reason.String() + ": " + e.text }

// Commands that end the connection.
var (
	errPongUnasked   = &ending{ReasonBadRequest, "a pong without a ping"}
	errConnectFirst  = &ending{ReasonBadRequest, "the first command must be connect"}
	errConnectTwice  = &ending{ReasonBadRequest, "connect a second time"}
	errNoChannel     = &ending{ReasonBadRequest, "the request names no channel"}
	errNoRequest     = &ending{ReasonBadRequest, "the command has no request that the server knows"}
	errUnknownDelta  = &ending{ReasonBadRequest, "subscribe: the delta type is unknown, must be fossil"}
	errSendNotServed = &ending{ReasonNotAvailable, "send is not served"}
	errEncodeReply   = &ending{ReasonInternal, ""}
)

// commands acts on one frame of the client protocol. The replies go out together, in one frame and before any
// publication that comes later.
func (s *Shard) commands(c *conn, frame []byte) {
	if limit := commandsMax(s.opts.Limits.ChannelsMax); c.speaks().encoding.Count(frame) > limit {
		s.endSaying(c, ReasonBadRequest, fmt.Sprintf("more than %d commands in a message (client.channels_max)", limit))
		return
	}
	if rest := s.runCommands(c, frame); len(rest) > 0 {
		s.inbound.keepCommands(c, rest)
	}
}

// runCommands acts on commands of a message, as many as c's share of the turn allows, and returns the others. Their
// replies go out together as well.
func (s *Shard) runCommands(c *conn, frame []byte) (rest []byte) {
	d := c.speaks()
	s.replies = s.replies[:0]
	var err error
	n := 0
	for more := true; more && err == nil; more = len(frame) > 0 && c.input != inputHeld && !s.work.enough() {
		var cmd *protocol.Command
		before := len(frame)
		if cmd, frame, err = d.encoding.Next(frame); err == nil {
			err = s.command(c, cmd)
		}
		if c.input == inputHeld {
			s.inbound.hold(c, before-len(frame))
		}
		s.work.spend(unitsCommand + (before-len(frame))/bytesUnitCommand)
		n += 1 + (before-len(frame))/bytesPerCommand
	}
	if len(s.replies) > 0 {
		s.outlet.queueReply(c, chunk{bytes: d.frame(s.replies)})
	}
	if err != nil {
		end, ok := errors.AsType[*ending](err)
		if !ok {
			end = &ending{ReasonBadRequest, err.Error()}
		}
		s.endSaying(c, end.reason, end.text)
		return nil
	}
	if !c.isClient() || !s.charge(c, RateCommands, n) {
		return nil
	}
	return frame
}

// bytesPerCommand is how many bytes of a command count as one more.
const bytesPerCommand = 4 << 10

// commandsMax returns how many commands one message may have. A client that reconnects subscribes to all its channels
// in one message, and one that has more than it may is to get an error for each beyond, not to lose its connection.
func commandsMax(channelsMax int) int { return 2048 + 2*channelsMax }

// command acts on one command, as Centrifugo does: what violates the protocol ends the connection, also a request that
// the server does not know, and what is not served gets an error. The first command must be connect. Of several
// requests in one command, the first of those below counts. A connection that has failed meanwhile does nothing any
// longer.
func (s *Shard) command(c *conn, cmd *protocol.Command) error {
	s.stats.Commands.Add(1)
	reply := &protocol.Reply{Id: cmd.Id}
	switch {
	case !c.isClient():
		return nil
	case cmd.Id == 0 && cmd.Send == nil: // The decoder lets nothing else through without an id: a pong.
		if c.nativePing || !s.pings.pong(c) {
			return errPongUnasked
		}
		return nil
	case c.known&knownIdentity != 0 && s.refused(c):
		return errConnectRefused
	case c.state == stateJoining && cmd.Connect == nil:
		return errConnectFirst
	case c.state == stateJoined && cmd.Connect != nil:
		return errConnectTwice
	case proto.NoChannel(cmd):
		return errNoChannel
	case !proto.ValidNames(cmd):
		reply.Error = proto.ErrBadRequest.Reply()
	case cmd.Connect != nil && s.opts.Auth.on():
		s.keepEmulated(c, cmd.Connect.Headers)
		if reply = s.connectCommand(c, cmd.Id, cmd.Connect); reply == nil {
			return nil // It comes later, or c has ended.
		}
	case cmd.Connect != nil:
		s.keepEmulated(c, cmd.Connect.Headers)
		if reply = s.connectAnybody(c, cmd.Id, cmd.Connect); reply == nil {
			return nil // It comes later, or c has ended.
		}
	case cmd.Subscribe != nil:
		if cmd.Subscribe.Recover {
			if end := s.overRate(c, RateRecoveries, 1); end != nil {
				return end
			}
		}
		if r := cmd.Subscribe; r.Type == typeStream && r.Delta != "" && r.Delta != deltaFossil {
			return errUnknownDelta
		}
		s.notify(c)
		subscribe := s.authorizedSubscribe
		if !s.opts.Auth.on() {
			s.ignoreToken(cmd.Subscribe.Token)
			subscribe = s.subscribeAnybody
		}
		if reply = subscribe(c, cmd.Id, cmd.Subscribe); reply == nil {
			return nil // It comes later.
		}
	case cmd.Unsubscribe != nil:
		s.notify(c)
		s.unsubscribeCommand(c, cmd.Unsubscribe.Channel)
		reply.Unsubscribe = &protocol.UnsubscribeResult{}
	case cmd.Publish != nil:
		if reply = s.publishCommand(c, cmd.Id, cmd.Publish); reply == nil {
			return nil // It comes later.
		}
	case cmd.Presence != nil, cmd.PresenceStats != nil:
		reply.Error = proto.ErrNotAvailable.Reply() // Known, but not served.
	case cmd.History != nil:
		if end := s.overRate(c, RateRecoveries, 1); end != nil {
			return end
		}
		if reply = s.historyCommand(c, cmd.Id, cmd.History); reply == nil {
			return nil // It comes later.
		}
	case cmd.Rpc != nil:
		if reply = s.rpcCommand(c, cmd.Id, cmd.Rpc); reply == nil {
			return nil // It comes later.
		}
	case cmd.Send != nil:
		return s.sendCommand(c, cmd.Send)
	case cmd.Refresh != nil && s.opts.Auth.on():
		return s.refreshCommand(c, cmd.Id, cmd.Refresh)
	case cmd.SubRefresh != nil && s.opts.Auth.on():
		s.notify(c)
		if reply = s.subRefreshCommand(c, cmd.Id, cmd.SubRefresh); reply == nil {
			return nil // It comes later.
		}
	case cmd.Refresh != nil, cmd.SubRefresh != nil:
		reply.Error = proto.ErrNotAvailable.Reply()
	default: // Also a ping, which only servers send.
		return errNoRequest
	}
	return s.reply(c.speaks().encoding, reply)
}

// reply appends r to the replies of the frame.
func (s *Shard) reply(e *proto.Encoding, r *protocol.Reply) error {
	if len(s.replies) > 0 {
		s.replies = append(s.replies, e.Separator...)
	}
	out, err := e.AppendReply(s.replies, r)
	if err != nil {
		s.opts.Logger.Error("BUG: encode reply", "error", err)
		return errEncodeReply
	}
	s.replies = out
	return nil
}

func (s *Shard) connect(c *conn) *protocol.ConnectResult {
	c.state = stateJoined
	s.scheduleEnd(c)
	s.pings.schedule(c)
	result := &protocol.ConnectResult{
		Client:  s.clientID(c),
		Version: s.opts.Version,
	}
	if !c.nativePing {
		result.Ping, result.Pong = uint32(max(1, s.opts.Limits.PingInterval/time.Second)), true
	}
	return result
}

// clientID returns the id by which the client protocol knows c.
func (s *Shard) clientID(c *conn) string {
	return string(s.opts.ClientIDs.Of(routing.MakeConnID(s.opts.ID, c.generation, c.slot)).Append(nil))
}

// Types of subscriptions (SubscribeRequest.type). Type 4 is a shared poll.
const (
	typeStream   = 0 // Publications, the only one that is served.
	typeMap      = 1
	typeMapUsers = 3 // The last kind of map.
)

// deltaFossil is the one type of delta compression in the protocol. A reply without delta declines it: whoever asked
// gets whole publications.
const deltaFossil = "fossil"

// subscribeAnybody is subscribeCommand where clients have no identity.
func (s *Shard) subscribeAnybody(c *conn, id uint32, r *protocol.SubscribeRequest) *protocol.Reply {
	return s.subscribeCommand(c, id, r, nil)
}

// subscribeCommand subscribes c, which may have the channel: by grant, which is the subscription's own token or what
// the backend said, or without one if that is nil. It returns nil when the reply comes later.
func (s *Shard) subscribeCommand(
	c *conn, id uint32, r *protocol.SubscribeRequest, grant *Identity,
) *protocol.Reply {
	refusal := (*proto.Error)(nil)
	switch {
	case !s.opts.Limits.allowName(r.Channel):
		refusal = proto.ErrBadRequest
	case r.Type != typeStream && (r.Type < typeMap || r.Type > typeMapUsers): // Shared polls and what is to come.
		refusal = proto.ErrNotAvailable
	case s.channels.find(c, r.Channel) >= 0:
		refusal = proto.ErrAlreadySubscribed
	case s.overSubscriptions(len(c.subs) - c.firstChannel() + 1):
		refusal = proto.ErrLimitExceeded
	case s.opts.CanFeed != nil && !s.opts.CanFeed(r.Channel):
		refusal = proto.ErrUnknownChannel
	case r.Type != typeStream: // No channel is a map.
		refusal = proto.ErrPermissionDenied
	case r.Tf != nil: // No channel allows filters.
		refusal = proto.ErrBadRequest
	case r.Recover && s.opts.Recovery.Recoverer != nil && !s.channels.settled(r.Channel):
		refusal = &notYet
	}
	if refusal == nil {
		refusal = s.refuseChannel(r.Channel)
	}
	if refusal != nil {
		return errorReply(id, refusal)
	}
	result := s.recoveries.subscribed(s.channels.subscribe(c, r.Channel))
	if grant != nil {
		e := s.grantEnds(grant.ExpireAt)
		s.identities.grant(c, c.subs[len(c.subs)-1].channel, e, grant.Info)
		if result.Data = grant.Data; !grant.Asked && !s.opts.Calls.serves(CallSubRefresh) {
			s.setExpiry(result, e.at)
		}
		s.endsBy(c, e.end)
	}
	if r.Recover {
		return s.recoveries.beginRecovery(c, id, r, result)
	}
	return &protocol.Reply{Id: id, Subscribe: result}
}

// overSubscriptions reports whether a client may not have n subscriptions.
func (s *Shard) overSubscriptions(n int) bool {
	if n > s.opts.Limits.ChannelsMax {
		s.exceeded(QuotaSubscriptions)
		return true
	}
	if limit := s.opts.Quotas.Limits[QuotaSubscriptions]; limit.DryRun && int64(n) > limit.Max {
		s.exceeded(QuotaSubscriptions)
	}
	return false
}

// refuseChannel returns the error for a channel for which there is no room, nil if there is some. A full table mostly
// stays full; a second passes.
func (s *Shard) refuseChannel(channel string) *proto.Error {
	switch exceeded, ok := s.admitsChannels([]string{channel}); {
	case ok:
		return nil
	case exceeded == QuotaChannelsRate:
		return proto.ErrTooManyRequests
	default:
		return proto.ErrLimitExceeded
	}
}

// notYet is for what needs the stream's position while reading has not begun: after a restart clients are back before
// Kafka has answered. They try again by themselves.
var notYet = proto.Error{Code: proto.ErrNotAvailable.Code, Message: "not available yet", Temporary: true}

// errorReply returns the reply to a command that is refused.
func errorReply(command uint32, e *proto.Error) *protocol.Reply {
	return &protocol.Reply{Id: command, Error: e.Reply()}
}

// unsubscribeCommand ends a subscription. If its reply is still to come, that is sent first.
func (s *Shard) unsubscribeCommand(c *conn, channel string) {
	s.takeBackSubscribe(c, channel)
	i := s.channels.find(c, channel)
	if i < 0 {
		return
	}
	index := c.subs[i].channel
	if rec := s.recoveries.of(c, index); rec != nil && !rec.started {
		s.recoveries.failRecovery(c, rec, rec.origin)
		if i = s.channels.find(c, channel); i < 0 { // It was rejected.
			return
		}
	}
	// The reply overtakes what waits: nothing of the channel may come after it.
	s.sender.dropChannel(&c.out, index)
	s.outlet.markDirty(c)
	s.channels.unsubscribe(c, i, false)
}

// ignoreToken notes that a client relies on a token that nobody looks at.
func (s *Shard) ignoreToken(token string) {
	if token != "" && s.opts.TokenIgnored != nil {
		s.opts.TokenIgnored()
	}
}
