package doctor

import (
	"fmt"
	"slices"
	"strings"

	"wsd/internal/host"
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
		r.Wanted = "delegate_cmds, delegate_maps, delegate_progs and delegate_attachs"
		for _, part := range []string{"delegate_cmds", "delegate_maps", "delegate_progs", "delegate_attachs"} {
			if !slices.ContainsFunc(delegated, func(o string) bool { return strings.HasPrefix(o, part+"=") }) {
				r.Status = in.worse(Warn)
				r.Remedy = "mount the bpffs with delegate_cmds=any,delegate_maps=any,delegate_progs=any," +
					"delegate_attachs=any"
			}
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
