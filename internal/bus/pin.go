package bus

import "sync/atomic"

// Pin counts who holds layouts of a batch, so that their bytes are counted once the ring no longer counts them. It is apart from the batch,
// made when it is first needed: who has it does not hold the values. Any goroutine.
type Pin struct {
	state atomic.Int64  // How many hold it, and the released bit.
	bytes int64         // Of the layouts; set before the released bit.
	total *atomic.Int64 // The ring's Stats.PinnedBytes.
}

// released is the bit of Pin.state that says that the ring has let the batch go.
const released = 1 << 62

// nobody stands for the pin of a batch that was released while nobody held it.
var nobody Pin

// Hold says that somebody holds layouts of the batch, until Drop of what it returns. Any goroutine, from Publish on.
func (b *Batch) Hold() *Pin {
	p := b.pin.Load()
	for p == nil || p == &nobody {
		made := &Pin{total: &b.stats.PinnedBytes}
		if p == &nobody { // A shard may have the batch in hand for a turn.
			made.bytes = b.layouts.Load() - gone
			made.state.Store(released)
		}
		b.pin.CompareAndSwap(p, made)
		p = b.pin.Load()
	}
	p.hold()
	return p
}

func (p *Pin) hold() {
	if p.state.Add(1) == released+1 {
		p.total.Add(p.bytes)
	}
}

// Drop ends what one Hold began.
func (p *Pin) Drop() {
	if p.state.Add(-1) == released {
		p.total.Add(-p.bytes)
	}
}

// Released reports whether the ring has let the batch go.
func (p *Pin) Released() bool { return p.state.Load() >= released }

// release is the ring's part: from now on bytes count while somebody holds them.
func (p *Pin) release(bytes int64) {
	p.bytes = bytes
	if p.state.Add(released) > released {
		p.total.Add(bytes)
	}
}
