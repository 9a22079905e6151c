package shard

import (
	"github.com/centrifugal/protocol"

	"wsd/internal/proto"
)

// rpcCommand calls a method of the backend. It returns nil when the reply comes later.
func (s *Shard) rpcCommand(c *conn, id uint32, r *protocol.RPCRequest) *protocol.Reply {
	if !s.opts.Calls.serves(CallRPC) {
		return errorReply(id, proto.ErrNotAvailable)
	}
	k := s.newCall(c, CallRPC)
	k.Method, k.Data = r.Method, r.Data
	d := c.speaks()
	var frame []byte
	var failed error
	e := s.call(c, k, callWay{
		prepare: func(a *CallAnswer) int {
			reply := &protocol.Reply{Id: id}
			if a.Error != nil {
				reply.Error = a.Error.Reply()
			} else {
				reply.Rpc = &protocol.RPCResult{Data: a.Data}
			}
			var payload []byte
			if payload, failed = d.encoding.AppendReply(nil, reply); failed == nil {
				frame = d.frame(payload)
			}
			return len(frame)
		},
		answered: func(c *conn, a *CallAnswer, room bool) {
			switch {
			case a.Disconnect != nil:
				s.endForBackend(c, a.Disconnect)
			case failed != nil:
				s.outlet.encodeFailed(c, failed)
			case !room:
				s.outlet.sendReply(c, errorReply(id, proto.ErrInternal))
			default:
				s.outlet.queueReply(c, chunk{bytes: frame, kind: kindAnswer})
			}
		},
	})
	if e != nil {
		return errorReply(id, e)
	}
	return nil
}

// sendCommand gives the backend a message, for which there is no reply.
func (s *Shard) sendCommand(c *conn, r *protocol.SendRequest) error {
	switch {
	case s.opts.Calls.serves(CallSend):
	case s.opts.Calls.IgnoreSend:
		s.stats.Sends[SendIgnored].Add(1)
		return nil
	default:
		return errSendNotServed // It has no reply that could say so.
	}
	k := s.newCall(c, CallSend)
	k.Data = r.Data
	e := s.call(c, k, callWay{answered: func(c *conn, a *CallAnswer, _ bool) {
		switch {
		case a.Disconnect != nil:
			s.stats.Sends[SendTaken].Add(1)
			s.endForBackend(c, a.Disconnect)
		case a.Failed:
			s.stats.Sends[SendFailed].Add(1)
		default:
			s.stats.Sends[SendTaken].Add(1)
		}
	}})
	if e != nil {
		s.stats.Sends[SendFailed].Add(1)
	}
	return nil
}
