package kafka

import "math"

// Walker goes through the record batches of one partition, as a fetch returned them: batch by batch and, within a
// batch, record by record. It skips what lies before its position, and recognizes markers and aborted transactions. All
// code that reads batches uses a Walker, so each rule about batches is written once. A walk can be limited to a number
// of units of work at a time, see Allow. One goroutine uses it.
type Walker struct {
	inflate   inflater
	recordMax int // Size in bytes of the largest record that is decoded.
	aborted   abortedSet

	next    int64  // Everything before this offset has been passed.
	rest    []byte // The batches to come.
	partial bool   // The data ended inside a batch.
	err     error
	batch   Batch
	inBatch bool // batch is the current batch.

	records recordReader // The reader of batch's records.
	opened  bool         // The reader must be closed.
	left    int32        // Records of batch that have not been decoded.
	last    int64        // The offset of the batch's record that was decoded last. Before the first: below them all.
	record  Record

	work   int  // The units of work that are left, see Allow.
	paused bool // See Paused.
}

// A unit of work is about what a byte of a record costs. These are the units that a batch and a record cost in addition
// to their bytes.
const (
	batchWork  = 256
	recordWork = 64
)

// NewWalker returns a walker at its end. A batch that decompresses to more than batchBytesMax bytes cannot be read. Of
// a record above recordBytesMax bytes only the offset and the time are decoded.
func NewWalker(batchBytesMax, recordBytesMax int) *Walker {
	return &Walker{inflate: inflater{max: batchBytesMax}, recordMax: recordBytesMax}
}

// Open begins a walk through data from the offset next on. Aborted is the broker's list of aborted transactions, which
// Open sorts. It is nil if the data is already without aborted records.
func (w *Walker) Open(data []byte, aborted []AbortedTransaction, next int64) {
	w.Close()
	w.aborted.reset(aborted)
	w.rest, w.next, w.partial, w.err = data, next, false, nil
	w.Allow(math.MaxInt)
}

// Allow limits the walk to a number of units of work from now on. A unit is a byte of a record; each record costs 64
// units in addition, and each batch 256. When they are used up, the walk pauses: NextBatch or NextRecord returns false,
// and Paused reports true. After another Allow the same call goes on where the walk paused. The limit is passed by at
// most a record, or a window of a record that is too large. Open sets no limit.
func (w *Walker) Allow(work int) { w.work, w.paused = work, false }

// Paused reports whether the last NextBatch or NextRecord returned false because the allowed work was used up.
func (w *Walker) Paused() bool { return w.paused }

// Close ends the walk and drops every reference to its data. Err and the record's offset stay.
func (w *Walker) Close() {
	w.leaveBatch()
	w.aborted.reset(nil)
	w.rest, w.batch = nil, Batch{}
	w.record = Record{Offset: w.record.Offset}
}

// NextBatch goes to the next batch that holds an offset at or after the walk's position. It returns false at the end of
// the data, and if a batch cannot be read, see Err.
func (w *Walker) NextBatch() bool {
	w.leaveBatch()
	for len(w.rest) > 0 && w.err == nil {
		if w.work <= 0 {
			w.paused = true
			return false
		}
		w.work -= batchWork
		rest, err := w.batch.parse(w.rest)
		if err == errPartial { //nolint:errorlint // Nobody wraps it.
			w.rest, w.partial = nil, true
			return false
		}
		if err != nil {
			w.fail(err)
			return false
		}
		w.rest = rest
		kind := w.aborted.kindOf(&w.batch) // For every batch, also one before the position.
		if w.batch.Last() < w.next {
			continue
		}
		w.batch.Kind, w.batch.Next, w.inBatch = kind, w.next, true
		if kind == BatchRecords {
			w.left, w.last = w.batch.Count, w.batch.Base-1
		}
		return true
	}
	return false
}

// Batch returns the current batch, which is valid until the next NextBatch.
func (w *Walker) Batch() *Batch { return &w.batch }

// NextRecord goes to the batch's next record at or after the walk's position. It returns false at the end of the batch,
// in a batch without records to deliver, and if the batch cannot be read, see Err.
func (w *Walker) NextRecord() bool {
	// Open even an empty batch, so that an unknown compression is noticed.
	if w.inBatch && !w.opened && w.batch.Kind == BatchRecords && w.err == nil {
		w.opened = true
		if err := w.inflate.open(&w.batch, w.recordMax, &w.records); err != nil {
			w.fail(err)
			return false
		}
	}
	for w.left > 0 {
		if w.work <= 0 {
			w.paused = true
			return false
		}
		n, err := w.records.next(&w.record)
		w.work -= recordWork + n
		if err != nil {
			w.fail(err)
			return false
		}
		if w.records.skipping > 0 { // The record is too large, and not all of it has been skipped.
			continue
		}
		w.left--
		// A batch of many records that claim one offset would otherwise be decoded to its end for nothing.
		if w.record.Offset <= w.last {
			w.fail(errOrder)
			return false
		}
		w.last = w.record.Offset
		if w.record.Offset >= w.next { // A broker sends whole batches: records before the position are skipped.
			w.next = w.record.Offset + 1
			return true
		}
	}
	return false
}

// Record returns the current record. It is valid until the walker moves on.
func (w *Walker) Record() *Record { return &w.record }

// Err returns why the walk ended early: a *BatchError, or nil if it did not.
func (w *Walker) Err() error { return w.err }

// Partial reports whether the data ended inside a batch.
func (w *Walker) Partial() bool { return w.partial }

// leaveBatch moves the position past the current batch.
func (w *Walker) leaveBatch() {
	if w.opened {
		w.records.close()
		w.opened = false
	}
	if w.inBatch {
		w.next, w.inBatch = w.batch.Last()+1, false
	}
	w.left = 0
}

// fail ends the walk at a batch that cannot be read.
func (w *Walker) fail(err error) {
	last := int64(-1)
	if w.batch.lastDelta >= 0 {
		last = w.batch.Last()
	}
	w.err = &BatchError{Last: last, Err: err}
	w.left = 0
}
