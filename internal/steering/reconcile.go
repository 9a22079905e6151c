package steering

import (
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ReconcileInterval is the time between two calls of Reconcile, in nanoseconds.
const ReconcileInterval = 250 * 1e6

// lostWindow is how many calls of Reconcile a pick may stay a handshake before it is lost. With ReconcileInterval that
// is two seconds, longer than a handshake takes on a bad line unless a packet is lost.
const lostWindow = 8

// handshakeWindow is the number of handshakes in flight to one shard, at each of the last calls of Reconcile.
type handshakeWindow struct {
	ring  [lostWindow]int64
	calls int // Number of figures ever added.
}

// smallest adds a figure and returns the smallest of the window. It returns 0 until the window is full.
func (w *handshakeWindow) smallest(handshakes int64) int64 {
	w.ring[w.calls%lostWindow] = handshakes
	if w.calls++; w.calls < lostWindow {
		return 0
	}
	return slices.Min(w.ring[:])
}

// subtract takes n off every figure, after n picks were written off.
func (w *handshakeWindow) subtract(n int64) {
	for i := range w.ring {
		w.ring[i] -= n
	}
}

// Reconcile writes off picks that never became a connection, because the sender of the SYN was forged or vanished, or
// the accept queue was full. Otherwise they would count towards the load of their shard for ever.
//
// The picks that are neither accepted nor in an accept queue are handshakes in flight, whose number goes up and down,
// and lost picks, which stay. So the smallest number over two seconds is written off as lost. Where slow handshakes
// arrive all the time, that number also includes some that are still in flight. If such a handshake becomes a
// connection after all, it counts again when its shard accepts it, as uncounted.
//
// Call Reconcile every ReconcileInterval, always from the same goroutine, and not after a listener has been closed,
// because it reads their state by descriptor. It does nothing where the kernel's hash chooses.
func (s *Steering) Reconcile() {
	if s.Status().Mode == Hash {
		return
	}
	now := monotonicNow()
	for i := range s.slots {
		slot := &s.slots[i]
		// A shard reports what it accepts only at the end of its turn, so the figures of a long turn are not complete.
		if began := atomic.LoadUint64(&slot.cells.BusySince); began != 0 && now > began &&
			now-began > ReconcileInterval {
			continue
		}
		// Read what is subtracted first, as Figures does, so that the number of handshakes is never too small.
		accepted := atomic.LoadUint64(&slot.cells.Accepted)
		handshakes := slot.unaccepted(accepted)
		if handshakes > 0 { // An idle server needs no system call.
			waiting := s.acceptQueue(i)
			handshakes = slot.unaccepted(accepted) - waiting
		}
		if lost := s.handshakes[i].smallest(handshakes); lost > 0 {
			s.handshakes[i].subtract(lost)
			slot.writeOff(uint64(lost))
		}
		// Some of the picks just written off may have been accepted meanwhile.
		slot.count(atomic.LoadUint64(&slot.cells.Accepted))
	}
}

// acceptQueue returns how many connections wait in the accept queues of a shard's listeners.
func (s *Steering) acceptQueue(shard int) (n int64) {
	for _, fds := range s.listeners {
		if shard >= len(fds) {
			continue
		}
		// For a listener tcpi_unacked is the length of its accept queue (tcp_get_info).
		if info, err := unix.GetsockoptTCPInfo(fds[shard], unix.IPPROTO_TCP, unix.TCP_INFO); err == nil &&
			info.State == tcpListen {
			n += int64(info.Unacked)
		}
	}
	return n
}

// tcpListen is TCP_LISTEN of the kernel's net/tcp_states.h.
const tcpListen = 10

// monotonicNow returns CLOCK_MONOTONIC in nanoseconds, the clock of the shards and the program.
func monotonicNow() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // Fails only for a clock that does not exist.
	return uint64(t.Nano())                         // Since boot.
}
