package shard

import (
	"slices"

	"github.com/centrifugal/protocol"

	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/wire"
)

// A client that comes back is told what it missed. Its subscription begins at once, at the position P; what the stream held between
// the client's offset and P is asked of the Recoverer, and what the bus brings meanwhile is held. The reply comes when the answer does,
// and behind it what was held: so the client gets its stream without a gap and nothing twice (design.md §3).
//
// Where the interest table knows that nothing came after the client's offset, nobody is asked.
//
// A client that cannot be given all of it is told that it has not recovered, with the position as it is then, and goes on from there:
// what was held is dropped. It is never given a part.

// Recoverer answers what channels' streams held.
type Recoverer interface {
	// Ask has done called with the answer to q, once, by any goroutine, perhaps before it returns. It must not block. Any shard's goroutine.
	Ask(q bus.Query, done func(bus.Answer))
}

// RecoveryOptions is how a shard lets clients recover.
type RecoveryOptions struct {
	Recoverer Recoverer // Nil: nothing can be recovered.
	Most      int       // Publications that a client may recover, or have of history at once.
	Cached    []string  // Patterns of channels of which clients recover the last publication only; see SlowPolicy.Pattern.
}

func (o *RecoveryOptions) cached(channel string) bool {
	return slices.ContainsFunc(o.Cached, func(pattern string) bool { return fits(pattern, channel) })
}

// flagRejectUnrecovered asks for error 112 instead of a subscription that has not recovered (protocol.md A7).
const flagRejectUnrecovered = 1 << 1

// heldPart of OutboundMax may be held for one subscription, and heldMany times OutboundMax in the shard.
const (
	heldPart = 2
	heldMany = 16
)

// RecoverySource is where the answer to a client that came back is from.
type RecoverySource uint8

// The sources.
const (
	RecoveryNone   RecoverySource = iota // Nothing had to be known: its position is the stream's, or is not of this stream.
	RecoveryTable                        // The interest table.
	RecoveryMemory                       // What was read lately.
	RecoveryKafka                        // Read again.
	recoverySourceCount
)

// String is the source's metric label.
func (r RecoverySource) String() string {
	return [recoverySourceCount]string{"none", "table", "memory", "kafka"}[r]
}

// RecoverySources lists every source.
func RecoverySources() []RecoverySource {
	return []RecoverySource{RecoveryNone, RecoveryTable, RecoveryMemory, RecoveryKafka}
}

// recovering is a subscription whose reply waits for an answer.
type recovering struct {
	slot      uint32 // Of the connection.
	channel   uint32 // Index into Shard.channels.
	command   uint32 // To be replied to.
	reject    bool   // The client wants an error rather than a subscription that has not recovered.
	cache     bool   // It wants the last publication only, and has none with offset 0.
	over      bool   // Replied to, or the subscription has ended: an answer comes too late.
	full      bool   // More came than may be held: it is to be told that it has not recovered.
	offset    uint64 // The client's.
	epoch     string // Of the stream that was asked for.
	held      []chunk
	heldBytes int
}

type recoveringKey struct{ slot, channel uint32 }

// recover answers a client that wants to recover, whose subscription has begun at result's position. It returns nil when the reply comes
// later.
func (s *Shard) recover(c *conn, command uint32, r *protocol.SubscribeRequest, result *protocol.SubscribeResult) *protocol.Reply {
	sub := &c.subs[len(c.subs)-1]
	ch := &s.channels[sub.channel]
	rec := &recovering{slot: c.slot, channel: sub.channel, command: command, reject: r.Flag&flagRejectUnrecovered != 0, offset: r.Offset, epoch: result.Epoch}
	position, ours := sub.start, result.Recoverable && (r.Epoch == "" || r.Epoch == result.Epoch)
	q := bus.Query{Channel: ch.name, Epoch: result.Epoch, After: r.Offset, UpTo: position, RecordsMax: s.recovery.Most, Kind: bus.QueryAll}
	if result.Recoverable && s.recovery.cached(ch.name) {
		q.Kind, q.RecordsMax = bus.QueryLast, 1
		if !ours || r.Epoch == "" {
			q.After = 0
		}
		rec.cache = q.After == 0
		ours = true
	}
	if !ours {
		return s.replyRecovered(c, rec, RecoveryNone, bus.Answer{Result: bus.ResultEpoch})
	}
	if q.After == position && !rec.cache {
		return s.replyRecovered(c, rec, RecoveryNone, bus.Answer{})
	}
	// What is noted was noted in the moment in which the bus was given the record, so here it is the client's offset that counts.
	if since, last, ok := s.interest.Noted(ch.name, result.Epoch); ok && !rec.cache && since <= q.After && last <= q.After && q.After <= position {
		sub.start = q.After
		return s.replyRecovered(c, rec, RecoveryTable, bus.Answer{})
	}
	// A client may be ahead of us that comes from another node: then the reply waits until we are there.
	sub.start = max(position, q.After)
	ch.recovering++
	s.recoverings[recoveringKey{c.slot, sub.channel}] = rec
	slot, generation := c.slot, c.generation
	s.recovery.Recoverer.Ask(q, func(a bus.Answer) {
		s.postAnswer(&answer{Answer: a, slot: slot, generation: generation, take: func(a bus.Answer) { s.recovered(rec, a) }})
	})
	return nil
}

// recovered replies to a client whose answer has come, and gives it what was held.
func (s *Shard) recovered(rec *recovering, a bus.Answer) {
	if rec.over {
		return
	}
	c := s.slab.get(rec.slot)
	held := rec.held
	rec.held = nil
	s.endRecovering(c, rec)
	if _, epoch, known := s.positions.Position(s.channels[rec.channel].name); !known || epoch != rec.epoch {
		a = bus.Answer{Result: bus.ResultEpoch, Kafka: a.Kafka} // What comes now is of another stream than the answer.
	}
	from := RecoveryMemory
	if a.Kafka {
		from = RecoveryKafka
	}
	reply := s.replyRecovered(c, rec, from, a)
	s.sendReply(c, reply, publicationsIn(reply))
	for _, k := range held {
		if reply.Subscribe != nil && reply.Subscribe.Recovered {
			s.queuePublications(c, k)
		} else {
			s.stats.Dropped.Add(uint64(k.publications))
		}
		s.unpin(k.pin)
	}
}

// failRecovering replies at once that the client has not recovered.
func (s *Shard) failRecovering(rec *recovering) {
	s.recovered(rec, bus.Answer{Result: bus.ResultLimit})
}

// failRecoveringOf is failRecovering for every subscription of c to a channel concerned.
func (s *Shard) failRecoveringOf(c *conn, concerned func(channel uint32) bool) {
	if len(s.recoverings) == 0 {
		return
	}
	for i := len(c.subs) - 1; i >= 0; i-- { // One that is rejected goes, and the last takes its place.
		if rec := s.recoverings[recoveringKey{c.slot, c.subs[i].channel}]; rec != nil && concerned(rec.channel) {
			s.failRecovering(rec)
		}
	}
}

// endRecovering forgets that a reply waits, and what was held.
func (s *Shard) endRecovering(c *conn, rec *recovering) {
	rec.over = true
	delete(s.recoverings, recoveringKey{c.slot, rec.channel})
	s.channels[rec.channel].recovering--
	s.dropHeld(rec)
}

func (s *Shard) dropHeld(rec *recovering) {
	s.heldBytes -= rec.heldBytes
	rec.heldBytes = 0
	for _, k := range rec.held {
		s.stats.Dropped.Add(uint64(k.publications))
		s.unpin(k.pin)
	}
	rec.held = nil
}

// replyRecovered makes the reply to a subscription that wanted to recover, and ends one that is to be rejected.
func (s *Shard) replyRecovered(c *conn, rec *recovering, from RecoverySource, a bus.Answer) *protocol.Reply {
	reply := &protocol.Reply{Id: rec.command}
	at := s.find(c, s.channels[rec.channel].name)
	if a.Result == bus.ResultOK && (!rec.cache || len(a.Records) > 0) {
		s.stats.Recovered[from].Add(1)
		// What is on its way may hold records that the client has from another node.
		s.channels[rec.channel].joinedSeq = s.head()
		reply.Subscribe = &protocol.SubscribeResult{
			Recoverable: true, WasRecovering: true, Recovered: true, Offset: rec.offset, Epoch: rec.epoch, Publications: publicationsOf(c.variant, a.Records),
		}
		return reply
	}
	s.stats.Unrecovered[from].Add(1)
	if rec.reject {
		s.unsubscribe(c, at)
		reply.Error = proto.ErrUnrecoverablePosition.Reply()
		return reply
	}
	reply.Subscribe = s.position(c, at)
	reply.Subscribe.WasRecovering = true
	return reply
}

// position has subscription at of c go on from where its stream stands now, and returns that.
func (s *Shard) position(c *conn, at int) *protocol.SubscribeResult {
	ch := &s.channels[c.subs[at].channel]
	offset, epoch, known := s.positions.Position(ch.name)
	if known {
		s.begin(ch, epoch, offset)
	}
	c.subs[at].start = offset
	if !known {
		return &protocol.SubscribeResult{}
	}
	return &protocol.SubscribeResult{Recoverable: s.recovery.Recoverer != nil, Offset: offset, Epoch: epoch}
}

// hold keeps a segment from a connection whose reply waits, until it comes. It returns false for any other connection.
func (s *Shard) hold(c *conn, p *pending, at uint32) bool {
	rec := s.recoverings[recoveringKey{c.slot, p.channel}]
	if rec == nil {
		return false
	}
	if !c.isClient() {
		return true
	}
	start := c.subs[at].start
	var k chunk
	switch records := p.segment.Records; {
	case start >= records[len(records)-1].Offset:
		return true
	case start >= records[0].Offset:
		k = layoutAfter(c.variant, p.segment, start)
	default:
		k = chunk{bytes: p.segment.Layout(c.variant, layouts[c.variant]), publications: publications(c.variant, records)}
	}
	switch {
	case len(k.bytes) == 0:
		return true
	case rec.full:
		s.stats.Dropped.Add(uint64(k.publications))
		return true
	}
	if rec.heldBytes+k.cost() > s.limits.OutboundMax/heldPart || s.heldBytes+k.cost() > s.limits.OutboundMax*heldMany {
		s.stats.Dropped.Add(uint64(k.publications))
		s.dropHeld(rec)
		rec.full = true
		s.postAnswer(&answer{slot: c.slot, generation: c.generation, take: func(bus.Answer) { s.failRecovering(rec) }})
		return true
	}
	if start < p.segment.Records[0].Offset {
		k.pin = s.pin(p)
		s.pins[k.pin].holders++
	}
	k.of = p.channel + 1
	rec.held = append(rec.held, k)
	rec.heldBytes += k.cost()
	s.heldBytes += k.cost()
	return true
}

// publicationsOf returns what variant v carries of records.
func publicationsOf(v bus.Variant, records []bus.Record) []*protocol.Publication {
	if len(records) == 0 {
		return nil
	}
	list := make([]protocol.Publication, 0, len(records))
	refs := make([]*protocol.Publication, 0, len(records))
	for i := range records {
		if value := valueOf(v, &records[i]); value != nil {
			list = append(list, protocol.Publication{Data: value, Offset: records[i].Offset})
			refs = append(refs, &list[len(list)-1])
		}
	}
	return refs
}

func publicationsIn(r *protocol.Reply) uint32 {
	switch {
	case r.Subscribe != nil:
		return uint32(len(r.Subscribe.Publications)) //nolint:gosec // Limited.
	case r.History != nil:
		return uint32(len(r.History.Publications)) //nolint:gosec // Limited.
	}
	return 0
}

// sendReply sends a reply that comes later than those of its frame.
func (s *Shard) sendReply(c *conn, r *protocol.Reply, publications uint32) {
	e := encodings[c.variant]
	payload, err := e.AppendReply(nil, r)
	if err != nil {
		s.logger.Error("BUG: encode reply", "error", err)
		s.doom(c, ReasonInternal)
		return
	}
	s.queueReply(c, chunk{bytes: wire.AppendFrame(make([]byte, 0, headerMax+len(payload)), opOf(e), payload), publications: publications})
}
