package doctor

import (
	"fmt"
	"slices"
	"strings"

	"wsd/internal/host"
	"wsd/internal/steering"
)

// tokenMin is the first kernel whose bpffs can delegate bpf() to a user namespace.
var tokenMin = host.Version{Major: 6, Minor: 9}

// token looks for a bpffs that delegates bpf() (mount options delegate_…). The eBPF library takes a token from it by
// itself, so a process in a user namespace, where CAP_BPF alone is not enough, can load the program.
func (in *inspector) token() Result {
	r := Result{Check: "BPF token"}
	text, err := in.read("/proc/self/mountinfo")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(kind) < 3 || kind[0] != "bpf" {
			continue
		}
		var delegated []string
		for option := range strings.SplitSeq(kind[2], ",") {
			if strings.HasPrefix(option, "delegate_") {
				delegated = append(delegated, option)
			}
		}
		if len(delegated) == 0 {
			continue
		}
		r.Found = fmt.Sprintf("%s delegates bpf(): %s", mount[4], strings.Join(delegated, ","))
		var wanted, missing []string
		for _, o := range steering.Delegation() {
			option := o[0] + "=" + o[1]
			wanted = append(wanted, option)
			if !delegates(delegated, o[0], o[1]) {
				missing = append(missing, option)
			}
		}
		r.Wanted = strings.Join(wanted, ",")
		if len(missing) > 0 {
			r.Status = in.worse(Warn)
			r.Remedy = "mount the bpffs with " + strings.Join(missing, ",")
		}
		return r
	}
	r.Found = "none is delegated here; only a process in a user namespace needs one"
	release, err := in.read("/proc/sys/kernel/osrelease")
	if version, ok := host.ParseRelease(release); err == nil && ok && version.Before(tokenMin) {
		r.Found = fmt.Sprintf("kernels before %v have none", tokenMin)
	}
	return r
}

// delegates reports whether the options of a mount allow all names of an option. A kernel without type information
// shows a number, which is taken to be enough.
func delegates(options []string, option, names string) bool {
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		if key != option {
			continue
		}
		if value == "any" || strings.HasPrefix(value, "0x") {
			return true
		}
		have := strings.Split(value, ":")
		return !slices.ContainsFunc(strings.Split(names, ":"), func(n string) bool { return !slices.Contains(have, n) })
	}
	return false
}
