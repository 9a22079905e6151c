package shard

import (
	"slices"
	"sync/atomic"
)

// Signals that other goroutines post, as bits.
const (
	signalStopAccepting uint32 = 1 << iota
	signalShutdown
	signalLayouts // A segment that this shard awaits has been compressed.
	signalCompletions
	signalDrain
	signalSurvey
	signalOrders
)

// inboxMax bounds the completions that a shard may be waiting for.
const inboxMax = 1 << 20

// inbox is the one way back onto the loop for work that is done elsewhere. Signals say that something is to be looked
// at; a completion brings the result of work that was begun for one connection. Whatever is posted wakes the shard
// once, until it has looked.
type inbox struct {
	wake   func() // Any goroutine.
	memory *Memory

	signals atomic.Uint32
	newest  atomic.Pointer[completion]

	// Of the shard's goroutine.
	expected int // Completions that were begun and have not been acted on yet.
	begun    int // In this turn.
}

// completion brings the result of work that was done elsewhere for one connection. It finds the connection by slot and
// generation, and is dropped when that has gone.
type completion struct {
	inbox *inbox
	conn  connRef
	next  *completion

	bytes int  // Memory that the result takes, see post.
	wait  bool // The result waits until the connection has room for it.
	run   func(c *conn, room bool)
}

// begin reserves a place for the result of work for c, or returns nil when too much work is under way. The work must
// end with one post, however it ends: the place is taken until then. The shard's goroutine.
func (in *inbox) begin(c *conn) *completion {
	if in.expected >= inboxMax {
		return nil
	}
	in.expected++
	in.begun++
	return &completion{inbox: in, conn: connRef{c.slot, c.generation}}
}

// post hands the result to the shard, which calls run on its own goroutine. room says whether the connection has room
// for bytes more; if not, run must do with something short. With wait, run is called only when there is room, and
// with room false only when too much waits already in the shard; the result holds bytes of memory meanwhile. run is
// not called when the connection has ended. Any goroutine; once.
func (k *completion) post(bytes int, wait bool, run func(c *conn, room bool)) {
	in := k.inbox
	k.bytes, k.wait, k.run = bytes, wait, run
	in.memory.addAnswer(int64(bytes))
	for {
		k.next = in.newest.Load()
		if in.newest.CompareAndSwap(k.next, k) {
			break
		}
	}
	in.signal(signalCompletions)
}

// signal posts signals. Any goroutine.
func (in *inbox) signal(bits uint32) {
	in.signals.Or(bits)
	in.wake()
}

// takeSignals returns the signals that were posted.
func (in *inbox) takeSignals() uint32 {
	if in.signals.Load() == 0 {
		return 0
	}
	return in.signals.Swap(0)
}

// takeCompletions appends the completions that were posted to list, the first ones first.
func (in *inbox) takeCompletions(list []*completion) []*completion {
	known := len(list)
	for k := in.newest.Swap(nil); k != nil; {
		list = append(list, k)
		next := k.next
		k.next = nil // One that is put off would keep the results of all that came before it in memory.
		k = next
	}
	slices.Reverse(list[known:])
	return list
}

// done frees the places of n completions that were acted on, or dropped.
func (in *inbox) done(n int) { in.expected -= n }
