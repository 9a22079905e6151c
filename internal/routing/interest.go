package routing

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"wsd/internal/shrink"
)

// Channel is a channel with subscribers.
type Channel struct {
	ID     ChannelID
	Name   string
	Shards ShardSet // The shards with at least one subscriber.
	// Where one of the shards, the last that came, keeps the channel. For another shard it is a guess to check.
	SlotHint uint32
}

const (
	// stripes is how many parts with a lock of their own the table has. A shard that subscribes holds up the router and
	// other shards only if they meet in the same stripe.
	stripes = 256
	// leftMax is how many channels without a subscriber a stripe remembers. All stripes together remember 65,536.
	leftMax = 256
)

// Interest says which shards have subscribers of which channel, and what offset the last record of each channel had.
//
// The order of calls decides whether a subscriber can miss a record. The router stores how far it has routed a
// partition BEFORE it calls Take. A shard calls Add BEFORE it reads that position and sends it to the subscriber. So if
// Take finds no subscriber, the record is at or before the position that the subscriber gets.
//
// Take notes the record's offset under the same lock under which it reads who wants the record. So if a shard has
// called Add, and Noted then says that nothing came after some offset, the bus brings the shard everything after that
// offset.
//
// The table remembers a channel for a while after its last subscriber has left, so that a client that comes back soon
// can learn that it has missed nothing.
type Interest struct {
	seed    maphash.Seed
	lastID  atomic.Uint64
	named   atomic.Int64 // How many channels have subscribers, without Reserved names.
	users   atomic.Int64 // Users with a connection.
	stripes [stripes]stripe
}

type stripe struct {
	mu       sync.Mutex
	channels map[string]*entry
	left     int      // How many entries have no shard.
	sweep    uint64   // Counts the sweeps.
	peak     int      // How many entries there once were, see shrink.Map.
	_        [88]byte // Two cache lines each: processors fetch adjacent lines in pairs.
}

// entry is a channel in the table. Its stripe's lock guards it.
type entry struct {
	Channel
	epoch string // The epoch of the stream that since belongs to. Empty if none is known.
	since uint64 // Every record of the channel with a higher offset has been noted.
	last  uint64 // The highest offset that was noted, of any epoch and partition.
	left  uint64 // The number of the sweep after which the last shard left.
}

// NewInterest returns an empty table.
func NewInterest() *Interest {
	t := &Interest{seed: maphash.MakeSeed()}
	for i := range t.stripes {
		t.stripes[i].channels = make(map[string]*entry)
	}
	return t
}

// Add notes that shard s has a subscriber of the channel, and returns the channel's id. Hint is where the shard keeps
// the channel. Adding again changes only the hint. Any goroutine may call it.
func (t *Interest) Add(name string, s ShardID, hint uint32) ChannelID {
	p := t.stripe(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.channels[name]
	switch {
	case e == nil:
		e = &entry{Channel: Channel{ID: ChannelID(t.lastID.Add(1)), Name: strings.Clone(name)}}
		p.channels[e.Name] = e
		t.count(name, 1)
	case e.Shards.Empty():
		e.ID = ChannelID(t.lastID.Add(1))
		p.left--
		t.count(name, 1)
	}
	e.Shards.Add(s)
	e.SlotHint = hint
	return e.ID
}

// Remove notes that shard s no longer has a subscriber of the channel. When no shard has one, the channel's id ends;
// the next subscriber gets another id. Removing what is not there changes nothing. Any goroutine may call it.
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
	t.count(name, -1)
	if e.epoch == "" || p.left == leftMax {
		p.forget(name)
		return
	}
	e.left = p.sweep
	p.left++
}

// keepMost is how many channels a stripe may once have had without giving their memory back when few are left.
const keepMost = 64

// forget removes an entry.
func (p *stripe) forget(name string) {
	p.peak = max(p.peak, len(p.channels))
	delete(p.channels, name)
	shrink.Map(&p.channels, &p.peak, keepMost)
}

// Sweep forgets the channels that also had no subscriber at the previous Sweep. Any goroutine may call it.
func (t *Interest) Sweep() {
	for i := range t.stripes {
		p := &t.stripes[i]
		p.mu.Lock()
		p.sweep++
		if p.left > 0 {
			for name, e := range p.channels {
				if e.Shards.Empty() && e.left+1 < p.sweep {
					p.forget(name)
					p.left--
				}
			}
		}
		p.mu.Unlock()
	}
}

// Begin notes where the channel's stream of an epoch stands. The caller has called Add, and has read offset after that.
// Only the first Begin in an epoch counts. Any goroutine may call it.
func (t *Interest) Begin(name, epoch string, offset uint64) {
	p := t.stripe(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.channels[name]; e != nil && e.epoch != epoch {
		// Last keeps what another epoch left in it: the router may already have noted a record of this epoch.
		e.epoch, e.since = epoch, offset
	}
}

// Noted returns the offset of the channel's last record, provided that all records after since have been noted. Last
// may be lower than since. Any goroutine may call it.
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

// Take notes that a record of the channel has the given offset, and returns the channel if it has subscribers. It
// allocates nothing. The router calls it for every record. It does so in order for the records of one partition.
func (t *Interest) Take(name []byte, offset uint64) (Channel, bool) {
	p := &t.stripes[maphash.Bytes(t.seed, name)%stripes]
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.channels[string(name)]
	if e == nil {
		return Channel{}, false
	}
	// Keep the highest offset: a channel that two partitions feed for a while may become one stream again, of the same
	// epoch.
	e.last = max(e.last, offset)
	return e.Channel, !e.Shards.Empty()
}

// Lookup returns the channel with the given name if it has subscribers. It allocates nothing. Any goroutine may call
// it.
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

// First returns the lowest shard that has a subscriber of the channel. It allocates nothing. Any goroutine may call it.
func (t *Interest) First(name string) (s ShardID, ok bool) {
	p := t.stripe(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.channels[name]; e != nil {
		for id := range e.Shards.All() {
			return id, true
		}
	}
	return 0, false
}

// Shards returns the shards that have a subscriber of a channel for which match returns true. It looks at every
// channel, so it is for rare events. Any goroutine may call it. Match must not call the table.
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

// Len returns how many channels have subscribers, without Reserved names. Any goroutine may call it.
func (t *Interest) Len() int { return int(t.named.Load()) }

// Users returns how many users have a connection. Any goroutine may call it.
func (t *Interest) Users() int { return int(t.users.Load()) }

// Created returns how often a channel has come into being: it got its first subscriber, with Reserved names. Any
// goroutine may call it.
func (t *Interest) Created() uint64 { return t.lastID.Load() }

// count notes that a channel has come into being or has gone.
func (t *Interest) count(name string, n int64) {
	switch {
	case !Reserved(name):
		t.named.Add(n)
	case strings.HasPrefix(name, userPrefix):
		t.users.Add(n)
	}
}

// Names returns the names of channels with subscribers in no order, at most namesMax of them. Any goroutine may call
// it.
func (t *Interest) Names(namesMax int) []string {
	return t.NamesOf(func(string) bool { return true }, namesMax)
}

// NamesOf is Names for channels for which match returns true. Match may take long: nobody waits for it.
func (t *Interest) NamesOf(match func(name string) bool, namesMax int) []string {
	var names, of []string
	for i := range t.stripes {
		of = t.stripes[i].appendNames(of[:0])
		for _, name := range of {
			if len(names) == namesMax {
				return names
			}
			if match(name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// appendNames appends the names of channels with subscribers.
func (p *stripe) appendNames(list []string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, e := range p.channels {
		if !e.Shards.Empty() && !Reserved(name) {
			list = append(list, name)
		}
	}
	return list
}

func (t *Interest) stripe(name string) *stripe {
	return &t.stripes[maphash.String(t.seed, name)%stripes]
}
