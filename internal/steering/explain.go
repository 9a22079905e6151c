package steering

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The attach type that also migrates came with this release.
const kernelMajorMin, kernelMinorMin = 5, 14

// kernelError is a refusal by the kernel, in one line that says what to do.
type kernelError struct {
	text  string
	cause error
}

func (e *kernelError) Error() string { return e.text }
func (e *kernelError) Unwrap() error { return e.cause }

// explain makes of what a bpf call or setsockopt returned the line that names the
// missing capability, the kernel's version or the verifier's complaint.
func explain(action string, err error) error {
	return explainOn(action, err, hostFacts())
}

// facts are what the answer depends on.
type facts struct {
	release      string // uname -r
	capabilities uint64 // The effective set.
	userNS       bool   // Not in the first user namespace.
}

func explainOn(action string, err error, f facts) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.EPERM) && !f.has(unix.CAP_BPF) && !f.has(unix.CAP_SYS_ADMIN):
		return &kernelError{action + ": operation not permitted: CAP_BPF is missing; grant it by " +
			"setcap cap_bpf+ep on the binary, docker run --cap-add BPF, or AmbientCapabilities=CAP_BPF in a systemd unit", err}
	case errors.Is(err, unix.EPERM) && f.userNS:
		return &kernelError{action + ": operation not permitted: CAP_BPF counts in the first user namespace only; start wsd there", err}
	case errors.Is(err, unix.EPERM):
		return &kernelError{action + ": operation not permitted, although CAP_BPF or CAP_SYS_ADMIN is there: " +
			"a seccomp profile, kernel lockdown or another security module refuses bpf(2)", err}
	case errors.Is(err, unix.ENOSYS):
		return &kernelError{action + ": this kernel has no bpf(2), or a seccomp profile hides it: kernel " + f.release, err}
	case f.tooOld():
		return &kernelError{fmt.Sprintf("%s: kernel %s is too old: steering needs %d.%d or newer", action, f.release, kernelMajorMin, kernelMinorMin), err}
	case errors.As(err, &verifier) && len(verifier.Log) > 0:
		line := complaint(verifier.Log)
		if strings.Contains(line, "!root") && !f.has(unix.CAP_PERFMON) && !f.has(unix.CAP_SYS_ADMIN) {
			line += "; it is less strict with CAP_PERFMON: grant that beside CAP_BPF"
		}
		return &kernelError{fmt.Sprintf("%s: the verifier of kernel %s refuses it: %s", action, f.release, line), err}
	}
	return &kernelError{fmt.Sprintf("%s: %s (kernel %s)", action, oneLine(err), f.release), err}
}

// complaint finds the line of a verifier's log that tells what was wrong: the
// last one that is not statistics.
func complaint(log []string) string {
	for i := len(log) - 1; i >= 0; i-- {
		line := strings.TrimSpace(log[i])
		if line != "" && !strings.HasPrefix(line, "processed ") && !strings.HasPrefix(line, "stack depth ") &&
			!strings.HasPrefix(line, "verification time ") {
			return line
		}
	}
	return "no reason given"
}

// oneLine makes an error fit a line of log: ebpf's may have several.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (f facts) has(capability uint) bool { return f.capabilities&(1<<capability) != 0 }

func (f facts) tooOld() bool {
	var major, minor int
	if n, _ := fmt.Sscanf(f.release, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major < kernelMajorMin || major == kernelMajorMin && minor < kernelMinorMin
}

// hostFacts leaves out what /proc does not tell; the error itself is then shown.
func hostFacts() facts {
	f := facts{release: "unknown"}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		f.release = unix.ByteSliceToString(uts.Release[:])
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		f.capabilities = ^uint64(0)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			f.capabilities, _ = strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	ids, err := os.ReadFile("/proc/self/uid_map")
	f.userNS = err == nil && strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295"
	return f
}
