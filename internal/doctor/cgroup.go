package doctor

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"wsd/internal/cgroup"
)

// quota returns the number of CPUs that the cgroups grant, or +Inf without a limit.
func (in *inspector) quota() (float64, error) {
	tree, err := cgroup.Mounted(in.Root)
	if err != nil {
		return 0, err
	}
	quotas, err := tree.Quotas()
	return cgroup.Lowest(quotas), err
}

func (in *inspector) cpu() Result {
	r := Result{Check: "CPU", Wanted: "at least one CPU, and no quota below the allowed CPUs, because a quota stops " +
		"all shards at once"}
	list, err := in.status("Cpus_allowed_list")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	allowed, err := countCPUs(list)
	if err != nil {
		r.Status, r.Found = Warn, fmt.Sprintf("Cpus_allowed_list is %q: %v", list, err)
		return r
	}
	quota, err := in.quota()
	if err != nil {
		r.Status, r.Found = Warn, fmt.Sprintf("%d CPUs; cgroup quota %s", allowed, unreadable(err))
		return r
	}
	if math.IsInf(quota, 1) {
		r.Found = fmt.Sprintf("%d CPUs, no quota", allowed)
		return r
	}
	r.Found = fmt.Sprintf("%d CPUs, quota %.2f CPUs", allowed, quota)
	if quota < 1 || quota < float64(allowed) {
		r.Status = Warn
		cpus := "0"
		if last := int(quota) - 1; last > 0 {
			cpus = fmt.Sprintf("0-%d", last)
		}
		r.Remedy = fmt.Sprintf("docker run --cpuset-cpus %[1]s instead of --cpus; systemd: AllowedCPUs=%[1]s instead "+
			"of CPUQuota=", cpus)
	}
	return r
}

// cgroups reports which version of cgroups limits memory here. If none does, wsd sees no limit.
func (in *inspector) cgroups() Result {
	r := Result{Check: "cgroups"}
	text, err := in.read("/proc/self/mountinfo")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	var one, two, oneMemory bool
	for line := range strings.Lines(text) {
		_, after, ok := strings.Cut(line, " - ")
		kind := strings.Fields(after)
		if !ok || len(kind) < 3 {
			continue
		}
		switch kind[0] {
		case "cgroup":
			one = true
			oneMemory = oneMemory || slices.Contains(strings.Split(kind[2], ","), "memory")
		case "cgroup2":
			two = true
		}
	}
	switch {
	case oneMemory:
		r.Found = "version 1 limits memory; the buffers of TCP sockets count only where " +
			"memory.kmem.tcp.limit_in_bytes is set"
	case two && !one:
		r.Found = "version 2 limits CPU time and memory, the buffers of sockets among it"
	default:
		r.Status, r.Found = Warn, "no cgroup that limits memory is visible here"
		r.Wanted = "the cgroups of this process, so that wsd keeps within their limits"
		r.Remedy = "mount the cgroups into the container (docker run --cgroupns private), or set limits.memory"
	}
	return r
}

// countCPUs returns the number of CPUs in a list such as 0-3,8.
func countCPUs(list string) (int, error) {
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			return 0, err
		}
		last := first
		if isRange {
			if last, err = strconv.Atoi(to); err != nil {
				return 0, err
			}
		}
		if last < first {
			return 0, fmt.Errorf("parse %q: the range runs backwards", part)
		}
		n += last - first + 1
	}
	return n, nil
}

// What the wanted memory is computed from.
const (
	// Bytes that do not depend on clients: 64 MiB for the bus, the rest for the runtime and the Kafka path.
	memoryBase          = 256 << 20
	memoryPerConnection = 16 << 10 // Bytes for each client, including socket buffers.
	stalledPart         = 10       // One client in this many does not read.
)

// memory includes socket buffers, because the kernel charges them to the cgroup.
func (in *inspector) memory() Result {
	want := uint64(memoryBase) + in.connections()*memoryPerConnection +
		uint64(float64(in.Connections)/stalledPart*float64(in.SendBuffer)*stalledPerSendBuffer)
	r := Result{Check: "memory", Wanted: fmt.Sprintf("%s or more, for %d clients of which one in %d does not read",
		size(want), in.Connections, stalledPart)}
	limit, err := in.memoryLimit()
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	if limit == unlimited {
		r.Found = "no cgroup limit"
		return r
	}
	r.Found = "cgroup limit " + size(limit)
	if limit < want {
		r.Status = Warn
		r.Remedy = fmt.Sprintf("docker run --memory %dm; systemd: MemoryMax=%dM", want>>20+1, want>>20+1)
	}
	return r
}

// memoryLimit returns the lowest memory limit on this process, in bytes, or unlimited.
func (in *inspector) memoryLimit() (uint64, error) {
	tree, err := cgroup.Mounted(in.Root)
	if err != nil {
		return 0, err
	}
	limits, err := tree.MemoryLimits()
	if lowest, ok := cgroup.LowestMemory(limits); ok {
		return lowest, err
	}
	return unlimited, err
}
