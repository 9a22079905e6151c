package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"time"
)

// Quota is the share of CPU time that a group and all groups below it may use.
type Quota struct {
	CPUs float64 // Quota divided by its period.

	tree    *Tree
	file    string // File with the CPU time that the group has used; empty: unknown.
	unified bool
}

// Quotas returns the CPU quotas that hold for this process, from its own group up.
func (t *Tree) Quotas() (list []Quota, err error) {
	h, ok, err := t.hierarchy(controllerCPU)
	if err != nil || !ok {
		return nil, err
	}
	if h.unified {
		err = t.each(h, "cpu.max", func(dir, text string) error {
			f := strings.Fields(text)
			if len(f) != 2 {
				return fmt.Errorf("parse %q: not a quota and a period", text)
			}
			if f[0] == "max" {
				return nil
			}
			cpus, err := ratio(f[0], f[1])
			list = append(list, Quota{CPUs: cpus, tree: t, file: path.Join(dir, "cpu.stat"), unified: true})
			return err
		})
		return list, err
	}
	cpuTime, ok, err := t.hierarchy(controllerCPUTime)
	if err != nil {
		return nil, err
	}
	err = t.each(h, "cpu.cfs_quota_us", func(dir, text string) error {
		if text == "-1" {
			return nil
		}
		period, err := t.read(path.Join(dir, "cpu.cfs_period_us"))
		if err != nil {
			return err
		}
		cpus, err := ratio(text, period)
		q := Quota{CPUs: cpus, tree: t}
		if ok && !cpuTime.unified && cpuTime.group == h.group { // Else the groups of the two controllers differ.
			q.file = path.Join(cpuTime.mount, strings.TrimPrefix(dir, h.mount), "cpuacct.usage")
		}
		list = append(list, q)
		return err
	})
	return list, err
}

func ratio(quota, period string) (float64, error) {
	q, err := strconv.ParseFloat(quota, 64)
	if err != nil {
		return 0, err
	}
	p, err := strconv.ParseFloat(period, 64)
	if err != nil {
		return 0, err
	}
	if q <= 0 || p <= 0 || math.IsNaN(q/p) || math.IsInf(q/p, 0) {
		return 0, fmt.Errorf("parse quota %q and period %q: both must be more than 0", quota, period)
	}
	return q / p, nil
}

// Lowest returns the number of CPUs that a list of quotas grants, or +Inf if the list is empty.
func Lowest(list []Quota) float64 {
	cpus := math.Inf(1)
	for _, q := range list {
		cpus = min(cpus, q.CPUs)
	}
	return cpus
}

// Used returns the CPU time that the processes of the group have used so far. ok is false if it is unknown, because
// version 1 counts it in another tree in which this process is in another group.
func (q *Quota) Used() (used time.Duration, ok bool, err error) {
	if q.file == "" {
		return 0, false, nil
	}
	text, err := q.tree.read(q.file)
	if err != nil {
		return 0, false, ignoreMissing(err)
	}
	unit := time.Nanosecond
	if q.unified {
		unit = time.Microsecond
		if text, err = field(text, "usage_usec"); err != nil {
			return 0, false, fmt.Errorf("read %s: %w", q.file, err)
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("read %s: %w", q.file, err)
	}
	return time.Duration(n) * unit, true, nil
}

// MemoryLimit is the memory that a group and all groups below it may use.
type MemoryLimit struct {
	Bytes uint64 // The limit.

	tree    *Tree
	dir     string
	unified bool
}

// MemoryLimits returns the memory limits that hold for this process, from its own group up. In version 2, memory.high
// is one as well: the kernel does not kill beyond it, but slows the processes down until they stand still.
func (t *Tree) MemoryLimits() (list []MemoryLimit, err error) {
	h, ok, err := t.hierarchy(controllerMemory)
	if err != nil || !ok {
		return nil, err
	}
	files := []string{"memory.limit_in_bytes"}
	if h.unified {
		files = []string{"memory.max", "memory.high"}
	}
	for _, file := range files {
		err = t.each(h, file, func(dir, text string) error {
			if text == "max" {
				return nil
			}
			n, err := strconv.ParseUint(text, 10, 64)
			// Without a limit, version 1 reports a number close to 2^63 that depends on the page size.
			if err == nil && n < 1<<62 {
				list = append(list, MemoryLimit{Bytes: n, tree: t, dir: dir, unified: h.unified})
			}
			return err
		})
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

// LowestMemory returns the lowest limit of a list. ok is false if the list is empty.
func LowestMemory(list []MemoryLimit) (bytes uint64, ok bool) {
	bytes = math.MaxUint64
	for _, m := range list {
		bytes = min(bytes, m.Bytes)
	}
	return bytes, len(list) > 0
}

// Used returns how many bytes of the limit are in use and not free for the asking: without files in the page cache that
// have not been used lately, which the kernel drops before it lacks memory.
func (m *MemoryLimit) Used() (uint64, error) {
	usage, cache := "memory.usage_in_bytes", "total_inactive_file"
	if m.unified {
		usage, cache = "memory.current", "inactive_file"
	}
	text, err := m.tree.read(path.Join(m.dir, usage))
	if err != nil {
		return 0, err
	}
	used, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path.Join(m.dir, usage), err)
	}
	if text, err = m.tree.read(path.Join(m.dir, "memory.stat")); err != nil {
		return used, ignoreMissing(err)
	}
	if text, err = field(text, cache); err != nil {
		return 0, fmt.Errorf("read %s: %w", path.Join(m.dir, "memory.stat"), err)
	}
	inactive, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path.Join(m.dir, "memory.stat"), err)
	}
	return used - min(used, inactive), nil
}

// ignoreMissing returns err, or nil if the file does not exist.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// field returns the value of a field in a text with a name and a value on each line.
func field(text, name string) (string, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("the field %s is missing", name)
}
