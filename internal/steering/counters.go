package steering

// Counters tell how often the program ended in which way since Start, summed over
// CPUs. All are 0 where the kernel's hash chooses. bpf/maps.h describes each.
type Counters struct {
	Picked         uint64 // SYNs sent to the least loaded shard that does not drain.
	PickedDraining uint64 // SYNs sent to the least loaded of all, because every shard drains.
	Placed         uint64 // Packets that open nothing: answers to SYN cookies, strays. Not load.
	Migrated       uint64 // Connections moved because their listener was closed.
	SelectFailed   uint64 // Left to the kernel's hash: the chosen shard does not listen.
	LookupFailed   uint64 // Left to the kernel's hash: a map had no entry.
}

// Counters reads the program's counters: one system call. Any goroutine may call
// it. After Close it returns what was counted until then.
func (s *Steering) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readCounters()
	return s.counters
}

// readCounters needs s.mu. A map that cannot be read leaves the counters as they
// were: they are for an operator's eyes.
func (s *Steering) readCounters() {
	if s.objects == nil {
		return
	}
	var perCPU []steerOutcomeCounts
	if err := s.objects.outcomes.Lookup(uint32(0), &perCPU); err != nil {
		return
	}
	var sum Counters
	for _, c := range perCPU {
		sum.Picked += c.Picked
		sum.PickedDraining += c.PickedDraining
		sum.Placed += c.Placed
		sum.Migrated += c.Migrated
		sum.SelectFailed += c.SelectFailed
		sum.LookupFailed += c.LookupFailed
	}
	s.counters = sum
}
