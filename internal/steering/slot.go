package steering

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"wsd/internal/routing"
)

// This fails to compile if routing.ShardsMax differs from the program's limit in bpf/maps.h.
var _ [routing.ShardsMax]steerSlot = steerSlotTable{}.Shard

// Slot is one shard's entry in the map slots_v2, with what the program knows of the shard (bpf/maps.h). It is memory
// shared with the kernel, or plain memory where the kernel's hash chooses. A Slot may be used after Close.
type Slot struct {
	cells *steerSlot  // Counters and state of the shard.
	tally *steerTally // Load and picks, which the program compares, next to those of the other shards.
	table *table      // Keeps the memory mapped.
}

// BeginTurn stores when the shard's loop turn began, in nanoseconds of CLOCK_MONOTONIC. 0 means that the shard waits.
// It costs one atomic store. Only the shard's goroutine may call it.
func (s *Slot) BeginTurn(monotonicNanos uint64) {
	atomic.StoreUint64(&s.cells.BusySince, monotonicNanos)
	runtime.KeepAlive(s.table)
}

// EndTurn reports what the turn did: the connections it accepted, the accepted connections it closed, and how many
// nanoseconds it took. Only the shard's goroutine may call it, after BeginTurn.
func (s *Slot) EndTurn(accepted, closed, nanos uint64) {
	c := s.cells
	if accepted > 0 {
		s.count(atomic.AddUint64(&c.Accepted, accepted))
	}
	if closed > 0 {
		atomic.AddUint64(&c.Closed, closed)
		atomic.AddInt64(&s.tally.Load, -int64(closed)) // It was accepted before.
	}
	if bound := s.table.stallBound.Load(); bound > 0 && nanos > bound {
		atomic.StoreUint64(&c.StalledUntil, c.BusySince+nanos)
	}
	runtime.KeepAlive(s.table)
}

// count adds connections that were accepted without a pick to the load. After it, the load is at least the number of
// open connections, so a connection that has been accepted is not taken for one that is still pending.
func (s *Slot) count(accepted uint64) {
	for {
		load, closed := atomic.LoadInt64(&s.tally.Load), atomic.LoadUint64(&s.cells.Closed)
		missing := int64(accepted-closed) - load // Fewer than 2^63.
		if missing <= 0 {
			return
		}
		// The shard and Reconcile may both find the same connections missing; only one of them adds them.
		if atomic.CompareAndSwapInt64(&s.tally.Load, load, load+missing) {
			atomic.AddUint64(&s.cells.Uncounted, uint64(missing))
			return
		}
	}
}

// unaccepted returns the number of picks that the shard has not accepted. accepted is its number of accepted
// connections.
func (s *Slot) unaccepted(accepted uint64) int64 {
	closed := atomic.LoadUint64(&s.cells.Closed)
	return atomic.LoadInt64(&s.tally.Load) + int64(closed-accepted) // Modulo 2^64.
}

// writeOff takes n picks off the load, because they never became a connection.
func (s *Slot) writeOff(n uint64) {
	atomic.AddUint64(&s.cells.Lost, n)
	atomic.AddInt64(&s.tally.Load, -int64(n)) // It was picked before.
}

// SetDraining sets whether wsd itself wants no new connections on this shard. The operator's setting drain is separate,
// and either one is enough. Any goroutine may call it.
func (s *Slot) SetDraining(draining bool) {
	value := steerDrainingDRAINING_NOT
	if draining {
		value = steerDrainingDRAINING_WSD
	}
	atomic.StoreUint32((*uint32)(&s.cells.Draining), uint32(value))
	runtime.KeepAlive(s.table)
}

// Figures is a copy of a shard's slot. Its values are read one after the other, so they may not match exactly.
type Figures struct {
	Picked   uint64 // Number of SYNs for which the program chose this shard.
	Migrated uint64 // Number of connections moved here because their listener was closed before it accepted them.
	Accepted uint64 // Number of connections taken from the accept queues.
	Closed   uint64 // Number of accepted connections that have ended.
	// Number of connections accepted without a pick: after a SYN cookie, by the kernel's hash, or after they were
	// written off.
	Uncounted uint64
	Lost      uint64 // Number of picks written off, because they were not accepted within two seconds.

	BusySince uint64 // When the current turn began, in nanoseconds of CLOCK_MONOTONIC; 0: the shard waits.
	// When the last turn longer than stall_bound ended, in nanoseconds of CLOCK_MONOTONIC; 0: there was none.
	StalledUntil uint64
	Draining     bool // Whether wsd itself wants no new connections here.

	load int64
}

// Load returns the load that the program compares: open and pending connections. It is Picked + Migrated + Uncounted -
// Lost - Closed, except for changes while the slot was read.
func (f Figures) Load() int64 { return max(0, f.load) }

// Pending returns the number of pending connections: picked, but not accepted yet.
func (f Figures) Pending() int64 { return max(0, f.load+int64(f.Closed-f.Accepted)) } // Modulo 2^64.

// BusySince returns when the current turn began, in nanoseconds of CLOCK_MONOTONIC; 0 means that the shard waits. Any
// goroutine may call it.
func (s *Slot) BusySince() uint64 {
	since := atomic.LoadUint64(&s.cells.BusySince)
	runtime.KeepAlive(s.table)
	return since
}

// Running returns how long the current turn has lasted, or 0 if the shard waits. Any goroutine may call it.
func (s *Slot) Running() time.Duration {
	since := s.BusySince()
	if now := monotonicNow(); since != 0 && now > since {
		return time.Duration(now - since)
	}
	return 0
}

// StallBound returns the setting stall_bound as EndTurn applies it; 0 means that there is no bound. Any goroutine may
// call it.
func (s *Slot) StallBound() time.Duration { return time.Duration(s.table.stallBound.Load()) }

// Figures reads the slot. Any goroutine may call it.
func (s *Slot) Figures() Figures {
	// Read what is subtracted first, so that a connection that comes or goes meanwhile makes Pending too large, never
	// too small.
	c := s.cells
	f := Figures{Closed: atomic.LoadUint64(&c.Closed), Accepted: atomic.LoadUint64(&c.Accepted),
		Lost: atomic.LoadUint64(&c.Lost)}
	f.Picked, f.Migrated, f.Uncounted = atomic.LoadUint64(&s.tally.Picked), atomic.LoadUint64(&c.Migrated),
		atomic.LoadUint64(&c.Uncounted)
	f.load = atomic.LoadInt64(&s.tally.Load)
	f.BusySince, f.StalledUntil = atomic.LoadUint64(&c.BusySince), atomic.LoadUint64(&c.StalledUntil)
	f.Draining = steerDraining(atomic.LoadUint32((*uint32)(&c.Draining))) != steerDrainingDRAINING_NOT
	runtime.KeepAlive(s.table)
	return f
}

// table is the memory of all slots: the mapped value of the map slots_v2, or plain memory.
type table struct {
	slots *steerSlotTable

	// stallBound is the setting stall_bound at the last call of Watch, in nanoseconds; 0: no bound. It may lag behind
	// the map, because it only decides whether a shard ramps afterwards.
	stallBound atomic.Uint64
}

// mapTable maps the value of the map slots_v2 into memory. It is unmapped when nothing refers to it any more. Close
// does not unmap it, because shards write to the end.
//
// ebpf.Memory would map it, too, but it returns copies and not memory for atomics.
func mapTable(m *ebpf.Map) (*table, error) {
	size := (int(unsafe.Sizeof(steerSlotTable{})) + os.Getpagesize() - 1) &^ (os.Getpagesize() - 1)
	b, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the memory of %s: %w", steerMapSlotsV2, err)
	}
	t := &table{slots: (*steerSlotTable)(unsafe.Pointer(&b[0]))}
	runtime.AddCleanup(t, func(b []byte) { _ = unix.Munmap(b) }, b)
	return t, nil
}

func memoryTable() *table { return &table{slots: new(steerSlotTable)} }

// slice returns the slots of the first n shards, and marks the other slots as absent.
func (t *table) slice(n int) []Slot {
	for i := n; i < routing.ShardsMax; i++ {
		t.slots.Tally[i].Load, t.slots.Shard[i].Draining = int64(steerLimitABSENT_LOAD), steerDrainingDRAINING_ABSENT
	}
	slots := make([]Slot, n)
	for i := range slots {
		slots[i] = Slot{cells: &t.slots.Shard[i], tally: &t.slots.Tally[i], table: t}
	}
	return slots
}
