package source

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"wsd/internal/bus"
	"wsd/internal/kafka"
	"wsd/internal/proto"
	"wsd/internal/route"
)

// Block is what a partition holds in the offsets [From, To): record batches as Kafka sent them, without those of
// aborted transactions. It does not change until Done.
type Block struct {
	From, To int64
	First    bool // The log has nothing before From.
	batches  []byte
	recent   *recentBlock // What the block is a part of. Nil if its memory is its own.
}

// Bytes returns how much memory the block holds.
func (b *Block) Bytes() int { return cap(b.batches) }

// Done says that the caller no longer reads the block, which came from Recent. It is called once. Without it, the
// garbage collector frees the memory.
func (b *Block) Done() {
	if b.recent != nil {
		b.recent.readers.Add(-1)
		b.recent, b.batches = nil, nil
	}
}

// ErrAbandoned is the error of a walk that Walker.Pause has ended.
var ErrAbandoned = errors.New("nobody needs the rest of the block")

// Walker goes through the records of blocks and finds the channels that they go to, as the router does. One goroutine
// uses it.
type Walker struct {
	// Pause, unless it is nil, is called whenever the walk has worked for two to four milliseconds, also if it has
	// found nothing meanwhile: a small block may hold very many records. If it returns false, the walk ends with
	// ErrAbandoned.
	Pause func() bool

	st       *Stream
	to       int64
	walker   *kafka.Walker
	place    route.Placement
	channels [][]byte // The record's channels that have not been visited.
	channel  []byte
	depthMax int
	err      error
}

// NewWalker returns a walker that is at its end.
func (s *Source) NewWalker() *Walker {
	return &Walker{walker: kafka.NewWalker(s.o.BatchBytesMax, s.o.RecordBytesMax), depthMax: s.o.JSONDepthMax}
}

// Open begins with the records of st's block b in [from, to).
func (w *Walker) Open(st *Stream, b Block, from, to int64) {
	w.st, w.to = st, to
	w.channels, w.err = nil, nil
	w.walker.Open(b.batches, nil, from)
	w.walker.Allow(sliceWork)
}

// Close ends the walk. Next does so at the end.
func (w *Walker) Close() {
	w.walker.Close()
	w.channels = nil
}

// Next goes to the record's next channel, or to the next record that has one. It returns false at the end, and if the
// block cannot be read, see Err.
func (w *Walker) Next() (ok bool) {
	defer func() {
		if !ok {
			w.Close()
		}
	}()
	defer catchPanic(&w.err)
	for {
		if len(w.channels) > 0 {
			w.channel, w.channels = w.channels[0], w.channels[1:]
			return true
		}
		if !w.nextRecord() {
			return false
		}
	}
}

// nextRecord goes to the next record and finds its channels.
func (w *Walker) nextRecord() bool {
	for !w.walker.NextRecord() {
		if !w.walker.Paused() && w.walker.Err() == nil && w.walker.NextBatch() && w.walker.Batch().Base < w.to {
			continue
		}
		if w.walker.Paused() {
			if w.Pause != nil && !w.Pause() {
				w.err = ErrAbandoned
				return false
			}
			w.walker.Allow(sliceWork)
			continue
		}
		if w.walker.Partial() {
			panic(fmt.Sprintf("BUG: a block of %s/%d below offset %d ends inside a batch", w.st.p.topic.name, w.st.p.id,
				w.to))
		}
		w.err = w.walker.Err()
		return false
	}
	rec := w.walker.Record()
	if rec.Offset >= w.to {
		return false
	}
	if rec.TooLarge == 0 {
		p := w.st.p
		p.topic.route.Place(&w.place, p.id, &route.Record{Key: rec.Key, Value: rec.Value, Headers: rec.Headers})
		w.channels = w.place.Channels
	}
	return true
}

// Channel returns the name of the record's channel. It is valid until the next call of Next.
func (w *Walker) Channel() []byte { return w.channel }

// Offset returns the record's offset plus 1, as publications have it.
func (w *Walker) Offset() uint64 { return uint64(w.walker.Record().Offset) + 1 }

// Millis returns the record's timestamp, in milliseconds of Unix time.
func (w *Walker) Millis() int64 { return w.walker.Record().Millis }

// Bytes returns how many bytes the record counts, see bus.RecordBytes.
func (w *Walker) Bytes() int {
	value := w.walker.Record().Value
	if value == nil {
		value = jsonNull
	}
	n := bus.RecordBytes(&bus.Record{Value: value})
	if w.st.p.topic.published {
		n += published(w.walker.Record().Headers).Bytes()
	}
	return n
}

// Record returns the record as the bus has it, with memory of its own.
func (w *Walker) Record() bus.Record {
	r := bus.Record{Offset: w.Offset(), Value: bytes.Clone(w.walker.Record().Value), Text: true}
	if w.st.p.topic.published {
		r.Info = published(w.walker.Record().Headers)
	}
	if r.Value == nil {
		r.JSON = jsonNull
		return r
	}
	var err error
	if r.JSON, err = proto.CompactJSON(nil, r.Value, w.depthMax); err != nil {
		r.Text = utf8.Valid(r.Value)
	}
	return r
}

// Err returns why the walk ended early, or nil if it did not.
func (w *Walker) Err() error {
	if w.err == nil {
		return nil
	}
	return fmt.Errorf("read %s/%d again near offset %d: %w", w.st.p.topic.name, w.st.p.id, w.walker.Record().Offset,
		w.err)
}
