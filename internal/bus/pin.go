package bus

import (
	"sync"
)

// Pin counts who holds layouts of a batch, so that their bytes are counted once the ring no longer counts them. It is apart from the batch,
// made when it is first needed: who has it does not hold the values. Any goroutine.
type Pin struct {
	ring *Ring

	mu       sync.Mutex
	holders  int
	released bool  // The ring has let the batch go.
	counted  int64 // What the ring counts of it as held: the bytes of its layouts while it is released and held, else 0.
}

// Hold says that somebody holds layouts of the batch, until Drop of what it returns. Any goroutine, from Publish on.
func (b *Batch) Hold() *Pin {
	p := b.pin.Load()
	if p == nil {
		b.pin.CompareAndSwap(nil, &Pin{ring: b.ring})
		p = b.pin.Load()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders++
	p.count(b)
	return p
}

// Drop ends what one Hold began.
func (p *Pin) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holders--; p.holders == 0 {
		p.ring.hold(-p.counted)
		p.counted = 0
	}
}

// Released reports whether the ring has let the batch go.
func (p *Pin) Released() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.released
}

// repin brings the batch's pin up to date, after a change of Batch.layouts. A Hold that makes the pin meanwhile looks at layouts itself.
func (b *Batch) repin() {
	if p := b.pin.Load(); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.count(b)
	}
}

// count is called under mu.
func (p *Pin) count(b *Batch) {
	layouts := b.layouts.Load()
	if layouts >= 0 {
		return // The ring counts them.
	}
	p.released = true
	if p.holders > 0 {
		p.ring.hold(layouts - gone - p.counted)
		p.counted = layouts - gone
	}
}
