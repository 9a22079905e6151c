package shard

import (
	"slices"

	"github.com/centrifugal/protocol"

	"wsd/internal/bus"
	"wsd/internal/proto"
)

// A client that comes back gets what it missed. Its subscription begins at once, at the position P. The Recoverer is
// asked for what the stream held between the client's offset and P, and what the bus brings meanwhile is parked. The
// reply goes out when the answer comes, and after it what was parked. So the client gets its stream without a gap and
// nothing twice.
//
// Where the interest table knows that nothing came after the client's offset, nobody is asked.
//
// A client that cannot get all of it has not recovered: the reply says so, with the position as it is then, and the
// subscription goes on from there. What was parked is dropped. A client never gets a part of what it missed.

// Recoverer answers what channels' streams held.
type Recoverer interface {
	// Ask has done called with the answer to q, once, by any goroutine, perhaps before it returns. It must not block.
	// Any shard's goroutine.
	Ask(q bus.Query, done func(bus.Answer))
}

// RecoveryOptions is how a shard lets clients recover.
type RecoveryOptions struct {
	Recoverer       Recoverer // Nil: nothing can be recovered.
	PublicationsMax int       // Publications that a client may recover, or have of history at once.
	Cached          []string  // Patterns of channels that recover the last publication only; see SlowPolicy.Pattern.
}

func (o *RecoveryOptions) cached(channel string) bool {
	return slices.ContainsFunc(o.Cached, func(pattern string) bool { return fits(pattern, channel) })
}

// flagRejectUnrecovered, in a subscribe command's flags, asks for error 112 instead of a subscription that has not
// recovered.
const flagRejectUnrecovered = 1 << 1

// OutboundMax/parkedPart bytes may be parked for one subscription, and OutboundMax*parkedMany in the shard.
const (
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

// recoveries are the subscriptions whose reply waits for an answer.
type recoveries struct {
	opts     *Options
	channels *channels
	sender   *sender
	layouts  *layouts

	waiting  map[recoveryKey]*recovery
	overfull []*recovery // Found while a channel's subscribers were walked, to be failed afterwards.
}

type recoveryKey struct{ slot, channel uint32 }

// recovery is a subscription whose reply waits for an answer.
type recovery struct {
	key     recoveryKey
	command uint32 // To be replied to.
	reject  bool   // The client wants an error rather than a subscription that has not recovered.
	cache   bool   // It wants the last publication only, and has none.
	over    bool   // It was replied to, or the subscription has ended: an answer comes too late.
	full    bool   // More came than may be parked: it fails.
	offset  uint64 // The client's.
	epoch   string // Of the stream that was asked for.
	parked  parked // What the bus has brought meanwhile.
}

// beginRecovery answers a client that wants to recover, whose subscription has begun at result's position. It returns
// nil when the reply comes later.
func (s *Shard) beginRecovery(
	c *conn, command uint32, r *protocol.SubscribeRequest, result *protocol.SubscribeResult,
) *protocol.Reply {
	o := &s.opts.Recovery
	sub := &c.subs[len(c.subs)-1]
	ch := &s.channels.list[sub.channel]
	rec := &recovery{
		key: recoveryKey{c.slot, sub.channel}, command: command, reject: r.Flag&flagRejectUnrecovered != 0,
		offset: r.Offset, epoch: result.Epoch,
	}
	position, ours := sub.start, result.Recoverable && (r.Epoch == "" || r.Epoch == result.Epoch)
	q := bus.Query{
		Channel: ch.name, Epoch: result.Epoch, After: r.Offset, UpTo: position,
		RecordsMax: o.PublicationsMax, Kind: bus.QueryAll,
	}
	if result.Recoverable && o.cached(ch.name) {
		q.Kind, q.RecordsMax = bus.QueryLast, 1
		if !ours || r.Epoch == "" {
			q.After = 0
		}
		rec.cache = q.After == 0
		ours = true
	}
	if !ours {
		return s.replyRecovery(c, rec, RecoveryNone, bus.Answer{Result: bus.ResultEpoch})
	}
	if q.After == position && !rec.cache {
		return s.replyRecovery(c, rec, RecoveryNone, bus.Answer{})
	}
	// The table noted a record at the moment it was put on the bus, so here the client's offset counts.
	since, last, ok := s.opts.Interest.Noted(ch.name, result.Epoch)
	if ok && !rec.cache && since <= q.After && last <= q.After && q.After <= position {
		sub.start = q.After
		return s.replyRecovery(c, rec, RecoveryTable, bus.Answer{})
	}
	work := s.inbox.begin(c)
	if work == nil {
		return s.replyRecovery(c, rec, RecoveryNone, bus.Answer{Result: bus.ResultOverload})
	}
	// A client that comes from another node may be ahead of this one: then the reply waits until this one is there.
	sub.start = max(position, q.After)
	s.recoveries.begin(rec)
	o.Recoverer.Ask(q, func(a bus.Answer) {
		work.post(answerBytes(&a), func(c *conn, room bool) {
			if !room {
				a = bus.Answer{Result: bus.ResultOverload}
			}
			s.finishRecovery(c, rec, a)
		})
	})
	return nil
}

// answerBytes returns how much memory the records of an answer take.
func answerBytes(a *bus.Answer) (n int) {
	for i := range a.Records {
		n += len(a.Records[i].Value) + len(a.Records[i].JSON) + chunkOverhead
	}
	return n
}

// finishRecovery replies to a client whose answer has come, and gives it what was parked.
func (s *Shard) finishRecovery(c *conn, rec *recovery, a bus.Answer) {
	if rec.over {
		return
	}
	s.recoveries.forget(rec)
	name := s.channels.list[rec.key.channel].name
	if _, epoch, known := s.opts.Positions.Position(name); !known || epoch != rec.epoch {
		a = bus.Answer{Result: bus.ResultEpoch, Kafka: a.Kafka} // What comes now is of another stream than the answer.
	}
	origin := RecoveryMemory
	if a.Kafka {
		origin = RecoveryKafka
	}
	reply := s.replyRecovery(c, rec, origin, a)
	s.sendReply(c, reply, publicationsIn(reply))
	if reply.Subscribe == nil || !reply.Subscribe.Recovered || !c.isClient() {
		s.sender.unpark(&rec.parked, nil)
		return
	}
	if v := s.sender.unpark(&rec.parked, &c.out); v != verdictOK {
		s.fail(c, v)
	}
	s.markDirty(c)
}

// failRecovery replies at once that the client has not recovered.
func (s *Shard) failRecovery(c *conn, rec *recovery) {
	s.finishRecovery(c, rec, bus.Answer{Result: bus.ResultLimit})
}

// failRecoveriesOf is failRecovery for every subscription of c to a channel concerned.
func (s *Shard) failRecoveriesOf(c *conn, concerned func(channel uint32) bool) {
	if len(s.recoveries.waiting) == 0 {
		return
	}
	for i := len(c.subs) - 1; i >= 0; i-- { // One that is rejected goes, and the last takes its place.
		if rec := s.recoveries.of(c, c.subs[i].channel); rec != nil && concerned(rec.key.channel) {
			s.failRecovery(c, rec)
		}
	}
}

// failOverfull fails the recoveries for which too much was parked.
func (s *Shard) failOverfull() {
	for i, rec := range s.recoveries.overfull {
		s.failRecovery(s.slab.get(rec.key.slot), rec)
		s.recoveries.overfull[i] = nil
	}
	s.recoveries.overfull = s.recoveries.overfull[:0]
}

// of returns c's recovery of a channel, nil if there is none.
func (rs *recoveries) of(c *conn, channel uint32) *recovery {
	return rs.waiting[recoveryKey{c.slot, channel}]
}

// begin notes that the reply of rec waits.
func (rs *recoveries) begin(rec *recovery) {
	rs.channels.list[rec.key.channel].recovering++
	rs.waiting[rec.key] = rec
}

// forget notes that the reply of rec no longer waits.
func (rs *recoveries) forget(rec *recovery) {
	rec.over = true
	delete(rs.waiting, rec.key)
	rs.channels.list[rec.key.channel].recovering--
}

// end drops c's recovery of a channel, if there is one: the subscription ends.
func (rs *recoveries) end(c *conn, channel uint32) {
	if rec := rs.of(c, channel); rec != nil {
		rs.forget(rec)
		rs.sender.unpark(&rec.parked, nil)
	}
}

// replyRecovery makes the reply to a subscription that wanted to recover, and ends one that is to be rejected.
func (s *Shard) replyRecovery(c *conn, rec *recovery, origin RecoveryOrigin, a bus.Answer) *protocol.Reply {
	reply := &protocol.Reply{Id: rec.command}
	ch := &s.channels.list[rec.key.channel]
	if a.Result == bus.ResultOK && (!rec.cache || len(a.Records) > 0) {
		s.stats.Recovered[origin].Add(1)
		// What is on its way may hold records that the client has from another node.
		ch.joinedSeq = s.opts.Head()
		reply.Subscribe = &protocol.SubscribeResult{
			Recoverable: true, WasRecovering: true, Recovered: true, Offset: rec.offset, Epoch: rec.epoch,
			Publications: publicationsOf(c.speaks(), a.Records),
		}
		return reply
	}
	s.stats.Unrecovered[origin].Add(1)
	i := s.channels.find(c, ch.name)
	if rec.reject {
		s.unsubscribe(c, i, false)
		reply.Error = proto.ErrUnrecoverablePosition.Reply()
		return reply
	}
	reply.Subscribe = s.restart(c, i)
	reply.Subscribe.WasRecovering = true
	return reply
}

// restart has subscription i of c go on from where its stream stands now, and returns that.
func (s *Shard) restart(c *conn, i int) *protocol.SubscribeResult {
	ch := &s.channels.list[c.subs[i].channel]
	offset, epoch, known := s.opts.Positions.Position(ch.name)
	if known {
		s.channels.begin(ch, epoch, offset)
	}
	c.subs[i].start = offset
	if !known {
		return &protocol.SubscribeResult{}
	}
	return &protocol.SubscribeResult{Recoverable: s.opts.Recovery.Recoverer != nil, Offset: offset, Epoch: epoch}
}

// parkFor keeps a segment from a connection whose reply waits, and returns true. It returns false for any other
// connection.
func (rs *recoveries) parkFor(c *conn, p *pending, sub uint32) bool {
	rec := rs.of(c, p.channel)
	if rec == nil {
		return false
	}
	if !c.isClient() {
		return true
	}
	d, start, records := c.speaks(), c.subs[sub].start, p.segment.Records
	var k chunk
	switch {
	case start >= records[len(records)-1].Offset:
		return true
	case start >= records[0].Offset:
		k = rs.layouts.after(c.variant, p.segment, start)
	default:
		k = chunk{
			bytes: rs.layouts.of(c.variant, p.segment), publications: d.publications(records),
			hold: rs.sender.holdOf(p),
		}
	}
	k.channel = p.channel + 1
	outboundMax := rs.opts.Limits.OutboundMax
	switch {
	case len(k.bytes) == 0:
	case rec.full:
		rs.sender.drop(k.publications)
	case rec.parked.cost+k.cost() > outboundMax/parkedPart, rs.sender.parkedBytes+k.cost() > rs.sender.parkedMax():
		rs.sender.drop(k.publications)
		rs.sender.unpark(&rec.parked, nil)
		rec.full = true
		rs.overfull = append(rs.overfull, rec)
	default:
		rs.sender.park(&rec.parked, k)
	}
	return true
}

// publicationsOf returns what a dialect carries of records.
func publicationsOf(d *dialect, records []bus.Record) []*protocol.Publication {
	if len(records) == 0 {
		return nil
	}
	list := make([]protocol.Publication, 0, len(records))
	refs := make([]*protocol.Publication, 0, len(records))
	for i := range records {
		if value := d.value(&records[i]); value != nil {
			list = append(list, protocol.Publication{Data: value, Offset: records[i].Offset})
			refs = append(refs, &list[len(list)-1])
		}
	}
	return refs
}

func publicationsIn(r *protocol.Reply) uint32 {
	switch {
	case r.Subscribe != nil:
		return uint32(len(r.Subscribe.Publications)) // Limited.
	case r.History != nil:
		return uint32(len(r.History.Publications)) // Limited.
	}
	return 0
}

// sendReply sends a reply that comes later than those of its frame.
func (s *Shard) sendReply(c *conn, r *protocol.Reply, publications uint32) {
	d := c.speaks()
	payload, err := d.encoding.AppendReply(nil, r)
	if err != nil {
		s.opts.Logger.Error("BUG: encode reply", "error", err)
		s.failFor(c, ReasonInternal)
		return
	}
	s.queueReply(c, chunk{bytes: d.frame(payload), publications: publications})
}
