package shm

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// RingBytes is the size of a publisher's ring, a power of two. EntryMax is the largest payload of an entry, so that a
// ring takes several.
const (
	RingBytes = 1 << 20
	EntryMax  = RingBytes / 4
)

const (
	entryHeader = 16         // Length, four bytes of nothing, mask.
	skipRest    = ^uint32(0) // As length: the rest of the ring is unused, the next entry is at its start.
)

// ringHeader is the state of a ring. Positions count bytes since the start and never wrap.
type ringHeader struct {
	head    atomic.Uint64 // End of the last entry; written by the publisher.
	_       [56]byte
	readers [ShardsMax]struct {
		cursor atomic.Uint64 // Start of the next entry to read; written by the shard.
		active atomic.Uint32 // 1: the publisher waits for this reader. Set by the shard, cleared by Forget.
		_      [52]byte
	}
}

// Ring is the broadcast ring of one publisher. Entries lie in it once; every shard reads them there.
type Ring struct {
	b      *Board
	h      *ringHeader
	data   []byte
	events []int  // Eventfd of each shard.
	next   uint64 // Publisher: end of what is written, which may be more than what is published.
}

// Ring returns the ring of a publisher. events are the eventfds that wake the shards.
func (b *Board) Ring(publisher int, events []int) *Ring {
	start := int(unsafe.Sizeof(layout{})) + publisher*RingBytes
	h := &b.l.heads[publisher]
	return &Ring{b: b, h: h, data: b.mem[start : start+RingBytes], events: events, next: h.head.Load()}
}

// Write writes an entry for the shards in mask, which see it after Commit. It waits while a reader is a whole ring
// behind, and returns false when stop is closed meanwhile. Only the publisher calls it.
func (r *Ring) Write(mask uint64, payload []byte, stop <-chan struct{}) bool {
	if len(payload) > EntryMax {
		panic(fmt.Sprintf("BUG: entry of %d bytes, more than %d", len(payload), EntryMax))
	}
	need := uint64(entryHeader+len(payload)+7) &^ 7
	if rest := RingBytes - r.next%RingBytes; rest < need {
		if !r.room(rest, stop) {
			return false
		}
		binary.LittleEndian.PutUint32(r.data[r.next%RingBytes:], skipRest)
		r.next += rest
	}
	if !r.room(need, stop) {
		return false
	}
	at := r.data[r.next%RingBytes:]
	binary.LittleEndian.PutUint32(at, uint32(len(payload)))
	binary.LittleEndian.PutUint64(at[8:], mask)
	copy(at[entryHeader:], payload)
	r.next += need
	return true
}

// pause is how long a publisher waits before it looks again at a reader that is behind.
const pause = 200 * time.Microsecond

// room waits until n bytes after next are free.
func (r *Ring) room(n uint64, stop <-chan struct{}) bool {
	for r.next+n-r.slowest() > RingBytes {
		r.Commit(r.b.All()) // A reader may wait for what is written and not published.
		select {
		case <-stop:
			return false
		case <-time.After(pause):
		}
	}
	return true
}

func (r *Ring) slowest() uint64 {
	least := r.next
	for i := range r.b.shards {
		if p := &r.h.readers[i]; p.active.Load() == 1 {
			least = min(least, p.cursor.Load())
		}
	}
	return least
}

// Commit publishes what was written, and wakes those shards of mask that sleep.
func (r *Ring) Commit(mask uint64) {
	r.h.head.Store(r.next)
	for i := range r.b.shards {
		if mask&(1<<i) != 0 && r.b.l.sleeping[i].CompareAndSwap(1, 0) {
			Wake(r.events[i])
		}
	}
}

// Wake adds to an eventfd (eventfd(2)), which ends the sleep of its reader.
func Wake(fd int) {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(fd, one[:]) // Fails only when the count is at its limit: then the reader is awake anyway.
}

// Attach makes a shard a reader, from the ring's present end.
func (r *Ring) Attach(shard int) {
	p := &r.h.readers[shard]
	for {
		at := r.h.head.Load()
		p.cursor.Store(at)
		p.active.Store(1)
		// Until active was seen, the publisher may have written over what is at the cursor.
		if r.h.head.Load() == at {
			return
		}
	}
}

// Read calls fn with each entry that is for the shard, then end, and returns how many entries it passed. The payloads
// are valid until end returns.
func (r *Ring) Read(shard int, fn func(payload []byte), end func()) (n int) {
	p := &r.h.readers[shard]
	head := r.h.head.Load()
	at := p.cursor.Load()
	for at < head {
		entry := r.data[at%RingBytes:]
		length := binary.LittleEndian.Uint32(entry)
		if length == skipRest {
			at += RingBytes - at%RingBytes
			continue
		}
		if binary.LittleEndian.Uint64(entry[8:])&(1<<shard) != 0 {
			fn(entry[entryHeader : entryHeader+length])
		}
		at += uint64(entryHeader+length+7) &^ 7
		n++
	}
	if at == p.cursor.Load() {
		return 0
	}
	end()
	p.cursor.Store(at)
	return n
}

// Sleep says that the shard is about to wait for its eventfd. It must then look at the rings once more.
func (b *Board) Sleep(shard int) { b.l.sleeping[shard].Store(1) }

// Awake undoes Sleep.
func (b *Board) Awake(shard int) { b.l.sleeping[shard].Store(0) }
