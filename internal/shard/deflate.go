package shard

import (
	"slices"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// Deflater compresses for all shards, which call it from their own goroutines.
type Deflater interface {
	// Append appends payload to dst as the data of one compressed message (RFC 7692 §7.2.1), without the context of any other.
	Append(dst, payload []byte) []byte
	// Post has job called soon by a goroutine of the Deflater's own. It returns false when too many jobs wait, and job is then not
	// called. It must not block.
	Post(job func()) bool
}

// Deflate is how a shard compresses. All shards that share a bus must do it alike.
type Deflate struct {
	Deflater Deflater // Nil: compression is not offered.
	Least    int      // Bytes of a message from which on it is compressed.
	Inline   int      // Bytes of a segment's messages up to which the shard compresses them itself, beyond it the Deflater's goroutines.
}

// A large segment is compressed elsewhere, while the loop goes on. What is to become of it stands in the queue of each connection
// that gets it compressed, as a chunk that waits: the plain layout, which counts and can be sent at any time, but is not sent before
// the compressed one takes its place. So order needs nothing else, and giving up waiting is to send the chunk as it is.

// wait is a segment that is being compressed, and who waits for it here.
type wait struct {
	segment *bus.Segment
	form    bus.Variant
	plain   []byte
	holders []holder
}

// holder names a connection, as epoll events do.
type holder struct{ slot, generation uint32 }

// form is the layout that c gets.
func (c *conn) form() bus.Variant {
	if c.deflate {
		return c.variant.Deflated()
	}
	return c.variant
}

// layout returns a segment in a form, as a chunk that waits if it is still to be compressed by others.
func (s *Shard) layout(seg *bus.Segment, form bus.Variant) chunk {
	v := form.Plain()
	k := chunk{publications: publications(v, seg.Records)}
	if form == v {
		k.bytes = seg.Layout(v, layouts[v])
		return k
	}
	var built bool
	if k.bytes, built = seg.Built(form); built {
		return k
	}
	plain := seg.Layout(v, layouts[v])
	switch n := s.compressible(v, seg, plain); {
	case n == 0:
		k.bytes = seg.Layout(form, func(*bus.Segment) []byte { return plain })
	case n <= s.deflate.Inline:
		k.bytes = seg.Layout(form, func(*bus.Segment) []byte { return deflated(&s.deflate, plain) })
	default:
		k.bytes, k.waits = s.layoutElsewhere(seg, form, plain)
	}
	return k
}

// layoutElsewhere has a segment compressed by the Deflater's goroutines. It returns the plain layout when the result is still to
// come, and also when there is no room for one more: then it is the compressed one for every shard.
func (s *Shard) layoutElsewhere(seg *bus.Segment, form bus.Variant, plain []byte) (b []byte, waits bool) {
	b, built, first := seg.Await(form, s.layoutReady)
	if built {
		return b, false
	}
	d := s.deflate
	if first && !d.Deflater.Post(func() { seg.Provide(form, deflated(&d, plain)) }) {
		seg.Provide(form, plain)
		return plain, false
	}
	return plain, true
}

// compressible returns the bytes of those of a segment's messages that are large enough to be compressed.
func (s *Shard) compressible(v bus.Variant, seg *bus.Segment, plain []byte) (n int) {
	if v != bus.VariantRaw {
		if len(plain) >= s.deflate.Least {
			n = len(plain)
		}
		return n
	}
	for i := range seg.Records {
		if size := len(seg.Records[i].Value); size >= s.deflate.Least {
			n += size
		}
	}
	return n
}

// deflated returns a layout with its messages compressed, plain itself when none of them gets smaller. Any goroutine.
func deflated(d *Deflate, plain []byte) []byte {
	b := wire.AppendDeflated(make([]byte, 0, len(plain)/2), plain, d.Least, d.Deflater.Append)
	if len(b) >= len(plain) {
		return plain
	}
	if cap(b)-len(b) > len(b)/4 {
		b = append(make([]byte, 0, len(b)), b...) // It may be kept for as long as the bus holds the batch.
	}
	return b
}

// await notes that c waits for a segment, in the last chunk of its queue.
func (s *Shard) await(c *conn, seg *bus.Segment, plain []byte) {
	w := s.waitFor(seg, c.form(), plain)
	w.holders = append(w.holders, holder{c.slot, c.generation})
}

// waitFor returns the entry for a segment, which is among the last if it is there.
func (s *Shard) waitFor(seg *bus.Segment, form bus.Variant, plain []byte) *wait {
	for i := len(s.waits) - 1; i >= 0 && s.waits[i].segment == seg; i-- {
		if s.waits[i].form == form {
			return &s.waits[i]
		}
	}
	w := wait{segment: seg, form: form, plain: plain}
	if n := len(s.holders); n > 0 {
		w.holders, s.holders = s.holders[n-1], s.holders[:n-1]
	}
	s.waits = append(s.waits, w)
	return &s.waits[len(s.waits)-1]
}

// takeLayouts puts what has been compressed in place of the chunks that wait for it.
func (s *Shard) takeLayouts() {
	s.waits = slices.DeleteFunc(s.waits, func(w wait) bool {
		b, built := w.segment.Built(w.form)
		if !built {
			return false
		}
		for _, h := range w.holders {
			if c := s.slab.get(h.slot); c.generation == h.generation {
				s.fill(c, w.plain, b)
			}
		}
		if len(s.holders) < keepHolders {
			s.holders = append(s.holders, w.holders[:0])
		}
		return true
	})
}

// keepHolders is how many lists of holders are kept for reuse.
const keepHolders = 8

// fill puts b in place of the chunk of c that waits with the bytes of plain. There is none when c did not wait that long.
func (s *Shard) fill(c *conn, plain, b []byte) {
	for i := len(c.out) - 1; i >= 0; i-- {
		k := &c.out[i]
		if k.waits && &k.bytes[0] == &plain[0] {
			s.addQueued(c, len(b)-len(k.bytes))
			k.bytes, k.waits = b, false
			s.markDirty(c)
			return
		}
	}
}

// stopWaiting has c sent what it has, compressed or not.
func (s *Shard) stopWaiting(c *conn) {
	waited := false
	for i := range c.out {
		waited = waited || c.out[i].waits
		c.out[i].waits = false
	}
	if waited {
		s.markDirty(c)
	}
}

// hurry ends the waiting of a connection that is behind because of it, and not of its own: nobody is slow for our sake.
func (s *Shard) hurry(c *conn) {
	if c.outLen > s.limits.OutboundMax/2 && len(c.out) > 0 && c.out[0].waits {
		s.stopWaiting(c)
	}
}
