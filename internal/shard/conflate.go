package shard

import "wsd/internal/bus"

// A client that falls behind on a channel with PolicyConflate gets the newest record of each key instead of all of them. While more
// than a part of OutboundMax waits for it, what comes of such channels is not queued but merged: a record takes the place of the one
// before of its channel and key. Once the queue is nearly empty all that was merged goes into it at once, in the order in which it
// came, and the client is like any other again. At once, because a key that changes all the time would otherwise be put last again
// and again, and never be sent.
//
// The merged records count as waiting bytes: a client that has too many keys for OutboundMax is closed like any other. Records
// without a key share one. A record that has nothing for the client's variant does not touch what waits, except a null for a raw
// client: it takes the key's record away, as that no longer holds.
const (
	conflatePart = 8  // More than OutboundMax/conflatePart waits behind the message being sent: the client is behind,
	mergedPart   = 16 // until no more than OutboundMax/mergedPart is queued.

	// mergeOverhead is what a merged record takes beside its bytes and its key, in the list and the map.
	mergeOverhead = 192
)

// merge is what waits of a connection that conflates. Its records are laid out and shared by all connections of the shard.
type merge struct {
	newest  map[mergeKey]int // Where in records the newest of each key is.
	records []merged         // In the order in which they came. Those without bytes are replaced ones.
	cost    int              // Of the records that are not replaced.
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

// remove takes the record of a key out and returns how many that were.
func (m *merge) remove(key mergeKey) int {
	at, ok := m.newest[key]
	if !ok {
		return 0
	}
	delete(m.newest, key)
	m.cost -= m.records[at].cost()
	m.records[at] = merged{}
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

// singles are the records of one segment laid out each for itself, for all connections that conflate.
type singles struct {
	keys  []string // By record; empty: not made yet.
	bytes [bus.VariantCount][][]byte
}

// of returns the records of seg in variant v, and their keys. A record without bytes has nothing for v.
func (l *singles) of(v bus.Variant, seg *bus.Segment) (bytes [][]byte, keys []string) {
	if len(l.keys) == 0 {
		for i := range seg.Records {
			l.keys = append(l.keys, string(seg.Key(i)))
		}
	}
	if len(l.bytes[v]) == 0 {
		for i := range seg.Records {
			l.bytes[v] = append(l.bytes[v], layoutRecords(v, seg.Name, seg.Records[i:i+1]))
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

// conflates reports whether what comes for c of a channel with PolicyConflate is to be merged. A connection that is behind only because
// it waits for a compressed segment is not: it stops waiting.
func (s *Shard) conflates(c *conn) bool {
	if c.merge != nil {
		return true
	}
	limit := s.limits.OutboundMax / conflatePart
	if c.outLen <= limit || c.outLen-c.out[0].cost() <= limit {
		return false
	}
	if c.out[0].waits {
		s.stopWaiting(c)
		return false
	}
	return true
}

// mergeSegment merges what p holds for a connection that conflates. Records up to start are not for it.
func (s *Shard) mergeSegment(c *conn, p *pending, start uint64) {
	if !c.isClient() {
		return
	}
	s.hurry(c)
	if s.overLimit(c) {
		s.closeSlow(c, layoutAfter(c.variant, p.segment, start).publications)
		return
	}
	if c.merge == nil {
		s.stats.Slow[PolicyConflate].Add(1)
		s.setMerge(c, &merge{newest: make(map[mergeKey]int)})
	}
	m, before := c.merge, c.merge.cost
	bytes, keys := s.singles.of(c.variant, p.segment)
	for i := range p.segment.Records {
		r := &p.segment.Records[i]
		key := mergeKey{p.channel, keys[i]}
		switch {
		case r.Offset <= start:
		case len(bytes[i]) > 0:
			s.turn.conflated += uint64(m.put(merged{bytes[i], key}))
		case c.variant == bus.VariantRaw: // A null.
			s.turn.conflated += uint64(m.remove(key))
		}
	}
	s.addQueued(c, m.cost-before)
}

// drained reports whether c, which conflates, can be given what was merged.
func (s *Shard) drained(c *conn) bool {
	return c.outLen-c.merge.cost <= s.limits.OutboundMax/mergedPart
}

// queueMerged puts what was merged into c's queue and ends the conflation.
func (s *Shard) queueMerged(c *conn) {
	m := c.merge
	s.endMerge(c)
	for i := range m.records {
		if bytes := m.records[i].bytes; bytes != nil {
			k := chunk{bytes: bytes, publications: 1}
			c.out = append(c.out, k)
			s.addQueued(c, k.cost())
		}
	}
}

// dropMerged forgets what was merged and ends the conflation.
func (s *Shard) dropMerged(c *conn) {
	s.stats.Dropped.Add(uint64(len(c.merge.newest)))
	s.endMerge(c)
}

func (s *Shard) endMerge(c *conn) {
	cost := c.merge.cost
	s.setMerge(c, nil)
	s.addQueued(c, -cost)
}

// dropMergedOf forgets what was merged of one channel, which c leaves.
func (s *Shard) dropMergedOf(c *conn, channel uint32) {
	m, before := c.merge, c.merge.cost
	for key := range m.newest {
		if key.channel == channel {
			s.stats.Dropped.Add(uint64(m.remove(key)))
		}
	}
	s.addQueued(c, m.cost-before)
}
