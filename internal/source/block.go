package source

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/route"
)

// Block is what a partition holds in a range of offsets: record batches as Kafka sent them, without those of aborted transactions. It
// does not change until Done.
type Block struct {
	From, To int64 // It covers From, and not To.
	First    bool  // The log has nothing before From.
	batches  []byte
	recent   *recentBlock // What it is of; nil: its memory is its own.
}

// Bytes returns how much memory the block holds.
func (b *Block) Bytes() int { return cap(b.batches) }

// Done says that the caller, who has the block from Recent, does not read it any more. Called once; without it the memory is left to the
// garbage collector.
func (b *Block) Done() {
	if b.recent != nil {
		b.recent.readers.Add(-1)
		b.recent, b.batches = nil, nil
	}
}

// Walker goes through the records of blocks and finds the channels that they go to, as the router does. One goroutine uses it.
type Walker struct {
	st       *Stream
	from, to int64
	rest     []byte // Batches still to come.
	batch    batch
	left     int32        // Records of batch still to come,
	records  recordReader // and they themselves.
	open     bool         // records is to be closed.
	rec      record
	max      int // Bytes of the largest record.
	offset   int64
	inflate  inflater
	place    route.Placement
	channels [][]byte // Of rec, still to come.
	channel  []byte
	err      error
}

// NewWalker returns a walker that is at its end.
func (s *Source) NewWalker() *Walker {
	return &Walker{inflate: inflater{max: s.o.BatchBytesMax}, max: s.o.RecordBytesMax}
}

// Open begins with the records of a block of st from offset from to offset to, to excluded.
func (w *Walker) Open(st *Stream, b Block, from, to int64) {
	w.st, w.rest, w.from, w.to = st, b.batches, from, to
	w.channels, w.err = nil, nil
}

// Next goes to the next channel of the record, or to the next record that has one. It returns false at the end, and when the block cannot
// be read; see Err.
func (w *Walker) Next() (ok bool) {
	defer func() {
		if !ok {
			w.end()
		}
	}()
	defer recovered(&w.err)
	for {
		if len(w.channels) > 0 {
			w.channel, w.channels = w.channels[0], w.channels[1:]
			return true
		}
		if w.left == 0 {
			if !w.nextBatch() {
				return false
			}
			continue
		}
		if !w.nextRecord() {
			return false
		}
	}
}

// end closes what is open.
func (w *Walker) end() {
	w.closeRecords()
	w.left, w.rest, w.channels = 0, nil, nil
}

func (w *Walker) closeRecords() {
	if w.open {
		w.records.close()
		w.open = false
	}
}

// nextRecord decodes a record and finds its channels. It returns false behind the range.
func (w *Walker) nextRecord() bool {
	tooLarge, err := w.records.next(&w.rec)
	if err != nil {
		w.err = err
		return false
	}
	if w.offset = w.batch.base + w.rec.delta; w.offset >= w.to {
		return false
	}
	if w.offset >= w.from && tooLarge == 0 {
		p := w.st.p
		p.topic.route.Place(&w.place, p.id, &route.Record{Key: w.rec.key, Value: w.rec.value, Headers: w.rec.headers})
		w.channels = w.place.Channels
	}
	w.left--
	return true
}

// nextBatch opens the next batch that reaches into the range.
func (w *Walker) nextBatch() bool {
	w.closeRecords()
	for len(w.rest) > 0 {
		if w.batch, w.rest, w.err = parseBatch(w.rest); w.err != nil {
			return false
		}
		switch {
		case w.batch.last() < w.from:
		case w.batch.base >= w.to:
			w.rest = nil
		default:
			w.records, w.err = w.inflate.records(&w.batch, w.max)
			w.open, w.left = true, w.batch.count
			return w.err == nil
		}
	}
	return false
}

// Channel returns the name of the record's channel, until the next Next.
func (w *Walker) Channel() []byte { return w.channel }

// Offset returns the record's offset as a publication: Kafka's + 1.
func (w *Walker) Offset() uint64 { return uint64(w.offset) + 1 }

// Record returns the record as a publication, with memory of its own.
func (w *Walker) Record() bus.Record {
	r := bus.Record{Offset: w.Offset(), Value: bytes.Clone(w.rec.value), Text: true}
	if r.Value == nil {
		r.JSON = jsonNull
		return r
	}
	var isJSON bool
	if r.JSON, isJSON = proto.CompactJSON(nil, r.Value); !isJSON {
		r.JSON, r.Text = nil, utf8.Valid(r.Value)
	}
	return r
}

// Err returns why the walk ended early, nil when it did not.
func (w *Walker) Err() error {
	if w.err == nil {
		return nil
	}
	return fmt.Errorf("read %s/%d again near offset %d: %w", w.st.p.topic.name, w.st.p.id, w.offset, w.err)
}
