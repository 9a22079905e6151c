package shard

import (
	"time"

	"wsd/internal/bus"
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
)

// result is an answer made ready for the outbox, by whoever gave it.
type result struct {
	bus.Answer
	bytes        []byte // The reply if the answer is all of it, or a portion.
	publications uint32
	empty        bool // There was no record.
	err          error
}

// askNext asks what c's recoveries want to know, as far as queries may be under way.
func (s *Shard) askNext(c *conn, f *flow) {
	if !c.isClient() {
		return
	}
	for len(f.first) > 0 && f.asking < firstQueries {
		rec := f.first[0]
		f.first[0] = nil
		f.first = f.first[1:]
		if !rec.over {
			s.ask(c, f, rec, replyBytes)
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
			s.ask(c, f, rec, room)
		}
	}
	s.flows.release(c)
}

// owner names c among all who ask the Recoverer, which gives each its share.
func (s *Shard) owner(c *conn) uint64 {
	return uint64(routing.MakeConnID(s.opts.ID, c.generation, c.slot))
}

// askReady has recoveries ask that have just begun: not amid their commands, whose replies come first.
func (s *Shard) askReady() {
	for _, ref := range s.flows.ready {
		if c := s.slab.find(ref.slot, ref.generation); c != nil && c.hasFlow {
			f := s.flows.bySlot[c.slot]
			f.listed = false
			s.askNext(c, f)
		}
	}
	s.flows.ready = s.flows.ready[:0]
}

// ask asks for the next records of rec, at most bytesMax of them. What the bus brings from now on is parked.
func (s *Shard) ask(c *conn, f *flow, rec *recovery, bytesMax int) {
	ch := &s.channels.list[rec.key.channel]
	position, epoch, known := s.opts.Positions.Position(ch.name)
	if !known || epoch != rec.epoch {
		s.failRecovery(c, rec, rec.origin)
		return
	}
	// A client that comes from another node may be ahead of this one: then the answer waits until this one is there.
	c.subs[s.channels.find(c, ch.name)].start = max(position, rec.after)
	ch.joinedSeq = s.opts.Head()
	rec.full, rec.upTo = false, position
	if rec.started && rec.after >= position {
		s.joinLive(c, rec)
		return
	}
	work := s.inbox.begin(c)
	if work == nil {
		s.failedForNow(c, f, rec)
		return
	}
	rec.asked = true
	f.asking++
	q := bus.Query{
		Channel: ch.name, Epoch: rec.epoch, After: rec.after, UpTo: position, Kind: bus.QueryNext,
		RecordsMax: portionRecords, BytesMax: bytesMax, Owner: s.owner(c), Canceled: &rec.canceled,
	}
	switch {
	case rec.started:
		f.portion = true
	case rec.cache:
		q.Kind, q.RecordsMax, q.BytesMax = bus.QueryLast, 1, 0
	default:
		q.RecordsMax, q.CountMax = replyPublications, s.opts.Recovery.PublicationsMax
	}
	prepare := s.preparer(c, rec, ch.name)
	s.opts.Recovery.Recoverer.Ask(q, func(a bus.Answer) {
		r := prepare(a)
		work.post(len(r.bytes), rec.cache, func(c *conn, room bool) { s.answered(c, rec, &r, room) })
	})
}

// preparer returns what makes an answer ready for c's outbox. It is called by the goroutine that has the answer, so
// that the loop neither encodes nor compresses it.
func (s *Shard) preparer(c *conn, rec *recovery, channel string) func(bus.Answer) result {
	form, d, lay, z, started := c.form(), c.speaks(), &s.layouts, &s.compressor.Deflate, rec.started
	return func(a bus.Answer) (r result) {
		r.Answer = a
		switch {
		case a.Result != bus.ResultOK || a.More && !started:
			return r
		case started:
			k := lay.records(form.Plain(), channel, a.Records)
			r.bytes, r.publications = k.bytes, k.publications
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
func (s *Shard) answered(c *conn, rec *recovery, r *result, room bool) {
	f := s.flows.of(c)
	f.asking--
	if rec.started {
		f.portion = false
	}
	if !rec.over {
		rec.asked, rec.origin = false, RecoveryMemory
		if r.Kafka {
			rec.origin = RecoveryKafka
		}
		name := s.channels.list[rec.key.channel].name
		if _, epoch, known := s.opts.Positions.Position(name); !known || epoch != rec.epoch {
			r.Result = bus.ResultEpoch // What comes now is of another stream than the answer.
		}
		if rec.started {
			s.takePortion(c, f, rec, r)
		} else {
			s.takeFirst(c, f, rec, r, room)
		}
	}
	if c.hasFlow {
		s.askNext(c, f)
	}
}

// takeFirst replies to a client whose first answer has come.
func (s *Shard) takeFirst(c *conn, f *flow, rec *recovery, r *result, room bool) {
	switch {
	case r.Result != bus.ResultOK, rec.empty && r.empty, rec.cache && !room:
		s.failRecovery(c, rec, rec.origin)
		return
	case r.err != nil:
		s.encodeFailed(c, r.err)
		return
	}
	whole := !r.More && room
	if whole {
		s.queueReply(c, chunk{bytes: r.bytes, publications: r.publications})
		rec.after = max(rec.after, rec.upTo)
	} else {
		s.sendReply(c, recoveredReply(c.speaks(), rec, nil))
	}
	if whole && !rec.full {
		s.stats.Recovered[rec.origin].Add(1)
		s.joinLive(c, rec)
		return
	}
	rec.started = true
	s.sender.discardParked(&rec.parked)
	s.flows.pause(c, f, rec, s.tick+ticks(startPause))
}

// takePortion queues a portion, with a ping behind it, and joins the live stream if it is the last.
func (s *Shard) takePortion(c *conn, f *flow, rec *recovery, r *result) {
	switch r.Result {
	case bus.ResultOK:
	case bus.ResultTimeout, bus.ResultOverload:
		s.failedForNow(c, f, rec)
		return
	default:
		s.failRecovery(c, rec, rec.origin)
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
		s.offer(c, chunk{bytes: r.bytes, publications: r.publications, channel: rec.key.channel + 1})
		p := pingInFlight{tick: s.tick, bytes: len(r.bytes)}
		if last {
			p.recovered = rec.origin
		}
		s.pingAfterPortion(c, p)
	} else if last {
		s.stats.Recovered[rec.origin].Add(1)
	}
	if last {
		s.joinLive(c, rec)
		return
	}
	s.sender.discardParked(&rec.parked)
	f.streams = append(f.streams, rec)
}

// joinLive gives the client what was parked, after which it gets what the bus brings.
func (s *Shard) joinLive(c *conn, rec *recovery) {
	s.recoveries.forget(rec)
	// What is on its way may hold records that the client has from another node.
	s.channels.list[rec.key.channel].joinedSeq = s.opts.Head()
	o := &c.out
	if !c.isClient() {
		o = nil
	}
	if v := s.sender.unpark(&rec.parked, o); v != verdictOK {
		s.fail(c, v)
	}
	s.markDirty(c)
}

// failedForNow has rec ask again later, a limited number of times.
func (s *Shard) failedForNow(c *conn, f *flow, rec *recovery) {
	s.sender.discardParked(&rec.parked)
	if rec.retries++; rec.retries > retriesMax || !rec.started {
		s.failRecovery(c, rec, rec.origin)
		return
	}
	s.flows.pause(c, f, rec, s.tick+ticks(retryPause))
}

// resumePaused has the streams go on whose pause is over.
func (s *Shard) resumePaused() {
	fs := &s.flows
	for len(fs.pauses) > 0 && fs.pauses[0].tick <= s.tick {
		p := fs.pauses[0]
		fs.pauses[0] = pause{}
		if fs.pauses = fs.pauses[1:]; len(fs.pauses) == 0 {
			fs.pauses = nil
		}
		c := s.slab.find(p.conn.slot, p.conn.generation)
		if c == nil || !c.hasFlow {
			continue
		}
		f := fs.bySlot[c.slot]
		f.pauses--
		f.streams = append(f.streams, p.rec)
		s.askNext(c, f)
	}
}
