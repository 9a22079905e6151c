package shard

import (
	"bytes"
	"time"

	"github.com/centrifugal/protocol"

	"wsd/internal/bus"
	"wsd/internal/proto"
)

// Publisher has publications of clients written to Kafka, from where they come back like other records.
type Publisher interface {
	// Allows reports whether a client may publish to a channel. Any shard's goroutine calls it.
	Allows(who *Identity, channel string) bool
	// Publish writes p. An error means that it is refused, and that done is never called; otherwise done is called
	// once, from any goroutine, with nil when Kafka has acknowledged it. Neither blocks. Any shard's goroutine calls
	// it.
	Publish(p Publication, done func(*proto.Error)) *proto.Error
}

// Publication is something that a client publishes. The Publisher keeps Data.
type Publication struct {
	Channel      string
	Data         []byte
	JSON         bool   // The client speaks JSON, so that Data has to be JSON.
	Client, User string // Who publishes.
	// What others may know of the client, and of it in this channel, as JSON; nil: nothing. They never change.
	ConnInfo, ChanInfo []byte
}

// PublishOptions is what clients may publish.
type PublishOptions struct {
	// Publisher writes publications. Nil: publishing is not available.
	Publisher Publisher
	// Raw lets raw clients name a channel to which what they send is published.
	Raw bool
}

// publishOverhead is what a publication under way takes beside its bytes, roughly.
const publishOverhead = 600

// publishWindow is for how long a client may save up its rate of publications.
const publishWindow = 2 * time.Second

// publisher is what the shard knows of a connection that publishes, by slot.
type publisher struct {
	whole    uint32 // When its allowance is whole again, like conn.whole.
	underWay int32  // Publications whose outcome is not known.
	channel  string // Of a raw client: where what it sends is published.
}

// publishers are the connections that publish.
type publishers map[uint32]publisher

// publishCommand publishes for a client of the protocol. It returns nil when the reply comes later.
func (s *Shard) publishCommand(c *conn, id uint32, r *protocol.PublishRequest) *protocol.Reply {
	refuse := func(e *proto.Error) *protocol.Reply {
		s.stats.PublishRefused.Add(1)
		return errorReply(id, e)
	}
	switch {
	case s.opts.Publish.Publisher == nil || r.Type != typeStream:
		return refuse(proto.ErrNotAvailable)
	case !s.opts.Limits.allowName(r.Channel) || len(r.Data) == 0:
		return refuse(proto.ErrBadRequest)
	case !s.opts.Publish.Publisher.Allows(s.who(c), r.Channel):
		return refuse(proto.ErrPermissionDenied)
	}
	if e := s.publish(c, r.Channel, r.Data, func(s *Shard, c *conn, e *proto.Error) {
		reply := &protocol.Reply{Id: id, Publish: &protocol.PublishResult{}}
		if e != nil {
			reply = errorReply(id, e)
		}
		s.outlet.sendReply(c, reply)
	}); e != nil {
		return refuse(e)
	}
	return nil
}

// publish has data written that c may publish to a channel. An error means that nothing is written; otherwise answered
// is called with the outcome, unless c has ended.
func (s *Shard) publish(
	c *conn, channel string, data []byte, answered func(s *Shard, c *conn, e *proto.Error),
) *proto.Error {
	if e := s.admitPublication(c); e != nil {
		return e
	}
	work := s.inbox.begin(c)
	if work == nil {
		return proto.ErrTooManyRequests
	}
	s.work.spend(unitsAsk + len(data)/bytesUnitCommand)
	who := s.who(c)
	p := Publication{
		Channel: channel, Data: bytes.Clone(data), JSON: c.variant == bus.VariantJSON, Client: s.clientID(c),
		User: who.User, ConnInfo: who.Info, ChanInfo: s.channelInfo(c, channel),
	}
	size := int64(publishOverhead + len(channel) + len(data) + len(p.ConnInfo) + len(p.ChanInfo))
	memory, stats := s.opts.Memory, s.stats
	memory.add(size)
	e := s.opts.Publish.Publisher.Publish(p, func(e *proto.Error) {
		memory.add(-size)
		if e == nil {
			stats.Published.Add(1)
		} else {
			stats.PublishFailed.Add(1)
		}
		work.post(0, false, func(c *conn, _ bool) {
			s.publicationEnds(c)
			answered(s, c, e)
		})
	})
	if e != nil {
		memory.add(-size)
		s.inbox.done(1) // Nothing will be posted.
		return e
	}
	one := s.publishers[c.slot]
	one.underWay++
	s.publishers[c.slot] = one
	return nil
}

// admitPublication takes one publication off the allowance of c, or returns why it may not publish now.
func (s *Shard) admitPublication(c *conn) *proto.Error {
	one := s.publishers[c.slot]
	if most := s.opts.Quotas.Limits[QuotaPublishUnderWay].Max; most > 0 && int64(one.underWay) >= most &&
		s.exceeded(QuotaPublishUnderWay) {
		return proto.ErrTooManyRequests
	}
	if perSecond := s.opts.Quotas.Limits[QuotaPublishRate].Max; perSecond > 0 {
		cost := max(int64(time.Second/allowanceUnit)/perSecond, 1)
		whole, ok := spendAllowance(one.whole, s.allowanceNow(), cost, int64(publishWindow/allowanceUnit))
		if !ok && s.exceeded(QuotaPublishRate) {
			return proto.ErrTooManyRequests
		}
		if ok {
			one.whole = whole
		}
	}
	if s.opts.Memory.over(tightPart) && s.exceeded(QuotaMemory) {
		return &publishLater
	}
	if s.publishers == nil {
		s.publishers = make(publishers)
	}
	s.publishers[c.slot] = one
	return nil
}

// publishLater is for a publication for which there is no memory.
var publishLater = proto.Error{Code: proto.ErrInternal.Code, Message: "there is no memory for it now", Temporary: true}

// publicationEnds notes that the outcome of a publication of c is known.
func (s *Shard) publicationEnds(c *conn) {
	if one, ok := s.publishers[c.slot]; ok {
		one.underWay--
		s.publishers[c.slot] = one
	}
}
