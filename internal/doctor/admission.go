package doctor

import (
	"fmt"

	"wsd/internal/cgroup"
)

// admission checks what decides whether new clients are refused: that the memory limit can be compared with its use,
// that it is not nearly used up before wsd starts, and who refuses.
func (in *inspector) admission() Result {
	r := Result{Check: "admission", Wanted: "room below admission.memory_high, and the kernel to refuse"}
	if in.Admission == "off" {
		r.Found, r.Wanted = "admission.mode is off: an overloaded wsd refuses nobody", ""
		return r
	}
	m, used, err := in.memoryUse()
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	share := 0.0
	r.Found = "no memory limit"
	if m.Bytes > 0 {
		share = 100 * float64(used) / float64(m.Bytes)
		r.Found = fmt.Sprintf("%.0f %% of %s memory in use", share, size(m.Bytes))
	}
	switch {
	case in.AdmissionAnswer == "http":
		r.Found += "; shards refuse with status 503"
	case in.steers():
		r.Found += "; the kernel refuses with a reset"
	default:
		r.Found += "; shards refuse with a reset, because steering.mode is off"
	}
	if share >= float64(in.MemoryHigh) {
		r.Status = Warn
		r.Remedy = fmt.Sprintf("wsd would refuse all clients at once: raise the limit, stop what else uses it, or "+
			"raise admission.memory_high (%d)", in.MemoryHigh)
	}
	return r
}

// memoryUse returns the memory limit that is closest to its end, and how much of it is in use. The limit has 0 bytes if
// there is none.
func (in *inspector) memoryUse() (closest cgroup.MemoryLimit, used uint64, err error) {
	tree, err := cgroup.Mounted(in.Root)
	if in.CgroupRoot != "" {
		tree, err = cgroup.At(in.CgroupRoot)
	}
	if err != nil {
		return closest, 0, err
	}
	limits, err := tree.MemoryLimits()
	if err != nil {
		return closest, 0, err
	}
	highest := -1.0
	for _, m := range limits {
		n, err := m.Used()
		if err != nil {
			return closest, 0, err
		}
		if share := float64(n) / float64(max(1, m.Bytes)); share > highest {
			closest, used, highest = m, n, share
		}
	}
	return closest, used, nil
}
