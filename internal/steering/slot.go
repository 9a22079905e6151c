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

// Slot is one shard's entry in the map slots: what the program knows of its
// load. Each method is one atomic access to memory shared with the kernel, or to
// plain memory where the kernel's hash chooses. A Slot may be used after Close.
type Slot struct {
	cells *steerSlot
	table *table // Keeps the mapping.
}

// AddClosed adds n to the connections of this shard that have ended.
func (s *Slot) AddClosed(n uint64) {
	atomic.AddUint64(&s.cells.Closed, n)
	runtime.KeepAlive(s.table)
}

// SetBusySince stores when the shard's turn began, in nanoseconds of
// CLOCK_MONOTONIC; 0 means that the shard waits.
func (s *Slot) SetBusySince(monotonicNanos uint64) {
	atomic.StoreUint64(&s.cells.BusySince, monotonicNanos)
	runtime.KeepAlive(s.table)
}

// Picked returns for how many SYNs the program has chosen this shard. Any
// goroutine may call it.
func (s *Slot) Picked() uint64 { return s.load(&s.cells.Picked) }

// Migrated returns how many connections have come from a listener that was closed
// before it accepted them. Any goroutine may call it.
func (s *Slot) Migrated() uint64 { return s.load(&s.cells.Migrated) }

// Closed returns what AddClosed has added up to. Any goroutine may call it.
func (s *Slot) Closed() uint64 { return s.load(&s.cells.Closed) }

// BusySince returns what SetBusySince stored last. Any goroutine may call it.
func (s *Slot) BusySince() uint64 { return s.load(&s.cells.BusySince) }

// Correction returns what Correct has subtracted from the load so far. Any
// goroutine may call it.
func (s *Slot) Correction() int64 { return int64(s.load(&s.cells.Correction)) }

// Load returns the number that the program compares. It is below 0 while
// connections that were never picked outnumber the others. Any goroutine may
// call it.
func (s *Slot) Load() int64 {
	closed := s.Closed() + uint64(s.Correction())
	return int64(s.Picked() + s.Migrated() - closed)
}

func (s *Slot) load(cell *uint64) uint64 {
	v := atomic.LoadUint64(cell)
	runtime.KeepAlive(s.table)
	return v
}

// table is all slots: the mapped value of the map slots, or plain memory.
type table struct {
	slots *steerSlotTable
}

// mapTable maps the value of the map slots. It is unmapped when nothing refers to
// it any more, and not by Close, because shards report to the end.
//
// ebpf.Memory maps it too, but gives out copies, no memory for atomics.
func mapTable(m *ebpf.Map) (*table, error) {
	size := max(int(unsafe.Sizeof(steerSlotTable{})), os.Getpagesize())
	b, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the memory of %s: %w", steerMapSlots, err)
	}
	t := &table{slots: (*steerSlotTable)(unsafe.Pointer(&b[0]))}
	runtime.AddCleanup(t, func(b []byte) { _ = unix.Munmap(b) }, b)
	return t, nil
}

func memoryTable() *table { return &table{slots: new(steerSlotTable)} }

// slice returns the slots of the first n shards.
func (t *table) slice(n int) []Slot {
	slots := make([]Slot, n)
	for i := range slots {
		slots[i] = Slot{cells: &t.slots.Shard[i], table: t}
	}
	return slots
}
