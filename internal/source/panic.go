package source

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// panicError is a panic while reading what a broker sent.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// catchPanic turns a panic into *err. It lets a panic that says BUG pass: the process must not survive a broken
// invariant of its own.
func catchPanic(err *error) {
	v := recover() //nolint:revive // It is itself the deferred function.
	if v == nil {
		return
	}
	if text, ok := v.(string); ok && strings.HasPrefix(text, "BUG:") {
		panic(v)
	}
	*err = &panicError{value: v, stack: debug.Stack()}
}

// walked is the batch that a walk has reached, and the last one in which a record was skipped after a panic.
type walked struct {
	base, last int64 // Base is -1 before the first batch.
	skippedIn  batchKey
}

// batchKey names a batch of a partition.
type batchKey struct {
	p    *partition
	base int64
}

// panickedLocked deals with a panic of a walk that began at the offset from. The first panic in a batch costs the
// record that was read. After a second one, or if not even a record was found, the rest of the batch is lost: a batch
// of a few bytes may claim millions of offsets, and must not cost a line and a break for each. Again reports that the
// walk can go on. The error is a *publishError.
func (f *fetcher) panickedLocked(p *partition, pan *panicError, from, high int64) (again bool, err error) {
	position := p.routed.Load()
	f.s.stats.Panics.Add(1)
	f.s.logPanicLocked(p, pan, max(from, position-1))
	in := batchKey{p, f.walked.base}
	if in.base < 0 { // The walk could not even find a batch.
		return false, f.badBatchLocked(p, pan, -1, high, false)
	}
	first := position
	if position > max(from, in.base) { // The position is past the record that was read.
		first--
		if f.walked.skippedIn != in {
			f.walked.skippedIn = in
			return true, f.s.loseLocked(p, LossUnreadable, first, position)
		}
	}
	to := max(position, min(f.walked.last, high-1)+1, first+1)
	p.routed.Store(to)
	return true, f.s.loseLocked(p, LossUnreadable, first, to, "err", pan)
}

// logPanicLocked logs a panic with its stack, at most one in each Options.LogInterval.
func (s *Source) logPanicLocked(p *partition, pan *panicError, offset int64) {
	now := time.Now()
	if now.Before(s.panicLogFrom) {
		s.panicsUnlogged++
		return
	}
	s.log.Error("BUG: reading a record panicked", "topic", p.topic.name, "partition", p.id, "offset", offset,
		"panic", pan.value, "stack", string(pan.stack), "not_logged", s.panicsUnlogged)
	s.panicLogFrom, s.panicsUnlogged = now.Add(s.o.LogInterval), 0
}
