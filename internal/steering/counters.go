package steering

// Counter is how often the program ended in one way, or something happened on the
// way; bpf/maps.h describes each. Its name is the label in metrics.
type Counter struct {
	Name  string
	Count uint64
}

// Outcomes reads the program's counters, summed over CPUs: how runs ended, and what
// happened on the way. Every name is always there, in a fixed order; all are 0 where
// the kernel's hash chooses. It costs one system call. Any goroutine may call it.
// After Close it returns what was counted until then.
func (s *Steering) Outcomes() (ends, notes []Counter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readOutcomes()
	c := &s.outcomes
	return []Counter{
			{"picked_least_loaded", c.PickedLeastLoaded}, {"picked_weighted", c.PickedWeighted}, {"picked_p2c", c.PickedP2c},
			{"picked_cpu_local", c.PickedCpuLocal}, {"picked_remote", c.PickedRemote}, {"picked_hash", c.PickedHash},
			{"picked_fallback", c.PickedFallback}, {"placed", c.Placed}, {"migrated", c.Migrated},
			{"refused_admission", c.RefusedAdmission}, {"refused_source", c.RefusedSource},
			{"select_failed", c.SelectFailed}, {"lookup_failed", c.LookupFailed},
		}, []Counter{
			{"skipped_stalled", c.SkippedStalled}, {"dry_run_admission", c.DryRunAdmission},
			{"dry_run_source", c.DryRunSource}, {"source_untracked", c.SourceUntracked},
		}
}

// readOutcomes needs s.mu. A map that cannot be read leaves the counters as they
// were: they are for an operator's eyes.
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
