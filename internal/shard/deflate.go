package shard

import (
	"slices"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// Deflater compresses for all shards, which call it from their own goroutines.
type Deflater interface {
	// Append appends payload to dst as the data of one compressed message (RFC 7692 §7.2.1), without the context of any
	// other.
	Append(dst, payload []byte) []byte
	// Post has job called soon by a goroutine of the Deflater's own. It returns false when too many jobs wait; job is
	// then not called. It must not block.
	Post(job func()) bool
}

// Deflate is how a shard compresses. All shards that share a bus must do it alike.
type Deflate struct {
	Deflater Deflater // Nil: compression is not offered.
	Least    int      // Messages of fewer bytes are not compressed.
	Inline   int      // Bytes of a segment's messages beyond which a job compresses them instead of the shard.
}

// A large segment is compressed elsewhere, while the loop goes on. Until then its place in each outbox is taken by a
// deferred chunk: the plain layout, which counts and could be sent at any time, but is not sent before the compressed
// one replaces it. So order needs nothing else, and to give up waiting is to send the chunk as it is.

// compressor lays segments out in compressed form for one shard. It belongs to the shard's goroutine.
type compressor struct {
	Deflate
	layouts *layouts
	ready   func() // Wakes the shard when a layout that it awaits is there; any goroutine.

	awaited []awaited
	spares  [][]uint32 // Empty lists for reuse.
}

// awaited is a segment that is being compressed, and in whose outboxes it is deferred.
type awaited struct {
	segment *bus.Segment
	form    bus.Variant
	plain   []byte
	// The slots of the connections. Another connection may have a slot by now: its chunks have other bytes than plain,
	// or it awaits the segment as well.
	slots []uint32
}

// sparesOfSlots bounds the lists that are kept for reuse.
const sparesOfSlots = 8

// form is the layout that c gets: its variant, compressed if that was negotiated.
func (c *conn) form() bus.Variant {
	if c.reader.Deflate() {
		return c.variant.Deflated()
	}
	return c.variant
}

// layout returns a segment in a form, as a deferred chunk if it is still to be compressed elsewhere.
func (z *compressor) layout(seg *bus.Segment, form bus.Variant) chunk {
	d := &dialects[form.Plain()]
	k := chunk{publications: d.publications(seg.Records)}
	if form == form.Plain() {
		k.bytes = z.layouts.of(form, seg)
		return k
	}
	var built bool
	if k.bytes, built = seg.Built(form); built {
		return k
	}
	plain := z.layouts.of(form.Plain(), seg)
	switch n := d.compressible(seg, plain, z.Least); {
	case n == 0:
		k.bytes = seg.Layout(form, func(*bus.Segment) []byte { return plain })
	case n <= z.Inline:
		k.bytes = seg.Layout(form, func(*bus.Segment) []byte { return deflated(&z.Deflate, plain) })
	default:
		k.bytes, k.deferred = z.layoutElsewhere(seg, form, plain)
	}
	return k
}

// layoutElsewhere has the Deflater's goroutines compress a segment. It returns the plain layout when the result is
// still to come, and also when there is no room for another job: then it is the compressed one for every shard.
func (z *compressor) layoutElsewhere(seg *bus.Segment, form bus.Variant, plain []byte) (b []byte, deferred bool) {
	b, built, first := seg.Await(form, z.ready)
	if built {
		return b, false
	}
	d := z.Deflate
	if first && !d.Deflater.Post(func() { seg.Provide(form, deflated(&d, plain)) }) {
		seg.Provide(form, plain)
		return plain, false
	}
	return plain, true
}

// deflated returns a layout with its messages compressed, or plain itself when none of them gets smaller. Any
// goroutine.
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

// frames returns WebSocket frames in a form: as they are, or compressed. Any goroutine.
func (d *Deflate) frames(form bus.Variant, plain []byte) []byte {
	if form == form.Plain() {
		return plain
	}
	return deflated(d, plain)
}

// await notes that the last chunk of c's outbox is the deferred one of a segment.
func (z *compressor) await(c *conn, seg *bus.Segment, plain []byte) {
	w := z.entry(seg, c.form(), plain)
	w.slots = append(w.slots, c.slot)
}

// entry returns the entry of a segment, which is among the last if it is there.
func (z *compressor) entry(seg *bus.Segment, form bus.Variant, plain []byte) *awaited {
	for i := len(z.awaited) - 1; i >= 0 && z.awaited[i].segment == seg; i-- {
		if z.awaited[i].form == form {
			return &z.awaited[i]
		}
	}
	w := awaited{segment: seg, form: form, plain: plain}
	if n := len(z.spares); n > 0 {
		w.slots, z.spares = z.spares[n-1], z.spares[:n-1]
	}
	z.awaited = append(z.awaited, w)
	return &z.awaited[len(z.awaited)-1]
}

// replaceDeferred puts what has been compressed in place of the deferred chunks.
func (s *Shard) replaceDeferred() {
	z := &s.compressor
	z.awaited = slices.DeleteFunc(z.awaited, func(w awaited) bool {
		b, built := w.segment.Built(w.form)
		if !built {
			return false
		}
		for _, slot := range w.slots {
			if c := s.slab.get(slot); s.sender.replace(&c.out, w.plain, b) {
				s.outlet.markDirty(c)
			}
		}
		if len(z.spares) < sparesOfSlots {
			z.spares = append(z.spares, w.slots[:0])
		}
		return true
	})
}

// sendUncompressed has what is deferred sent as it is.
func (s *sender) sendUncompressed(o *outbox) {
	for i := range o.chunks {
		o.chunks[i].deferred = false
	}
}

// sendUncompressedIfBehind is sendUncompressed for a connection that is behind because its first chunk is deferred: a
// connection must not become slow for want of a compressed layout.
func (s *sender) sendUncompressedIfBehind(o *outbox) {
	if o.cost > s.outboundMax/2 && len(o.chunks) > 0 && o.chunks[0].deferred {
		s.sendUncompressed(o)
	}
}
