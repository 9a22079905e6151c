package steering

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ReconcileInterval is how often Reconcile is to be called, and lostWindow for how
// many calls a pick may be pending: two seconds in all, longer than a handshake
// takes on a bad line unless a packet is lost.
const (
	ReconcileInterval = 250 * 1e6 // Nanoseconds.
	lostWindow        = 8
)

// pendings are the last figures of one shard's handshakes.
type pendings struct {
	ring  [lostWindow]int64
	calls int
}

// least notes a figure and returns the least of the window; 0 until it is full.
func (p *pendings) least(handshakes int64) int64 {
	p.ring[p.calls%lostWindow] = handshakes
	if p.calls++; p.calls < lostWindow {
		return 0
	}
	least := handshakes
	for _, h := range p.ring {
		least = min(least, h)
	}
	return least
}

// forget takes n off every figure: that many were written off.
func (p *pendings) forget(n int64) {
	for i := range p.ring {
		p.ring[i] -= n
	}
}

// Reconcile writes off picks that never became a connection: the SYN's sender was
// forged or vanished, or the accept queue was full. Otherwise they would burden
// their shard for ever.
//
// Picked, but neither accepted nor in an accept queue (tcp_info of the listener),
// are the handshakes in flight, which come and go, and the lost. So what is the
// least number of them for two seconds is lost. With slow handshakes and a steady
// flow of clients some in flight are always among those; one that does become a
// connection later counts again when its shard accepts it, as uncounted.
//
// Call it every ReconcileInterval, always from the same goroutine, and not after the
// listeners have begun to close: it reads their state by descriptor. It does nothing
// where the kernel's hash chooses.
func (s *Steering) Reconcile() {
	if s.Status().Mode == Hash {
		return
	}
	now := monotonicNow()
	for i := range s.slots {
		slot := &s.slots[i]
		// What the shard has taken from its queues in this turn, it tells at its end.
		if began := atomic.LoadUint64(&slot.cells.BusySince); began != 0 && now > began && now-began > ReconcileInterval {
			continue
		}
		// First what is subtracted, see Figures: never too few in flight.
		accepted := atomic.LoadUint64(&slot.cells.Accepted)
		handshakes := slot.unaccepted(accepted)
		if handshakes > 0 { // Else an idle server would ask the kernel for every shard's queue.
			waiting := s.acceptQueue(i)
			handshakes = slot.unaccepted(accepted) - waiting
		}
		if lost := s.pending[i].least(handshakes); lost > 0 {
			s.pending[i].forget(lost)
			slot.writeOff(uint64(lost))
		}
		// Some that were just written off may have been accepted meanwhile.
		slot.count(atomic.LoadUint64(&slot.cells.Accepted))
	}
}

// acceptQueue returns how many connections wait to be accepted by a shard.
func (s *Steering) acceptQueue(shard int) (n int64) {
	for _, fds := range s.listeners {
		if shard >= len(fds) {
			continue
		}
		// For a listener tcpi_unacked is the length of its accept queue (tcp_get_info).
		if info, err := unix.GetsockoptTCPInfo(fds[shard], unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.State == tcpListen {
			n += int64(info.Unacked)
		}
	}
	return n
}

// tcpListen is TCP_LISTEN of the kernel's net/tcp_states.h.
const tcpListen = 10

// monotonicNow is CLOCK_MONOTONIC in nanoseconds, as the shards and the program have it.
func monotonicNow() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // Fails only for a clock that does not exist.
	return uint64(t.Nano())                         //nolint:gosec // Since boot.
}
