package steering

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"wsd/internal/routing"
)

// The program's limit and ours are one number, written in bpf/maps.h.
var _ [routing.ShardsMax]steerSlot = steerSlotTable{}.Shard

// Slot is one shard's entry in the map slots_v2: what the program knows of the
// shard, see bpf/maps.h. It is memory shared with the kernel, or plain memory where
// the kernel's hash chooses. A Slot may be used after Close.
type Slot struct {
	cells *steerSlot
	tally *steerTally
	table *table // Keeps the mapping.
}

// BeginTurn stores when the shard's turn began, in nanoseconds of CLOCK_MONOTONIC;
// 0 means that it waits. It costs one atomic store. Only the shard's goroutine may
// call it.
func (s *Slot) BeginTurn(monotonicNanos uint64) {
	atomic.StoreUint64(&s.cells.BusySince, monotonicNanos)
	runtime.KeepAlive(s.table)
}

// EndTurn tells what the turn did: how many connections it took from the accept
// queues, how many of those taken ever it closed, and how many nanoseconds it was
// busy. Only the shard's goroutine may call it, after BeginTurn.
func (s *Slot) EndTurn(accepted, closed, nanos uint64) {
	c := s.cells
	if accepted > 0 {
		s.count(atomic.AddUint64(&c.Accepted, accepted))
	}
	if closed > 0 {
		atomic.AddUint64(&c.Closed, closed)
		atomic.AddInt64(&s.tally.Load, -int64(closed)) //nolint:gosec // It was accepted before.
	}
	if bound := s.table.stallBound.Load(); bound > 0 && nanos > bound {
		atomic.StoreUint64(&c.StalledUntil, c.BusySince+nanos)
	}
	runtime.KeepAlive(s.table)
}

// count makes load of what was accepted but never picked, so that the figures of a
// shard agree before it waits again: nothing is on its way then that was accepted.
func (s *Slot) count(accepted uint64) {
	for {
		load, closed := atomic.LoadInt64(&s.tally.Load), atomic.LoadUint64(&s.cells.Closed)
		missing := int64(accepted-closed) - load //nolint:gosec // Fewer than 2^63.
		if missing <= 0 {
			return
		}
		// A shard and Reconcile may both have seen it.
		if atomic.CompareAndSwapInt64(&s.tally.Load, load, load+missing) {
			atomic.AddUint64(&s.cells.Uncounted, uint64(missing))
			return
		}
	}
}

// unaccepted returns how many picks a shard that has accepted so many connections has not accepted.
func (s *Slot) unaccepted(accepted uint64) int64 {
	closed := atomic.LoadUint64(&s.cells.Closed)
	return atomic.LoadInt64(&s.tally.Load) + int64(closed-accepted) //nolint:gosec // Modulo 2^64.
}

// writeOff takes picks off the load that never became a connection.
func (s *Slot) writeOff(n uint64) {
	atomic.AddUint64(&s.cells.Lost, n)
	atomic.AddInt64(&s.tally.Load, -int64(n)) //nolint:gosec // It was picked before.
}

// SetDraining tells whether wsd itself wants no new connections on this shard. It
// is apart from the operator's setting, and either is enough. Any goroutine may
// call it.
func (s *Slot) SetDraining(draining bool) {
	value := steerDrainingDRAINING_NOT
	if draining {
		value = steerDrainingDRAINING_WSD
	}
	atomic.StoreUint32((*uint32)(&s.cells.Draining), uint32(value))
	runtime.KeepAlive(s.table)
}

// Figures is a shard's slot at one moment, as far as several reads can be one.
type Figures struct {
	Picked    uint64 // SYNs for which the program chose this shard.
	Migrated  uint64 // Connections that came from a listener that was closed before it accepted them.
	Accepted  uint64 // Connections taken from the accept queues.
	Closed    uint64 // Of those, how many have ended.
	Uncounted uint64 // Accepted though never picked: by a SYN cookie, by the kernel's hash, or after they were written off.
	Lost      uint64 // Picked but not accepted within seconds, so written off.

	BusySince    uint64 // CLOCK_MONOTONIC nanoseconds at which the turn began; 0: it waits.
	StalledUntil uint64 // CLOCK_MONOTONIC nanoseconds at which the last turn over stall_bound ended; 0: there was none.
	Draining     bool   // wsd itself wants no new connections here.

	load int64
}

// Load is what the program compares: connections, and those on their way. It is
// Picked + Migrated + Uncounted - Lost - Closed, but for what happens while that is
// read.
func (f Figures) Load() int64 { return max(0, f.load) }

// Pending is how many were picked and are not accepted yet.
func (f Figures) Pending() int64 { return max(0, f.load+int64(f.Closed-f.Accepted)) } //nolint:gosec // Modulo 2^64.

// Figures reads the slot. Any goroutine may call it.
func (s *Slot) Figures() Figures {
	// What is subtracted comes first: a connection that comes or goes meanwhile makes
	// pending greater, never smaller.
	c := s.cells
	f := Figures{Closed: atomic.LoadUint64(&c.Closed), Accepted: atomic.LoadUint64(&c.Accepted), Lost: atomic.LoadUint64(&c.Lost)}
	f.Picked, f.Migrated, f.Uncounted = atomic.LoadUint64(&s.tally.Picked), atomic.LoadUint64(&c.Migrated), atomic.LoadUint64(&c.Uncounted)
	f.load = atomic.LoadInt64(&s.tally.Load)
	f.BusySince, f.StalledUntil = atomic.LoadUint64(&c.BusySince), atomic.LoadUint64(&c.StalledUntil)
	f.Draining = steerDraining(atomic.LoadUint32((*uint32)(&c.Draining))) != steerDrainingDRAINING_NOT
	runtime.KeepAlive(s.table)
	return f
}

// table is all slots: the mapped value of the map slots_v2, or plain memory.
type table struct {
	slots *steerSlotTable

	// stallBound is stall_bound in nanoseconds, 0 for none, as the settings had it at
	// the last look: what a shard calls a stall only decides whether it ramps.
	stallBound atomic.Uint64
}

// mapTable maps the value of the map slots_v2. It is unmapped when nothing refers to
// it any more, and not by Close, because shards report to the end.
//
// ebpf.Memory maps it too, but gives out copies, no memory for atomics.
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

// slice returns the slots of the first n shards, and marks the others as absent.
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
