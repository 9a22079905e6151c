package bus

import "sync"

// Hold counts who holds layouts of a batch, so that their bytes are counted when the ring no longer counts them. It is
// apart from the batch so that whoever holds it does not keep the values in memory. It is made when it is first needed.
// Any goroutine may use it.
type Hold struct {
	ring *Ring

	mu       sync.Mutex
	holders  int
	released bool  // The ring has released the batch.
	counted  int64 // What Ring.held has of this batch: the bytes of its layouts while it is released and held, else 0.
}

// Hold says that somebody holds layouts of the batch, until they call Drop on the result. Any goroutine may call it,
// from Publish on.
func (b *Batch) Hold() *Hold {
	h := b.hold.Load()
	if h == nil {
		b.hold.CompareAndSwap(nil, &Hold{ring: b.ring})
		h = b.hold.Load()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holders++
	h.count(b)
	return h
}

// Drop ends what one call of Batch.Hold began.
func (h *Hold) Drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders--; h.holders < 0 {
		panic("BUG: a held batch was dropped more often than it was held")
	}
	if h.holders == 0 {
		h.ring.addHeld(-h.counted)
		h.counted = 0
	}
}

// Released reports whether the ring has released the batch.
func (h *Hold) Released() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.released
}

// updateHold updates the batch's Hold after a change of Batch.layoutBytes. A Hold that is made at the same time reads
// layoutBytes itself.
func (b *Batch) updateHold() {
	if h := b.hold.Load(); h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.count(b)
	}
}

// count updates counted. The caller holds mu.
func (h *Hold) count(b *Batch) {
	bytes := b.layoutBytes.Load()
	if bytes >= 0 {
		return // The ring counts them.
	}
	h.released = true
	if h.holders > 0 {
		h.ring.addHeld(bytes - released - h.counted)
		h.counted = bytes - released
	}
}
