package shm

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ShardsMax is the highest number of shards: one bit each in a word of the interest table.
const ShardsMax = 64

// Main is the slot and the publisher number of the main process, which balances and may hold the shared Kafka pool.
const Main = ShardsMax

// buckets is the size of the interest table. Two channels in one bucket are wanted by the shards of both, which costs
// a message too many and never loses one.
const buckets = 1 << 16

// States of a process.
const (
	Down      int64 = iota // Not started, or ended.
	Listening              // Accepts connections of the bus; does not consume yet.
	Ready                  // Every publisher reaches it, so clients may connect.
)

// Slot is what one process tells the others. It is written by that process, except for State, which the main process
// sets to Down when the process has ended.
type Slot struct {
	State       atomic.Int64 // Down, Listening or Ready.
	Publishes   atomic.Int64 // 1: the process consumes Kafka and publishes on the bus.
	PID         atomic.Int64 // Process id.
	Connections atomic.Int64 // Open client connections.
	Accepted    atomic.Int64 // Client connections upgraded so far.
	Refused     atomic.Int64 // Upgrades refused because of CPU or a limit.
	Slow        atomic.Int64 // Clients closed because their queue was full.
	Deliveries  atomic.Int64 // Messages queued for clients.
	Duplicates  atomic.Int64 // Messages that came again after a rebalance, and were left out.

	Records     atomic.Int64 // Records read from Kafka.
	Polls       atomic.Int64 // Times that records were handled; Records divided by it is the batch.
	Oversized   atomic.Int64 // Records left out because they are larger than the bus takes.
	Published   atomic.Int64 // Messages published on the bus.
	Flushes     atomic.Int64 // Times that messages were sent to the shards.
	SocketSends atomic.Int64 // Writes to sockets of the bus.
	RingWrites  atomic.Int64 // Messages written into the ring.
	Unrouted    atomic.Int64 // Messages times shards that were spared because the shard does not want them.

	CPUReads   atomic.Int64 // Reads of the cgroup's CPU time.
	CPUCached  atomic.Int64 // Admissions decided by a cached or shared figure.
	Goroutines atomic.Int64 // Goroutines, a quarter of a second old at most.
	CPUNanos   atomic.Int64 // CPU time of the process, a quarter of a second old at most.
	Tunnels    atomic.Int64 // Main: open tunnels. Unused otherwise.
	_          [40]byte     // Slots do not share a cache line.
}

// layout is the memory before the rings.
type layout struct {
	overloaded atomic.Int32              // Written by the main process; read by shards with central admission.
	_          [60]byte                  //
	sleeping   [ShardsMax]atomic.Uint32  // 1: the shard waits for its eventfd. It sets this; who wakes it clears it.
	slots      [ShardsMax + 1]Slot       //
	interest   [buckets]atomic.Uint64    // Bit i: shard i has a subscriber in the bucket. Written by shard i.
	heads      [ShardsMax + 1]ringHeader // Of the rings, by publisher.
}

// Board is the shared memory, mapped into this process.
type Board struct {
	mem    []byte
	l      *layout
	shards int
}

// size is the length of the memory: unused rings take none.
const size = int(unsafe.Sizeof(layout{})) + (ShardsMax+1)*RingBytes

// Create creates the memory for a number of shards. File is what shards inherit; the caller closes it.
func Create(shards int) (*Board, *os.File, error) {
	fd, err := unix.MemfdCreate("baseline", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("create shared memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "baseline")
	if err := file.Truncate(int64(size)); err != nil {
		return nil, nil, fmt.Errorf("size shared memory: %w", err)
	}
	b, err := Open(file, shards)
	return b, file, err
}

// Open maps the memory of a file that Create returned.
func Open(file *os.File, shards int) (*Board, error) {
	if shards < 1 || shards > ShardsMax {
		return nil, fmt.Errorf("shards %d is not between 1 and %d", shards, ShardsMax)
	}
	mem, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	// A mapping begins at a page and stays where it is; layout holds no pointer.
	return &Board{mem: mem, l: (*layout)(unsafe.Pointer(&mem[0])), shards: shards}, nil
}

// Close unmaps the memory. Nothing that came from the Board may be used afterwards.
func (b *Board) Close() error { return unix.Munmap(b.mem) }

// Shards is the number of shards.
func (b *Board) Shards() int { return b.shards }

// Slot returns the slot of a shard, or of Main.
func (b *Board) Slot(i int) *Slot { return &b.l.slots[i] }

// SetOverloaded publishes the decision of central admission.
func (b *Board) SetOverloaded(v bool) {
	n := int32(0)
	if v {
		n = 1
	}
	b.l.overloaded.Store(n)
}

// Overloaded returns the decision of central admission.
func (b *Board) Overloaded() bool { return b.l.overloaded.Load() == 1 }

// Want notes that a shard has a subscriber of the channel's bucket. It counts before Want returns.
func (b *Board) Want(shard int, bucket uint32) { b.l.interest[bucket].Or(1 << shard) }

// Leave undoes Want.
func (b *Board) Leave(shard int, bucket uint32) { b.l.interest[bucket].And(^uint64(1 << shard)) }

// Wanting returns the shards with a subscriber in the bucket, a bit each.
func (b *Board) Wanting(bucket uint32) uint64 { return b.l.interest[bucket].Load() }

// Bucket returns the bucket of a channel: FNV-1a.
func Bucket(channel string) uint32 {
	h := uint32(2166136261)
	for i := range len(channel) {
		h = (h ^ uint32(channel[i])) * 16777619
	}
	return (h ^ h>>16) % buckets
}

// Forget undoes what a shard that has ended left: its interest, its readers and its state. Only the main process calls
// it, before it starts the shard again.
func (b *Board) Forget(shard int) {
	s := b.Slot(shard)
	s.State.Store(Down)
	s.Connections.Store(0)
	s.Goroutines.Store(0)
	for i := range b.l.interest {
		if b.l.interest[i].Load()&(1<<shard) != 0 {
			b.Leave(shard, uint32(i))
		}
	}
	for i := range b.l.heads {
		b.l.heads[i].readers[shard].active.Store(0)
	}
	b.l.sleeping[shard].Store(0)
}

// All is the mask of all shards.
func (b *Board) All() uint64 { return ^uint64(0) >> (ShardsMax - b.shards) }

// Live returns the shards that are at least in the state.
func (b *Board) Live(state int64) (mask uint64) {
	for i := range b.shards {
		if b.Slot(i).State.Load() >= state {
			mask |= 1 << i
		}
	}
	return mask
}
