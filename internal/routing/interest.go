package routing

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// Channel is a channel that has subscribers, and where.
type Channel struct {
	ID     ChannelID
	Name   string
	Shards ShardSet // Shards with at least one subscriber.
	At     uint32   // Where one of them, the last that came, keeps the channel.
}

const (
	// stripes bounds how long shards that subscribe hold up the router, and each other: they meet only in one stripe of many.
	stripes = 256
	// leftMax is how many channels a stripe remembers that have no subscriber any more, 65,536 in all stripes.
	leftMax = 256
)

// Interest says which shards have subscribers of which channel, and the offset of the last record of each.
//
// The order of its use decides whether a subscriber can miss a record (design.md §3): the router stores how far it has routed a
// partition BEFORE it calls Take; a shard calls Add BEFORE it reads that position and tells it to the subscriber. Whatever the
// router did not find wanted then lies at or before the position that the subscriber is told.
//
// Take notes the record's offset in the same moment in which it looks who wants it. So a shard that has called Add, and then finds in
// Noted that nothing came after some offset, is given by the bus whatever comes after that offset.
//
// A channel that nobody has any more is remembered for a while, so that those who come back soon can be told that they missed nothing.
type Interest struct {
	seed    maphash.Seed
	lastID  atomic.Uint64
	apart   atomic.Int64 // Names in the table that are Reserved.
	stripes [stripes]stripe
}

type stripe struct {
	mu       sync.Mutex
	channels map[string]*entry
	left     int // Entries without a shard.
	sweep    uint64
	_        [96]byte // Two cache lines each: adjacent ones are fetched in pairs.
}

// entry is a channel in the table. Its stripe's lock guards it.
type entry struct {
	Channel
	epoch string // Of the stream that since belongs to; empty: none is known.
	since uint64 // Every record of the channel with a higher offset has been noted.
	last  uint64 // Highest offset of a record noted, of whatever epoch and partition.
	left  uint64 // The sweep at which the last shard left.
}

// NewInterest returns an empty table.
func NewInterest() *Interest {
	t := &Interest{seed: maphash.MakeSeed()}
	for i := range t.stripes {
		t.stripes[i].channels = make(map[string]*entry)
	}
	return t
}

// Add notes that shard s has a subscriber of the channel, which it keeps at the given place of its own, and returns the channel's id.
// Adding again changes nothing but the place. Any goroutine.
func (t *Interest) Add(name string, s ShardID, at uint32) ChannelID {
	p := t.stripe(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.channels[name]
	switch {
	case e == nil:
		e = &entry{Channel: Channel{ID: ChannelID(t.lastID.Add(1)), Name: strings.Clone(name)}}
		p.channels[e.Name] = e
		if Reserved(name) {
			t.apart.Add(1)
		}
	case e.Shards.Empty():
		e.ID = ChannelID(t.lastID.Add(1))
		p.left--
	}
	e.Shards.Add(s)
	e.At = at
	return e.ID
}

// Remove notes that shard s has no subscriber of the channel any more. When no shard has, the channel's id ends: whoever comes
// later gets another. Removing what is not there changes nothing. Any goroutine.
func (t *Interest) Remove(name string, s ShardID) {
	p := t.stripe(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.channels[name]
	if e == nil || e.Shards.Empty() {
		return
	}
	e.Shards.Remove(s)
	if !e.Shards.Empty() {
		return
	}
	if e.epoch == "" || p.left == leftMax {
		delete(p.channels, name)
		if Reserved(name) {
			t.apart.Add(-1)
		}
		return
	}
	e.left = p.sweep
	p.left++
}

// Sweep forgets the channels that had no subscriber at the last Sweep either. Any goroutine.
func (t *Interest) Sweep() {
	for i := range t.stripes {
		p := &t.stripes[i]
		p.mu.Lock()
		p.sweep++
		if p.left > 0 {
			for name, e := range p.channels {
				if e.Shards.Empty() && e.left+1 < p.sweep {
					delete(p.channels, name)
					p.left--
				}
			}
		}
		p.mu.Unlock()
	}
}

// Begin notes where the channel's stream of an epoch stands: the caller has called Add, and offset was read later. Only the first
// in an epoch counts. Any goroutine.
func (t *Interest) Begin(name, epoch string, offset uint64) {
	p := t.stripe(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.channels[name]; e != nil && e.epoch != epoch {
		// What another epoch left in last is not taken away: the router may have noted a record of this one already.
		e.epoch, e.since = epoch, offset
	}
}

// Noted returns an offset that no record of the channel is behind, if all those after since have been noted; it may lie before since.
// Any goroutine.
func (t *Interest) Noted(name, epoch string) (since, last uint64, ok bool) {
	p := t.stripe(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.channels[name]
	if e == nil || epoch == "" || e.epoch != epoch {
		return 0, 0, false
	}
	return e.since, e.last, true
}

// Take notes that a record of the channel has the given offset, and returns the channel if it has subscribers. It allocates nothing.
// The router calls it for every record, those of a partition in order.
func (t *Interest) Take(name []byte, offset uint64) (Channel, bool) {
	p := &t.stripes[maphash.Bytes(t.seed, name)%stripes]
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.channels[string(name)]
	if e == nil {
		return Channel{}, false
	}
	// The highest: a channel that two partitions feed for a while may be one stream again, of the same epoch, afterwards.
	e.last = max(e.last, offset)
	return e.Channel, !e.Shards.Empty()
}

// Lookup returns the channel with the given name if it has subscribers. It allocates nothing. Any goroutine.
func (t *Interest) Lookup(name []byte) (Channel, bool) {
	p := &t.stripes[maphash.Bytes(t.seed, name)%stripes]
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.channels[string(name)]
	if e == nil || e.Shards.Empty() {
		return Channel{}, false
	}
	return e.Channel, true
}

// Shards returns the shards that have a subscriber of a channel which match reports true for. It looks at every channel: it is for
// rare events. Any goroutine; match must not call the table.
func (t *Interest) Shards(match func(name string) bool) (shards ShardSet) {
	for i := range t.stripes {
		p := &t.stripes[i]
		p.mu.Lock()
		for name, ch := range p.channels {
			if !Reserved(name) && match(name) {
				shards.Union(&ch.Shards)
			}
		}
		p.mu.Unlock()
	}
	return shards
}

// Len counts the channels with subscribers; Reserved names are none. Any goroutine.
func (t *Interest) Len() (n int) {
	for i := range t.stripes {
		p := &t.stripes[i]
		p.mu.Lock()
		n += len(p.channels) - p.left
		p.mu.Unlock()
	}
	return n - int(t.apart.Load())
}

// Names returns the names of channels with subscribers, at most so many of them, in no order. Any goroutine.
func (t *Interest) Names(most int) []string {
	var names []string
	for i := range t.stripes {
		p := &t.stripes[i]
		p.mu.Lock()
		for name, e := range p.channels {
			if len(names) == most {
				break
			}
			if !e.Shards.Empty() && !Reserved(name) {
				names = append(names, name)
			}
		}
		p.mu.Unlock()
	}
	return names
}

func (t *Interest) stripe(name string) *stripe {
	return &t.stripes[maphash.String(t.seed, name)%stripes]
}
