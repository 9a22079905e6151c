package shard

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/centrifugal/protocol"

	"wsd/internal/bus"
	"wsd/internal/proto"
)

// A client that comes back gets what it missed. Its subscription begins at once. The Recoverer is asked for what the
// stream held between the client's offset and the position P that the shard then reads, and what the bus brings
// meanwhile is parked. If all of it is small, the reply has it, and what was parked follows. Otherwise the reply says
// that the client has recovered, and the rest comes as a stream of publications (stream.go). Either way the client
// gets its stream without a gap and nothing twice.
//
// Where the interest table knows that nothing came after the client's offset, nobody is asked.
//
// A client that cannot get all of it has not recovered: the reply says so, with the position as it is then, and the
// subscription goes on from there.

// Recoverer answers what channels' streams held.
type Recoverer interface {
	// Ask calls done exactly once with the answer to q, from any goroutine, perhaps before it returns. Shards call it
	// from their goroutines, so it must not block. done does not block.
	Ask(q bus.Query, done func(bus.Answer))
}

// RecoveryOptions is how a shard lets clients recover.
type RecoveryOptions struct {
	Recoverer       Recoverer // Nil: nothing can be recovered.
	PublicationsMax int       // Publications that a client may have missed.
	HistoryMax      int       // Publications of a history reply.
	BytesMax        int       // Bytes of a history reply, see bus.RecordBytes.
	Depths          []Depth   // The first whose pattern fits a channel applies to it.
	Cached          []string  // Patterns of channels that recover the last publication only; see SlowPolicy.Pattern.
}

// Depth is how much of some channels' streams clients may recover and read.
type Depth struct {
	Pattern      string        // See SlowPolicy.Pattern.
	Publications int           // At most as many of the last; 0: as RecoveryOptions has it.
	Age          time.Duration // None that is older, by its timestamp in Kafka; 0: of any age.
}

// depth returns how many of the last publications of a channel clients may recover, and from which timestamp on in
// milliseconds of Unix time; 0: from any. own reports that the channel has a depth of its own.
func (o *RecoveryOptions) depth(channel string) (publications int, oldest int64, own bool) {
	for i := range o.Depths {
		d := &o.Depths[i]
		if !fits(d.Pattern, channel) {
			continue
		}
		if d.Age > 0 {
			oldest = time.Now().Add(-d.Age).UnixMilli() // Kafka's timestamps are of the wall clock.
		}
		return cmp.Or(d.Publications, o.PublicationsMax), oldest, true
	}
	return o.PublicationsMax, 0, false
}

func (o *RecoveryOptions) cached(channel string) bool {
	return slices.ContainsFunc(o.Cached, func(pattern string) bool { return fits(pattern, channel) })
}

// flagRejectUnrecovered, in a subscribe command's flags, asks for error 112 instead of a subscription that has not
// recovered.
const flagRejectUnrecovered = 1 << 1

const (
	// replyPublications and replyBytes bound what a reply carries of missed publications. The rest is streamed.
	replyPublications = 300
	replyBytes        = 64 << 10

	// OutboundMax/parkedPart bytes may be parked for one subscription, and OutboundMax*parkedMany in the shard.
	parkedPart = 2
	parkedMany = 16
)

// RecoveryOrigin is where the answer to a client that came back is from.
type RecoveryOrigin uint8

// The origins.
const (
	RecoveryNone   RecoveryOrigin = iota // Nobody was asked: its position is the stream's, or is not of this stream.
	RecoveryTable                        // The interest table.
	RecoveryMemory                       // Record batches that were read recently.
	RecoveryKafka                        // Kafka, read again.
	recoveryOriginCount
)

// String is the origin's metric label.
func (r RecoveryOrigin) String() string {
	return [recoveryOriginCount]string{"none", "table", "memory", "kafka"}[r]
}

// RecoveryOrigins lists every origin.
func RecoveryOrigins() []RecoveryOrigin {
	return []RecoveryOrigin{RecoveryNone, RecoveryTable, RecoveryMemory, RecoveryKafka}
}

// recoveries are the subscriptions that have not reached the live stream yet.
type recoveries struct {
	opts       *Options
	clock      *clock
	stats      *Stats
	slab       *slab
	channels   *channels
	inbox      *inbox
	outlet     *outlet
	flows      *flows
	pings      *pings
	layouts    *layouts
	compressor *compressor
	work       *work
	refuses    func() bool                 // Shard.refusesAnswers.
	admit      func(bus.Answer) bus.Answer // Shard.admit.

	waiting map[recoveryKey]*recovery
	joined  func(c *conn, rec *recovery, r *result, room bool) // Takes the first answer of one with a serverJoin.
}

type recoveryKey struct{ slot, channel uint32 }

// recovery is a subscription that has not reached the live stream yet.
type recovery struct {
	key     recoveryKey
	command uint32 // To be replied to.
	reject  bool   // The client wants an error rather than a subscription that has not recovered.
	cache   bool   // Its channel is one of RecoveryOptions.Cached.
	empty   bool   // It wants the last publication, and has none.
	offset  uint64 // The client'rs.
	epoch   string // Of the stream.
	ttl     uint32 // After how many seconds the client is to refresh the subscription; 0: never.

	upTo     uint64      // The stream's position when the query under way was made.
	after    uint64      // Records up to here are queued for the client, or it had them.
	asked    bool        // A query is under way: what the bus brings is parked.
	full     bool        // More came than may be parked: another query is needed.
	started  bool        // It was replied to, and the rest is streamed.
	over     bool        // It is through, or the subscription has ended: an answer comes too late.
	join     *serverJoin // Of a channel that the server subscribed to: its reply is that to the connect command.
	retries  int         // Queries that failed for now since the last portion.
	origin   RecoveryOrigin
	parked   parked      // What the bus has brought meanwhile.
	canceled atomic.Bool // Nobody wants the answer any longer.
}

// of returns c's recovery of a channel, nil if there is none.
func (rs *recoveries) of(c *conn, channel uint32) *recovery {
	return rs.waiting[recoveryKey{c.slot, channel}]
}

// begin notes that rec has not reached the live stream.
func (rs *recoveries) begin(rec *recovery) {
	rs.channels.list[rec.key.channel].recovering++
	rs.waiting[rec.key] = rec
}

// forget notes that rec is through or has failed.
func (rs *recoveries) forget(rec *recovery) {
	rec.over = true
	rec.canceled.Store(true)
	delete(rs.waiting, rec.key)
	rs.channels.list[rec.key.channel].recovering--
}

// end drops c's recovery of a channel, if there is one: the subscription ends.
func (rs *recoveries) end(c *conn, channel uint32) {
	if rec := rs.of(c, channel); rec != nil {
		rs.drop(rec)
	}
}

// drop forgets rec and what was parked for it.
func (rs *recoveries) drop(rec *recovery) {
	rs.forget(rec)
	rs.outlet.sender.unpark(&rec.parked, nil)
}

// parkFor keeps a segment from a connection that has not reached the live stream, and returns true. It returns false
// for any other connection. What comes while no query is under way, or is too much, will be read with the next one.
func (rs *recoveries) parkFor(c *conn, p *pending, sub uint32) bool {
	rec := rs.of(c, p.channel)
	if rec == nil {
		return false
	}
	start, records := c.subs[sub].start, p.segment.Records
	if !c.isClient() || !rec.asked || rec.full || start >= records[len(records)-1].Offset {
		return true
	}
	var k chunk
	if start >= records[0].Offset {
		k = rs.layouts.after(c.variant, p.segment, start)
	} else {
		k = chunk{
			bytes: rs.layouts.of(c.variant, p.segment), publications: c.speaks().publications(records),
			hold: rs.outlet.sender.holdOf(p),
		}
	}
	k.channel = p.channel + 1
	switch {
	case len(k.bytes) == 0:
	case rec.parked.cost+k.cost() > rs.opts.Limits.OutboundMax/parkedPart,
		rs.outlet.sender.parkedBytes+k.cost() > rs.outlet.sender.parkedMax():
		rs.outlet.sender.discardParked(&rec.parked)
		rec.full = true
	default:
		rs.outlet.sender.park(&rec.parked, k)
	}
	return true
}

// beginRecovery answers a client that wants to recover, whose subscription has begun at result's position. It returns
// nil when the reply comes later.
func (rs *recoveries) beginRecovery(
	c *conn, command uint32, r *protocol.SubscribeRequest, result *protocol.SubscribeResult,
) *protocol.Reply {
	sub := &c.subs[len(c.subs)-1]
	ch := &rs.channels.list[sub.channel]
	rec := &recovery{
		key: recoveryKey{c.slot, sub.channel}, command: command, reject: r.Flag&flagRejectUnrecovered != 0,
		offset: r.Offset, epoch: result.Epoch, after: r.Offset,
		cache: result.Recoverable && rs.opts.Recovery.cached(ch.name), ttl: result.Ttl,
	}
	position, ours := sub.start, result.Recoverable && (r.Epoch == "" || r.Epoch == result.Epoch)
	if rec.cache {
		if !ours || r.Epoch == "" || r.Offset > position { // What no stream can have must not come back as a position.
			rec.after, rec.offset = 0, 0
		}
		rec.empty = rec.after == 0
		ours = true
	}
	if !ours {
		return rs.replyUnrecovered(c, rec, RecoveryNone)
	}
	if rec.after == position && !rec.empty {
		return rs.replyRecovered(c, rec, RecoveryNone, nil)
	}
	// The table noted a record at the moment it was put on the bus, so here the client's offset counts.
	since, last, ok := rs.opts.Interest.Noted(ch.name, result.Epoch)
	if ok && !rec.empty && since <= rec.after && last <= rec.after && rec.after <= position {
		sub.start = rec.after
		return rs.replyRecovered(c, rec, RecoveryTable, nil)
	}
	if rs.refuses() {
		rs.channels.unsubscribe(c, len(c.subs)-1, false)
		return errorReply(command, &errRecoverLater)
	}
	rs.begin(rec)
	rs.flows.add(c, rec)
	return nil
}

// replyRecovered makes the reply to a client that has recovered, with the records that it missed.
func (rs *recoveries) replyRecovered(
	c *conn, rec *recovery, origin RecoveryOrigin, records []bus.Record,
) *protocol.Reply {
	rs.stats.Recovered[origin].Add(1)
	// What is on its way may hold records that the client has from another node.
	rs.channels.list[rec.key.channel].joinedSeq = rs.opts.Head()
	return recoveredReply(c.speaks(), rec, records)
}

// recoveredReply is the reply itself. Any goroutine.
func recoveredReply(d *dialect, rec *recovery, records []bus.Record) *protocol.Reply {
	return &protocol.Reply{Id: rec.command, Subscribe: &protocol.SubscribeResult{
		Recoverable: true, Positioned: true, WasRecovering: true, Recovered: true, Offset: rec.offset, Epoch: rec.epoch,
		Publications: publicationsOf(d, records), Expires: rec.ttl > 0, Ttl: rec.ttl,
	}}
}

// replyUnrecovered makes the reply to a client that has not recovered, and ends a subscription that is to be rejected.
func (rs *recoveries) replyUnrecovered(c *conn, rec *recovery, origin RecoveryOrigin) *protocol.Reply {
	rs.stats.Unrecovered[origin].Add(1)
	reply := &protocol.Reply{Id: rec.command}
	i := rs.channels.indexIn(c, rec.key.channel)
	if rec.reject {
		rs.channels.unsubscribe(c, i, false)
		reply.Error = proto.ErrUnrecoverablePosition.Reply()
		return reply
	}
	reply.Subscribe = rs.restart(c, i)
	reply.Subscribe.WasRecovering = true
	reply.Subscribe.Expires, reply.Subscribe.Ttl = rec.ttl > 0, rec.ttl
	return reply
}

// restart has subscription i of c go on from where its stream stands now, and returns that.
func (rs *recoveries) restart(c *conn, i int) *protocol.SubscribeResult {
	ch := &rs.channels.list[c.subs[i].channel]
	offset, epoch, known := rs.opts.Positions.Position(ch.name)
	if known {
		rs.channels.begin(ch, epoch, offset)
	}
	c.subs[i].start = offset
	return rs.subscribed(offset, epoch, known)
}

// subscribed is the result of a subscription that begins at a position.
func (rs *recoveries) subscribed(offset uint64, epoch string, known bool) *protocol.SubscribeResult {
	if !known {
		return &protocol.SubscribeResult{}
	}
	return &protocol.SubscribeResult{
		Recoverable: rs.opts.Recovery.Recoverer != nil, Positioned: true, Offset: offset, Epoch: epoch,
	}
}

// failRecovery ends c's recovery: before its reply by saying that it has not recovered, later by closing the
// connection, after which the client goes on from the last publication that it got.
func (rs *recoveries) failRecovery(c *conn, rec *recovery, origin RecoveryOrigin) {
	rs.drop(rec)
	if rec.started || rec.join != nil {
		rs.stats.Unrecovered[origin].Add(1)
		rs.outlet.failFor(c, ReasonInsufficientState)
		return
	}
	rs.outlet.sendReply(c, rs.replyUnrecovered(c, rec, origin))
}

// failRecoveriesOf is failRecovery for every subscription of c to a channel concerned.
func (rs *recoveries) failRecoveriesOf(c *conn, concerned func(channel uint32) bool) {
	if len(rs.waiting) == 0 {
		return
	}
	for i := len(c.subs) - 1; i >= 0; i-- { // One that is rejected goes, and the last takes its place.
		if rec := rs.of(c, c.subs[i].channel); rec != nil && concerned(rec.key.channel) {
			rs.failRecovery(c, rec, rec.origin)
		}
	}
}

// publicationsOf returns what a dialect carries of records. Any goroutine.
func publicationsOf(d *dialect, records []bus.Record) []*protocol.Publication {
	if len(records) == 0 {
		return nil
	}
	list := make([]protocol.Publication, 0, len(records))
	refs := make([]*protocol.Publication, 0, len(records))
	for i := range records {
		if value := d.value(&records[i]); value != nil {
			list = append(list, protocol.Publication{})
			setPublication(&list[len(list)-1], value, &records[i])
			refs = append(refs, &list[len(list)-1])
		}
	}
	return refs
}
