package shard

import (
	"slices"
	"time"

	"github.com/centrifugal/protocol"

	"wsd/internal/proto"
	"wsd/internal/routing"
)

// Order is what the server API wants done with connections: with those of a user, or with one of them. Orders never
// change, so that several shards may have the same one.
type Order struct {
	Kind OrderKind
	User string // The connections of this user; empty: of whoever has Conn.
	// One connection. If User is not empty, it must be that user's. HasConn says that it is set.
	Conn    routing.ConnID
	HasConn bool

	Channel string   // Of OrderSubscribe, and of OrderUnsubscribe, where an empty name means all channels.
	Keep    []string // Of OrderDisconnect: ids of clients that stay.

	// Of OrderDisconnect: the code and text of the close frame, from 3000 to 4999. Code 0 means 3503, and 1008 for raw
	// clients. Code 3000 says nothing about why: there is no close frame, as if the connection had been lost.
	Code uint16
	Text string

	// Of OrderSubscribe: what the client gets with the push, and whether it is valid JSON; others than that reach
	// Protobuf clients only. nil: nothing.
	Data     []byte
	DataJSON bool
	// Of OrderSubscribe: send what the channel's stream holds after this position first.
	Recover bool
	Offset  uint64
	Epoch   string

	Names   []string           // Of OrderCount: channels, at most a thousand or so.
	Counted func(counts []int) // Of OrderCount: gets how many subscribers each has here, on the shard's goroutine.

	Expired  bool      // Of OrderRefresh: the connection has expired, and ends.
	ExpireAt time.Time // Of OrderSubscribe and OrderRefresh, with a monotonic reading; zero: never.
}

// OrderKind is what an Order wants done.
type OrderKind uint8

// The kinds of orders.
const (
	OrderDisconnect  OrderKind = iota // Close the connections.
	OrderSubscribe                    // Subscribe them to a channel, as if a token had named it.
	OrderUnsubscribe                  // End a subscription, whoever asked for it.
	OrderRefresh                      // Change when the connections expire.
	orderKinds

	OrderCount // Count the subscribers of channels, and change nothing.
)

// String is the kind's metric label.
func (k OrderKind) String() string {
	return [orderKinds]string{"disconnect", "subscribe", "unsubscribe", "refresh"}[k]
}

// OrderKinds lists every kind.
func OrderKinds() []OrderKind {
	return []OrderKind{OrderDisconnect, OrderSubscribe, OrderUnsubscribe, OrderRefresh}
}

// size returns how many bytes o takes, roughly.
func (o *Order) size() int {
	const own, text = 256, 16
	n := own + len(o.User) + len(o.Channel) + len(o.Text) + len(o.Data) + len(o.Epoch)
	for _, list := range [][]string{o.Keep, o.Names} {
		for _, s := range list {
			n += text + len(s)
		}
	}
	return n
}

// carryOut does what o wants done with c, and reports whether it changed anything.
func (s *Shard) carryOut(c *conn, o *Order) bool {
	switch {
	case o.Kind == OrderDisconnect:
		return s.orderDisconnect(c, o)
	case !c.isMember(): // Its connect command waits: only a disconnect is for it.
		return false
	case o.Kind == OrderSubscribe:
		return s.orderSubscribe(c, o)
	case o.Kind == OrderUnsubscribe:
		return s.orderUnsubscribe(c, o.Channel)
	default:
		return s.orderRefresh(c, o)
	}
}

func (s *Shard) orderDisconnect(c *conn, o *Order) bool {
	if len(o.Keep) > 0 && slices.Contains(o.Keep, s.clientID(c)) {
		return false
	}
	s.work.spendPart(unitsOfEnd(c))
	code, text := c.speaks().closeCode(ReasonOrder)
	if o.Code != 0 {
		code, text = o.Code, o.Text
	}
	s.endAsTold(c, ReasonOrder, code, text)
	return true
}

// orderSubscribe subscribes c to a channel, and pushes that it did. A raw client just gets the channel's values.
func (s *Shard) orderSubscribe(c *conn, o *Order) bool {
	s.work.spendPart(unitsCommand)
	switch {
	case s.channels.find(c, o.Channel) >= 0:
		return false
	case !s.opts.Limits.allowName(o.Channel), s.overSubscriptions(len(c.subs) - c.firstChannel() + 1),
		s.opts.CanFeed != nil && !s.opts.CanFeed(o.Channel), s.refuseChannel(o.Channel) != nil:
		s.stats.OrdersRefused.Add(1)
		return false
	}
	result := s.recoveries.subscribed(s.channels.subscribe(c, o.Channel))
	index := c.subs[len(c.subs)-1].channel
	s.identities.serve(c, index)
	if !o.ExpireAt.IsZero() {
		e := s.grantEnds(o.ExpireAt)
		s.identities.grant(c, index, e, nil)
		s.endsBy(c, e.end)
	}
	if c.speaks().encoding == nil {
		return true
	}
	var rec *recovery
	if o.Recover && result.Recoverable && (o.Epoch == "" || o.Epoch == result.Epoch) && o.Offset < result.Offset {
		rec = s.recoveries.beginPushed(c, o.Offset, result.Epoch)
		result.Offset = o.Offset
	}
	push := &protocol.Subscribe{
		Recoverable: result.Recoverable, Epoch: result.Epoch, Offset: result.Offset, Positioned: result.Positioned,
	}
	if o.DataJSON || c.speaks().encoding.Binary {
		push.Data = o.Data
	}
	s.outlet.sendPush(c, &protocol.Push{Channel: o.Channel, Subscribe: push})
	if rec != nil && c.isClient() {
		s.recoveries.stream(c, s.flows.of(c), rec)
	}
	return true
}

// orderUnsubscribe ends c's subscription to a channel, or with an empty name all of them. A raw client cannot be
// notified of that, so it is closed instead.
func (s *Shard) orderUnsubscribe(c *conn, channel string) bool {
	ended := false
	for i := len(c.subs) - 1; i >= c.firstChannel(); i-- {
		index := c.subs[i].channel
		if channel != "" {
			at := s.channels.find(c, channel)
			if at < 0 {
				break
			}
			index, i = c.subs[at].channel, 0
		}
		s.work.spendPart(unitsCommand)
		if c.speaks().encoding == nil {
			s.work.spendPart(unitsOfEnd(c))
			s.end(c, ReasonOrder)
			return true
		}
		s.revoke(c, index, proto.UnsubscribeServer)
		if ended = true; !c.isClient() {
			break
		}
	}
	return ended
}

func (s *Shard) orderRefresh(c *conn, o *Order) bool {
	if o.Expired {
		s.work.spendPart(unitsOfEnd(c))
		s.end(c, ReasonExpired)
		return true
	}
	s.work.spendPart(unitsCommand)
	s.identities.of(c).ends = s.connectionEnds(o.ExpireAt)
	s.rescheduleEnd(c)
	if c.speaks().encoding == nil {
		return true
	}
	push := &protocol.Refresh{}
	if !o.ExpireAt.IsZero() {
		push.Expires, push.Ttl = true, ttlOf(o.ExpireAt)
	}
	s.outlet.sendPush(c, &protocol.Push{Refresh: push})
	return true
}

// beginPushed begins the recovery of c's last subscription from an offset. It has no reply: the push that it was
// subscribed is sent next, and what follows goes as a stream after that.
func (rs *recoveries) beginPushed(c *conn, offset uint64, epoch string) *recovery {
	sub := &c.subs[len(c.subs)-1]
	rec := &recovery{
		key: recoveryKey{c.slot, sub.channel}, offset: offset, after: offset, epoch: epoch, started: true,
	}
	rs.begin(rec)
	return rec
}

// sendPush sends a push by the turn's flush, unless too much waits already: then c fails.
func (l *outlet) sendPush(c *conn, p *protocol.Push) {
	d := c.speaks()
	payload, err := d.encoding.AppendReply(nil, &protocol.Reply{Push: p})
	if err != nil {
		l.encodeFailed(c, err)
		return
	}
	l.offer(c, chunk{bytes: d.frame(payload)})
}
