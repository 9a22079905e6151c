package steering

import (
	"sync/atomic"

	"wsd/internal/routing"
)

// correctionWindow is over how many calls of Correct a difference must last. At
// one call a second that is longer than a handshake on a bad line.
const correctionWindow = 10

// drift is what Correct knows of one shard.
type drift struct {
	calls  int
	excess int64 // The least of this window.
}

// Correct brings the load that the program sees back to the connections there
// are. The program counts SYNs; some never become a connection (the client
// vanished, the accept queue was full), and some connections were never picked
// (they came before Start, by a SYN cookie, or by the kernel's hash). Either would
// burden or relieve a shard for ever.
//
// connections tells how many a shard owns at that moment. The load exceeds it by
// the handshakes in flight and the accept queue, which come and go; only what was
// there at each of ten calls is corrected. Call it about once a second, always
// from the same goroutine. It does nothing where the kernel's hash chooses.
func (s *Steering) Correct(connections func(routing.ShardID) int64) {
	if s.status.Mode == Hash {
		return
	}
	for i := range s.slots {
		slot, d := &s.slots[i], &s.drifts[i]
		// In this order a connection that comes or goes meanwhile makes the excess
		// greater, never smaller, and the least of a window ignores it.
		gone := slot.Closed() + uint64(slot.Correction())
		owned := connections(routing.ShardID(i))
		excess := int64(slot.Picked()+slot.Migrated()-gone) - owned
		if d.calls == 0 || excess < d.excess {
			d.excess = excess
		}
		if d.calls++; d.calls < correctionWindow {
			continue
		}
		if d.excess != 0 {
			atomic.AddUint64(&slot.cells.Correction, uint64(d.excess))
		}
		*d = drift{}
	}
}
