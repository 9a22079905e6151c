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
}

// stripes bounds how long shards that subscribe hold up the router, and each other: they meet only in one stripe of many.
const stripes = 256

// Interest says which shards have subscribers of which channel.
//
// The order of its use decides whether a subscriber can miss a record (design.md §3): the router stores how far it has routed a
// partition BEFORE it calls Lookup; a shard calls Add BEFORE it reads that position and tells it to the subscriber. Whatever the
// router did not find wanted then lies at or before the position that the subscriber is told.
type Interest struct {
	seed    maphash.Seed
	lastID  atomic.Uint64
	apart   atomic.Int64 // Names in the table that are Reserved.
	stripes [stripes]stripe
}

type stripe struct {
	mu       sync.Mutex
	channels map[string]Channel
	_        [112]byte // Two cache lines each: adjacent ones are fetched in pairs.
}

// NewInterest returns an empty table.
func NewInterest() *Interest {
	t := &Interest{seed: maphash.MakeSeed()}
	for i := range t.stripes {
		t.stripes[i].channels = make(map[string]Channel)
	}
	return t
}

// Add notes that shard s has a subscriber of the channel and returns the channel's id. Adding again changes nothing. Any
// goroutine.
func (t *Interest) Add(name string, s ShardID) ChannelID {
	p := &t.stripes[maphash.String(t.seed, name)%stripes]
	p.mu.Lock()
	defer p.mu.Unlock()
	ch, ok := p.channels[name]
	if !ok {
		ch = Channel{ID: ChannelID(t.lastID.Add(1)), Name: strings.Clone(name)}
		if Reserved(name) {
			t.apart.Add(1)
		}
	}
	ch.Shards.Add(s)
	p.channels[ch.Name] = ch
	return ch.ID
}

// Remove notes that shard s has no subscriber of the channel any more. When no shard has, the channel's id ends: whoever comes
// later gets another. Removing what is not there changes nothing. Any goroutine.
func (t *Interest) Remove(name string, s ShardID) {
	p := &t.stripes[maphash.String(t.seed, name)%stripes]
	p.mu.Lock()
	defer p.mu.Unlock()
	ch, ok := p.channels[name]
	if !ok {
		return
	}
	ch.Shards.Remove(s)
	if ch.Shards.Empty() {
		delete(p.channels, name)
		if Reserved(name) {
			t.apart.Add(-1)
		}
		return
	}
	p.channels[ch.Name] = ch
}

// Lookup returns the channel with the given name if it has subscribers. It allocates nothing. Any goroutine; the router calls it
// for every record.
func (t *Interest) Lookup(name []byte) (Channel, bool) {
	p := &t.stripes[maphash.Bytes(t.seed, name)%stripes]
	p.mu.Lock()
	ch, ok := p.channels[string(name)]
	p.mu.Unlock()
	return ch, ok
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
		n += len(p.channels)
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
		for name := range p.channels {
			if len(names) == most {
				break
			}
			if !Reserved(name) {
				names = append(names, name)
			}
		}
		p.mu.Unlock()
	}
	return names
}
