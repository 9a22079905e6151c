package shard

import "wsd/internal/bus"

// A client that falls behind on a channel with PolicyConflate gets the newest record of each key instead of all
// records. While more than a part of OutboundMax waits for it, records of such channels are not queued but merged: a
// record replaces the earlier one of its channel and key. Once the queue is nearly empty, all that was merged goes
// into it at once, in the order in which it came, and the client is like any other again. At once, because a key that
// changes all the time would otherwise be put last again and again, and never be sent.
//
// The merged records count as waiting bytes: a client that has too many keys for OutboundMax is closed like any other.
// Records without a key share one. A record that has nothing for the client's dialect does not touch what waits, except
// a null in a dialect where it removes the key's record (dialect.nullRemoves), as that record no longer holds.
const (
	// A client is behind when more than OutboundMax/conflatePart waits after the message being sent, until no more than
	// OutboundMax/mergedPart is queued.
	conflatePart = 8
	mergedPart   = 16

	// mergeOverhead is what a merged record takes beside its bytes and its key, in the list and the map.
	mergeOverhead = 192
)

// merge is what waits of a connection that conflates. Its records are laid out and shared by all connections of the
// shard.
type merge struct {
	newest  map[mergeKey]int // Index in records of the newest of each key.
	records []merged         // In the order in which they came. Those without bytes were replaced.
	cost    int              // Of the records that were not replaced.
}

type mergeKey struct {
	channel uint32 // Index into Shard.channels.
	key     string
}

type merged struct {
	bytes []byte
	key   mergeKey
}

func (r *merged) cost() int { return len(r.bytes) + len(r.key.key) + mergeOverhead }

// put makes r the newest record of its key and returns how many it replaced.
func (m *merge) put(r merged) (replaced int) {
	replaced = m.remove(r.key)
	if len(m.records) >= 2*len(m.newest)+16 {
		m.compact()
	}
	m.newest[r.key] = len(m.records)
	m.records = append(m.records, r)
	m.cost += r.cost()
	return replaced
}

// remove removes the record of a key and returns how many records that were, 0 or 1.
func (m *merge) remove(key mergeKey) int {
	i, ok := m.newest[key]
	if !ok {
		return 0
	}
	delete(m.newest, key)
	m.cost -= m.records[i].cost()
	m.records[i] = merged{}
	return 1
}

// compact forgets the replaced records.
func (m *merge) compact() {
	kept := m.records[:0]
	for _, r := range m.records {
		if r.bytes != nil {
			m.newest[r.key] = len(kept)
			kept = append(kept, r)
		}
	}
	clear(m.records[len(kept):])
	m.records = kept
}

// singles are the records of one segment, each laid out by itself, for all connections that conflate.
type singles struct {
	keys  []string // By record; empty: not built yet.
	bytes [bus.VariantCount][][]byte
}

// of returns the records of seg in variant v, and their keys. A record without bytes has nothing for v.
func (l *singles) of(v bus.Variant, seg *bus.Segment, lay *layouts) (bytes [][]byte, keys []string) {
	if len(l.keys) == 0 {
		for i := range seg.Records {
			l.keys = append(l.keys, string(seg.Key(i)))
		}
	}
	if len(l.bytes[v]) == 0 {
		for i := range seg.Records {
			l.bytes[v] = append(l.bytes[v], lay.records(v, seg.Name, seg.Records[i:i+1]).bytes)
		}
	}
	return l.bytes[v], l.keys
}

func (l *singles) reset() {
	if len(l.keys) == 0 {
		return
	}
	clear(l.keys)
	l.keys = l.keys[:0]
	for v := range l.bytes {
		clear(l.bytes[v])
		l.bytes[v] = l.bytes[v][:0]
	}
}

// conflates reports whether records of a channel with PolicyConflate are to be merged for o. It is not behind if it
// only waits for a compressed segment, see stopWaiting.
func (s *sender) conflates(o *outbox) bool {
	return o.merge != nil || o.exceeds(s.outboundMax/conflatePart)
}

// stopWaiting has what is deferred sent as it is when o would conflate for want of it, and reports whether it did. The
// caller flushes o.
func (s *sender) stopWaiting(o *outbox) bool {
	if o.merge != nil || len(o.chunks) == 0 || !o.chunks[0].deferred || !s.conflates(o) {
		return false
	}
	s.sendUncompressed(o)
	return true
}

// mergeSegment merges the records of a segment with an offset above start into o, which conflates. began reports that
// it did not conflate before.
func (s *sender) mergeSegment(o *outbox, v bus.Variant, p *pending, start uint64) (began bool, _ verdict) {
	s.sendUncompressedIfBehind(o)
	if o.exceeds(s.outboundMax) && s.over(o) {
		s.drop(s.layouts.after(v, p.segment, start).publications)
		return false, verdictSlow
	}
	if began = o.merge == nil; began {
		s.setMerge(o, &merge{newest: make(map[mergeKey]int)})
	}
	m, before := o.merge, o.merge.cost
	bytes, keys := s.singles.of(v, p.segment, s.layouts)
	for i := range p.segment.Records {
		r := &p.segment.Records[i]
		key := mergeKey{p.channel, keys[i]}
		switch {
		case r.Offset <= start:
		case len(bytes[i]) > 0:
			s.counts.conflated += uint64(m.put(merged{bytes[i], key}))
		case dialects[v].nullRemoves:
			s.counts.conflated += uint64(m.remove(key))
		}
	}
	s.add(o, m.cost-before)
	return began, verdictOK
}

// mergedFits reports whether what was merged may go into the queue.
func (s *sender) mergedFits(o *outbox) bool {
	return o.merge != nil && o.cost-o.merge.cost <= s.outboundMax/mergedPart
}

// queueMerged appends what was merged to the queue and ends the conflation, if there is one.
func (s *sender) queueMerged(o *outbox) {
	m := s.takeMerged(o)
	if m == nil {
		return
	}
	for i := range m.records {
		if bytes := m.records[i].bytes; bytes != nil {
			s.push(o, chunk{bytes: bytes, publications: 1, channel: m.records[i].key.channel + 1})
		}
	}
}

// dropMerged drops what was merged and ends the conflation, if there is one.
func (s *sender) dropMerged(o *outbox) {
	if m := s.takeMerged(o); m != nil {
		s.counts.dropped += uint64(len(m.newest))
	}
}

func (s *sender) takeMerged(o *outbox) *merge {
	m := o.merge
	if m != nil {
		s.setMerge(o, nil)
		s.add(o, -m.cost)
	}
	return m
}

// dropMergedOf drops what was merged of one channel, which the connection leaves.
func (s *sender) dropMergedOf(o *outbox, channel uint32) {
	m, before := o.merge, o.merge.cost
	for key := range m.newest {
		if key.channel == channel {
			s.counts.dropped += uint64(m.remove(key))
		}
	}
	s.add(o, m.cost-before)
}

// leaveChannel ends the conflation of a channel that the connection leaves: what was merged of it is dropped or, with
// keep, queued with all else that was merged.
func (s *sender) leaveChannel(o *outbox, channel uint32, keep bool) {
	switch {
	case o.merge == nil:
	case keep:
		s.queueMerged(o)
	default:
		s.dropMergedOf(o, channel)
	}
}
