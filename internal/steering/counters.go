package steering

// Counter counts runs of the program that ended in the same way, or that met the same condition. bpf/maps.h describes
// each.
type Counter struct {
	Name  string // Name of the counter, which is also its label in metrics.
	Count uint64 // Number of runs.
}

// Outcomes reads the program's counters, summed over CPUs: ends counts runs by how they ended, notes counts conditions
// they met. Every name is always present, in a fixed order. All counts are 0 where the kernel's hash chooses. Outcomes
// costs one system call; after Close it returns the last counts without one. Any goroutine may call it.
func (s *Steering) Outcomes() (ends, notes []Counter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readOutcomes()
	c := &s.outcomes
	return []Counter{
			{"picked_least_loaded", c.PickedLeastLoaded}, {"picked_weighted", c.PickedWeighted},
			{"picked_p2c", c.PickedP2c},
			{"picked_cpu_local", c.PickedCpuLocal}, {"picked_remote", c.PickedRemote}, {"picked_hash", c.PickedHash},
			{"picked_fallback", c.PickedFallback}, {"placed", c.Placed}, {"migrated", c.Migrated},
			{"refused_admission", c.RefusedAdmission}, {"refused_source", c.RefusedSource},
			{"select_failed", c.SelectFailed}, {"lookup_failed", c.LookupFailed},
		}, []Counter{
			{"skipped_stalled", c.SkippedStalled}, {"dry_run_admission", c.DryRunAdmission},
			{"dry_run_source", c.DryRunSource}, {"source_untracked", c.SourceUntracked},
		}
}

// readOutcomes updates s.outcomes from the map. If the map cannot be read, the counters stay as they were: only
// operators look at them. The caller holds s.mu.
func (s *Steering) readOutcomes() {
	if s.objects == nil {
		return
	}
	var perCPU []steerOutcomeCounts
	if err := s.objects.outcomes.Lookup(uint32(0), &perCPU); err != nil {
		return
	}
	var sum steerOutcomeCounts
	for _, c := range perCPU {
		sum.PickedLeastLoaded += c.PickedLeastLoaded
		sum.PickedWeighted += c.PickedWeighted
		sum.PickedP2c += c.PickedP2c
		sum.PickedCpuLocal += c.PickedCpuLocal
		sum.PickedRemote += c.PickedRemote
		sum.PickedHash += c.PickedHash
		sum.PickedFallback += c.PickedFallback
		sum.Placed += c.Placed
		sum.Migrated += c.Migrated
		sum.RefusedAdmission += c.RefusedAdmission
		sum.RefusedSource += c.RefusedSource
		sum.SelectFailed += c.SelectFailed
		sum.LookupFailed += c.LookupFailed
		sum.Runs += c.Runs
		sum.SkippedStalled += c.SkippedStalled
		sum.DryRunAdmission += c.DryRunAdmission
		sum.DryRunSource += c.DryRunSource
		sum.SourceUntracked += c.SourceUntracked
	}
	s.outcomes = sum
}
