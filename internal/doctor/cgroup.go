package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// hierarchy is a cgroup tree that this process is in.
type hierarchy struct {
	mount   string // Directory where the tree is mounted.
	group   string // Group of this process, as a path below mount.
	unified bool   // Whether it is version 2.
}

// hierarchy returns the tree of a controller: the tree of version 1 if it is mounted, else the unified one. It also
// works in a container, where only a part of the tree is mounted. ok is false if there is no tree.
func (in *inspector) hierarchy(controller string) (h hierarchy, ok bool, err error) {
	groups, err := in.groups()
	if err != nil {
		return hierarchy{}, false, err
	}
	text, err := in.read("/proc/self/mountinfo")
	if err != nil {
		return hierarchy{}, false, err
	}
	var unified hierarchy
	var haveUnified bool
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(kind) < 3 {
			continue
		}
		root, point := mount[3], mount[4]
		switch kind[0] {
		case "cgroup":
			group, member := groups[controller]
			if member && slices.Contains(strings.Split(kind[2], ","), controller) {
				return hierarchy{point, below(group, root), false}, true, nil
			}
		case "cgroup2":
			if group, member := groups[""]; member {
				unified, haveUnified = hierarchy{point, below(group, root), true}, true
			}
		}
	}
	return unified, haveUnified, nil
}

// groups returns the group of this process for each controller. The key "" is the unified tree.
func (in *inspector) groups() (map[string]string, error) {
	text, err := in.read("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	groups := map[string]string{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			groups[controller] = f[2]
		}
	}
	return groups, nil
}

// below returns group relative to root, the part of the tree that is mounted.
func below(group, root string) string {
	if root == "/" {
		return group
	}
	if rest, ok := strings.CutPrefix(group, root); ok && (rest == "" || rest[0] == '/') {
		return path.Join("/", rest)
	}
	return "/" // Another part is mounted; its top is this process's group.
}

// each calls fn with the text of a file in this process's group and in every group above it, because a limit applies to
// all groups below. dir is the directory of the file.
func (in *inspector) each(h hierarchy, file string, fn func(dir, text string) error) error {
	for group := path.Clean(h.group); ; group = path.Dir(group) {
		dir := path.Join(h.mount, group)
		text, err := in.read(path.Join(dir, file))
		switch {
		case errors.Is(err, fs.ErrNotExist): // The root group lacks the file.
		case err != nil:
			return err
		default:
			if err := fn(dir, text); err != nil {
				return fmt.Errorf("read %s of group %s: %w", file, group, err)
			}
		}
		if group == "/" || group == "." {
			return nil
		}
	}
}

// quota returns the number of CPUs that the cgroups grant, or +Inf without a limit.
func (in *inspector) quota() (float64, error) {
	cpus := math.Inf(1)
	h, ok, err := in.hierarchy("cpu")
	if err != nil || !ok {
		return cpus, err
	}
	if h.unified {
		err = in.each(h, "cpu.max", func(_, text string) error {
			f := strings.Fields(text)
			if len(f) != 2 {
				return fmt.Errorf("parse %q: not a quota and a period", text)
			}
			if f[0] == "max" {
				return nil
			}
			return lower(&cpus, f[0], f[1])
		})
		return cpus, err
	}
	err = in.each(h, "cpu.cfs_quota_us", func(dir, text string) error {
		if text == "-1" {
			return nil
		}
		period, err := in.read(path.Join(dir, "cpu.cfs_period_us"))
		if err != nil {
			return err
		}
		return lower(&cpus, text, period)
	})
	return cpus, err
}

func lower(cpus *float64, quota, period string) error {
	q, err := strconv.ParseFloat(quota, 64)
	if err != nil {
		return err
	}
	p, err := strconv.ParseFloat(period, 64)
	if err != nil {
		return err
	}
	if p <= 0 {
		return fmt.Errorf("parse period %q: must be more than 0", period)
	}
	*cpus = min(*cpus, q/p)
	return nil
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
	lowest := unlimited
	h, ok, err := in.hierarchy("memory")
	if err != nil || !ok {
		return lowest, err
	}
	file := "memory.limit_in_bytes"
	if h.unified {
		file = "memory.max"
	}
	err = in.each(h, file, func(_, text string) error {
		if text == "max" {
			return nil
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return err
		}
		// Without a limit, version 1 reports a number close to 2^63 that depends on the page size.
		if n < 1<<62 {
			lowest = min(lowest, n)
		}
		return nil
	})
	return lowest, err
}
