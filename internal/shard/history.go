package shard

import (
	"github.com/centrifugal/protocol"

	"wsd/internal/bus"
	"wsd/internal/proto"
)

// historyMax is how many history commands of a connection may wait for their answers.
const historyMax = 16

// errTryAgain is for a history that could not be had in time, or for want of room.
var errTryAgain = proto.Error{Code: proto.ErrInternal.Code, Message: "history cannot be read now", Temporary: true}

// historyCommand answers with what the channel's stream holds. It returns nil when the reply comes later.
//
// Without a position the history is that of the last publications. It may reach back less far when they are few in a
// large log. With a position it is what follows it, or reversed what precedes it.
func (s *Shard) historyCommand(c *conn, id uint32, r *protocol.HistoryRequest) *protocol.Reply {
	if !s.opts.Limits.allowName(r.Channel) {
		return errorReply(id, proto.ErrBadRequest)
	}
	if !s.mayRead(c, r.Channel) {
		return errorReply(id, proto.ErrPermissionDenied)
	}
	if s.opts.Recovery.Recoverer == nil {
		return errorReply(id, proto.ErrNotAvailable)
	}
	position, epoch, known := s.opts.Positions.Position(r.Channel)
	switch {
	case !known && !s.opts.Positions.Settled(r.Channel):
		return errorReply(id, &notYet)
	case !known:
		return errorReply(id, proto.ErrNotAvailable)
	case r.Since != nil && r.Since.Epoch != "" && r.Since.Epoch != epoch:
		return errorReply(id, proto.ErrUnrecoverablePosition)
	}
	// SDKs accept no null for a list.
	result := &protocol.HistoryResult{Publications: []*protocol.Publication{}, Epoch: epoch, Offset: position}
	asked := HistoryRange{Limit: int(r.Limit), Reverse: r.Reverse}
	if r.Since != nil {
		asked.Since = &r.Since.Offset
	}
	q := s.opts.Recovery.HistoryQuery(r.Channel, epoch, position, &asked)
	h := &history{command: id, result: result, asked: asked}
	h.last = q.Kind == bus.QueryLast
	if asked.Limit == 0 || q.After >= q.UpTo {
		return &protocol.Reply{Id: id, History: result}
	}
	if s.refusesAnswers() {
		return errorReply(id, &errTryAgain)
	}
	if c.histories == historyMax {
		return errorReply(id, proto.ErrTooManyRequests)
	}
	work := s.inbox.begin(c)
	if work == nil {
		return errorReply(id, &errTryAgain)
	}
	c.histories++
	f := s.flows.of(c)
	q.Owner, q.Address, q.Canceled = s.recoveries.owner(c), f.network, f.gone
	form, d, z := c.form(), c.speaks(), &s.compressor.Deflate
	s.opts.Recovery.Recoverer.Ask(q, func(a bus.Answer) {
		a = s.admit(a)
		k, err := h.reply(form, d, z, a)
		work.post(len(k.bytes), true, func(c *conn, room bool) { s.replyHistory(c, h, k, err, room) })
	})
	return nil
}

// history is a history command that waits for its answer.
type history struct {
	command uint32 // To be replied to.
	result  *protocol.HistoryResult
	asked   HistoryRange
	last    bool // As many of the last as can be had will do.
}

// reply makes the reply for an answer. Any goroutine.
func (h *history) reply(form bus.Variant, d *dialect, z *Deflate, a bus.Answer) (chunk, error) {
	reply := &protocol.Reply{Id: h.command}
	found := len(a.Records) > 0 || !a.More // If not, time was over before the first record.
	enough := a.Result == bus.ResultOK && found ||
		h.last && (len(a.Records) > 0 || a.Result == bus.ResultGone)
	switch {
	case a.Result == bus.ResultEpoch: // The topic was created again meanwhile.
		reply.Error = proto.ErrUnrecoverablePosition.Reply()
	case enough:
		reply.History = h.result
		list := append(h.result.Publications, publicationsOf(d, h.asked.Of(a.Records))...)
		h.result.Publications = Cut(&h.asked, list)
	case a.Result == bus.ResultOK, a.Result == bus.ResultTimeout, a.Result == bus.ResultOverload,
		a.Result == bus.ResultShare, a.Result == bus.ResultError, h.last:
		reply.Error = errTryAgain.Reply()
	default:
		reply.Error = proto.ErrUnrecoverablePosition.Reply()
	}
	payload, err := d.encoding.AppendReply(nil, reply)
	if err != nil {
		return chunk{}, err
	}
	k := chunk{bytes: d.frame(payload), kind: kindAnswer}
	if reply.History != nil {
		k.publications = uint32(len(reply.History.Publications)) // Limited.
		k.bytes = z.frames(form, k.bytes)
	}
	return k, nil
}

// replyHistory sends the reply to a history command.
func (s *Shard) replyHistory(c *conn, h *history, k chunk, err error, room bool) {
	c.histories--
	switch {
	case err != nil:
		s.outlet.encodeFailed(c, err)
		return
	case !room:
		s.outlet.sendReply(c, errorReply(h.command, &errTryAgain))
	default:
		if h.result.Publications != nil && k.publications > 0 {
			s.stats.Histories.Add(1)
		}
		s.outlet.queueReply(c, k)
	}
	if c.hasFlow {
		s.flows.release(c)
	}
}
