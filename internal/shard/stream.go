package shard

import (
	"time"

	"github.com/centrifugal/protocol"

	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/routing"
)

// A recovery asks for what comes after the last record that its client has, up to the position of that moment. Its
// first answer goes into the reply if it is all, and small. If not, the reply says recovered, with no publications,
// and after a pause the rest goes out as ordinary publications, a portion an answer, as fast as the connection's flow
// lets it. Until a portion is the last one, what the bus brings is not kept: it is in the log, and a later portion
// has it. So a connection costs a portion, however much its client missed, and every link that is faster than its
// channel reaches the live stream.
const (
	// startPause is what lies between a reply and the first portion: some SDKs handle a reply later than the
	// publications that come right after it.
	startPause = 100 * time.Millisecond
	// retryPause is what lies between two queries of which the first failed for now, and retriesMax how many may.
	retryPause = time.Second
	retriesMax = 30
	// portionRecords bounds the publications of a portion: it is handled before its ping is answered.
	portionRecords = 200
	// publicationBytes is what a publication takes in a reply beside its value.
	publicationBytes = 64
)

// errRecoverLater is for a client that comes back while there is too much work.
var errRecoverLater = proto.Error{Code: proto.ErrInternal.Code, Message: "cannot recover now", Temporary: true}

// result is an answer made ready for the outbox, by whoever gave it.
type result struct {
	bus.Answer
	bytes        []byte // The reply if the answer is all of it, or a portion.
	publications uint32
	subscribe    *protocol.SubscribeResult // The result if the reply is that to a connect command.
	size         int                       // Bytes of the values in it.
	empty        bool                      // There was no record.
	err          error
}

// askNext asks what c's recoveries want to know, as far as queries may be under way, and counts it as work of the part.
func (rs *recoveries) askNext(c *conn, f *flow) {
	if !c.isClient() {
		return
	}
	for len(f.first) > 0 && f.asking < firstQueries {
		rec := f.first[0]
		f.first[0] = nil
		f.first = f.first[1:]
		if !rec.over {
			rs.work.spendPart(unitsAsk)
			rs.ask(c, f, rec, replyBytes)
		}
	}
	for len(f.streams) > 0 {
		room := f.room()
		if room == 0 {
			break
		}
		rec := f.streams[0]
		f.streams[0] = nil
		f.streams = f.streams[1:]
		if !rec.over {
			rs.work.spendPart(unitsAsk)
			rs.ask(c, f, rec, room)
		}
	}
	rs.flows.release(c)
}

// owner names c among all who ask the Recoverer, which gives each its share.
func (rs *recoveries) owner(c *conn) uint64 {
	return uint64(routing.MakeConnID(rs.opts.ID, c.generation, c.slot))
}

// askReady has recoveries ask that have just begun: not amid their commands, whose replies come first. What is over the
// part of the turn asks in the next one.
func (rs *recoveries) askReady() {
	ready, n := rs.flows.ready, 0
	for ; n < len(ready) && rs.work.goesOn(); n++ {
		rs.work.spendPart(1)
		if c := rs.slab.find(ready[n].slot, ready[n].generation); c != nil && c.hasFlow {
			f := rs.flows.bySlot[c.slot]
			f.listed = false
			rs.askNext(c, f)
		}
	}
	rs.flows.ready = ready[:copy(ready, ready[n:])]
}

// ask asks for the next records of rec, at most bytesMax of them. What the bus brings from now on is parked.
func (rs *recoveries) ask(c *conn, f *flow, rec *recovery, bytesMax int) {
	ch := &rs.channels.list[rec.key.channel]
	position, epoch, known := rs.opts.Positions.Position(ch.name)
	if !known || epoch != rec.epoch {
		rs.failRecovery(c, rec, rec.origin)
		return
	}
	// A client that comes from another node may be ahead of this one: then the answer waits until this one is there.
	c.subs[rs.channels.indexIn(c, rec.key.channel)].start = max(position, rec.after)
	ch.joinedSeq = rs.opts.Head()
	rec.full, rec.upTo = false, position
	if rec.started && rec.after >= position {
		rs.joinLive(c, rec)
		return
	}
	work := rs.inbox.begin(c)
	if work == nil {
		rs.failedForNow(c, f, rec)
		return
	}
	rec.asked = true
	f.asking++
	q := bus.Query{
		Channel: ch.name, Epoch: rec.epoch, After: rec.after, UpTo: position, Kind: bus.QueryNext,
		RecordsMax: portionRecords, BytesMax: bytesMax, Owner: rs.owner(c), Address: f.network,
		Canceled: &rec.canceled,
	}
	switch {
	case rec.started:
		f.portion = true
	case rec.cache:
		q.Kind, q.RecordsMax, q.BytesMax = bus.QueryLast, 1, 0
		_, q.Oldest, _ = rs.opts.Recovery.depth(ch.name)
	default:
		q.RecordsMax = replyPublications
		q.CountMax, q.Oldest, _ = rs.opts.Recovery.depth(ch.name)
	}
	prepare := rs.preparer(c, rec, ch.name)
	rs.opts.Recovery.Recoverer.Ask(q, func(a bus.Answer) {
		r := prepare(rs.admit(a))
		work.post(len(r.bytes)+r.size, rec.cache, func(c *conn, room bool) { rs.answered(c, rec, &r, room) })
	})
}

// preparer returns what makes an answer ready for c's outbox. It is called by the goroutine that has the answer, so
// that the loop neither encodes nor compresses it.
func (rs *recoveries) preparer(c *conn, rec *recovery, channel string) func(bus.Answer) result {
	form, d, lay, z, started := c.form(), c.speaks(), rs.layouts, &rs.compressor.Deflate, rec.started
	joining := rec.join != nil
	return func(a bus.Answer) (r result) {
		r.Answer = a
		switch {
		case a.Result != bus.ResultOK || a.More && !started:
			return r
		case started:
			k := lay.records(form.Plain(), channel, a.Records)
			r.bytes, r.publications = k.bytes, k.publications
		case joining:
			r.subscribe = recoveredReply(d, rec, a.Records).Subscribe
			for _, p := range r.subscribe.Publications {
				r.size += len(p.Data) + publicationBytes
			}
			r.Records, r.empty = nil, len(a.Records) == 0
			return r
		default:
			var payload []byte
			payload, r.err = d.encoding.AppendReply(nil, recoveredReply(d, rec, a.Records))
			r.bytes, r.publications = d.frame(payload), d.publications(a.Records)
		}
		r.Records = nil
		if len(a.Records) > 0 {
			r.bytes = z.frames(form, r.bytes)
		}
		r.empty = len(a.Records) == 0
		return r
	}
}

// answered acts on the answer to a recovery's query.
func (rs *recoveries) answered(c *conn, rec *recovery, r *result, room bool) {
	f := rs.flows.of(c)
	f.asking--
	if rec.started {
		f.portion = false
	}
	if !rec.over {
		rec.asked, rec.origin = false, RecoveryMemory
		if r.Kafka {
			rec.origin = RecoveryKafka
		}
		name := rs.channels.list[rec.key.channel].name
		if _, epoch, known := rs.opts.Positions.Position(name); !known || epoch != rec.epoch {
			r.Result = bus.ResultEpoch // What comes now is of another stream than the answer.
		}
		switch {
		case rec.started:
			rs.takePortion(c, f, rec, r)
		case rec.join != nil:
			rs.joined(c, rec, r, room)
		default:
			rs.takeFirst(c, f, rec, r, room)
		}
	}
	if c.hasFlow {
		rs.askNext(c, f)
	}
}

// takeFirst replies to a client whose first answer has come.
func (rs *recoveries) takeFirst(c *conn, f *flow, rec *recovery, r *result, room bool) {
	switch {
	case r.Result == bus.ResultOverload, r.Result == bus.ResultShare, r.Result == bus.ResultTimeout && !rec.cache:
		rs.failedForNow(c, f, rec)
		return
	case r.Result != bus.ResultOK, rec.empty && r.empty, rec.cache && !room:
		rs.failRecovery(c, rec, rec.origin)
		return
	case r.err != nil:
		rs.outlet.encodeFailed(c, r.err)
		return
	}
	whole := !r.More && room
	if whole {
		rs.outlet.queueReply(c, chunk{bytes: r.bytes, publications: r.publications, kind: kindAnswer})
		rec.after = max(rec.after, rec.upTo)
	} else {
		rs.outlet.sendReply(c, recoveredReply(c.speaks(), rec, nil))
	}
	if whole && !rec.full {
		rs.stats.Recovered[rec.origin].Add(1)
		rs.joinLive(c, rec)
		return
	}
	rs.stream(c, f, rec)
}

// stream has the rest of a recovery follow its reply.
func (rs *recoveries) stream(c *conn, f *flow, rec *recovery) {
	rec.started, rec.asked = true, false
	rs.outlet.sender.discardParked(&rec.parked)
	rs.flows.pause(c, f, rec, pauseStart, rs.clock.tick)
}

// takePortion queues a portion, with a ping behind it, and joins the live stream if it is the last.
func (rs *recoveries) takePortion(c *conn, f *flow, rec *recovery, r *result) {
	switch r.Result {
	case bus.ResultOK:
	case bus.ResultTimeout, bus.ResultOverload, bus.ResultShare:
		rs.failedForNow(c, f, rec)
		return
	default:
		rs.failRecovery(c, rec, rec.origin)
		return
	}
	rec.retries = 0
	if r.More {
		rec.after = max(rec.after, r.Through)
	} else {
		rec.after = max(rec.after, rec.upTo)
	}
	last := !r.More && !rec.full
	if len(r.bytes) > 0 {
		rs.outlet.offer(c, chunk{
			bytes: r.bytes, publications: r.publications, channel: rec.key.channel + 1, kind: kindPortion,
		})
		p := pingInFlight{tick: rs.clock.tick, bytes: len(r.bytes)}
		if last {
			p.recovered = rec.origin
		}
		rs.pings.afterPortion(c, p)
	} else if last {
		rs.stats.Recovered[rec.origin].Add(1)
	}
	if last {
		rs.joinLive(c, rec)
		return
	}
	rs.outlet.sender.discardParked(&rec.parked)
	f.streams = append(f.streams, rec)
}

// joinLive gives the client what was parked, after which it gets what the bus brings.
func (rs *recoveries) joinLive(c *conn, rec *recovery) {
	rs.forget(rec)
	// What is on its way may hold records that the client has from another node.
	rs.channels.list[rec.key.channel].joinedSeq = rs.opts.Head()
	o := &c.out
	if !c.isClient() {
		o = nil
	}
	if v := rs.outlet.sender.unpark(&rec.parked, o); v != verdictOK {
		rs.outlet.fail(c, v)
	}
	rs.outlet.markDirty(c)
}

// failedForNow has rec ask again later, a limited number of times. A client that was not replied to yet gets an error
// that is temporary, and comes again by itself: it has not lost what it missed.
func (rs *recoveries) failedForNow(c *conn, f *flow, rec *recovery) {
	if rec.join != nil {
		rs.failRecovery(c, rec, rec.origin)
		return
	}
	if !rec.started {
		i := rs.channels.indexIn(c, rec.key.channel)
		rs.channels.unsubscribe(c, i, false)
		rs.outlet.sendReply(c, errorReply(rec.command, &errRecoverLater))
		return
	}
	rs.outlet.sender.discardParked(&rec.parked)
	if rec.retries++; rec.retries > retriesMax {
		rs.failRecovery(c, rec, rec.origin)
		return
	}
	rs.flows.pause(c, f, rec, pauseRetry, rs.clock.tick)
}

// resumePaused has the streams go on whose pause is over, and reports whether more could not in this turn.
func (rs *recoveries) resumePaused() (more bool) {
	for rs.work.goesOn() {
		p, ok := rs.flows.pauses.pop(rs.clock.tick)
		if !ok {
			return false
		}
		rs.work.spendPart(1)
		c := rs.slab.find(p.conn.slot, p.conn.generation)
		if c == nil || !c.hasFlow {
			continue
		}
		f := rs.flows.bySlot[c.slot]
		f.pauses--
		f.streams = append(f.streams, p.rec)
		rs.askNext(c, f)
	}
	at := rs.flows.pauses.wakeAt()
	return at != 0 && at <= rs.clock.tick
}
