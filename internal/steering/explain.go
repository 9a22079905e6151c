package steering

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"wsd/internal/host"
)

// ErrVerifier is wrapped by an error that says that the kernel's verifier refused the program.
var ErrVerifier = errors.New("the verifier refused the program")

// filesMin is a limit on open files that leaves room for the maps and programs of several listen addresses.
const filesMin = 1024

// kernelError is a refusal by the kernel. Its text is one line, and names the remedy where there is one.
type kernelError struct {
	text  string
	cause error
}

func (e *kernelError) Error() string { return e.text }
func (e *kernelError) Unwrap() error { return e.cause }

// explain turns an error of bpf(2) or setsockopt(2) into one line that names the missing capability, the version of the
// kernel, or the verifier's complaint. action is what failed, such as "create map weight".
func explain(action string, err error) error {
	return explainOn(action, err, hostFacts())
}

// facts are what the explanation of an error depends on.
type facts struct {
	release      string // Of the kernel, as uname -r prints it.
	capabilities uint64 // Effective capabilities of this process.
	userNS       bool   // The process is not in the initial user namespace.
	files        uint64 // Soft limit on open files.
}

func explainOn(action string, err error, f facts) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.EPERM) && !f.has(unix.CAP_BPF) && !f.has(unix.CAP_SYS_ADMIN):
		return &kernelError{action + ": operation not permitted: CAP_BPF is missing; grant it with setcap cap_bpf+ep " +
			"on the binary, " +
			"docker run --cap-add BPF, or AmbientCapabilities=CAP_BPF in a systemd unit", err}
	case errors.Is(err, unix.EPERM) && f.userNS:
		return &kernelError{action + ": operation not permitted: CAP_BPF counts only in the initial user " +
			"namespace, or with a BPF token that delegates enough: start wsd there, or see BPF token in wsd " +
			"doctor", err}
	case errors.Is(err, unix.EPERM):
		return &kernelError{action + ": operation not permitted: wsd has CAP_BPF or CAP_SYS_ADMIN, but bpf(2) is " +
			"still refused, " +
			"probably by a seccomp profile, kernel lockdown or another security module: run wsd doctor", err}
	case errors.Is(err, unix.EMFILE):
		return &kernelError{fmt.Sprintf("%s: out of file descriptors: the limit on open files (nofile) is %d; raise "+
			"it to at least %d",
			action, f.files, max(filesMin, 2*f.files)), err}
	case errors.Is(err, unix.ENOSYS):
		return &kernelError{action + ": bpf(2) is not available: kernel " + f.release +
			" lacks it, or a seccomp profile hides it", err}
	case f.tooOld():
		return &kernelError{fmt.Sprintf("%s: kernel %s is too old: steering needs %v or newer", action, f.release,
			host.SteeringMin), err}
	case errors.As(err, &verifier) && len(verifier.Log) > 0:
		line := complaint(verifier.Log)
		if strings.Contains(line, "!root") && !f.has(unix.CAP_PERFMON) && !f.has(unix.CAP_SYS_ADMIN) {
			line += "; the verifier is less strict with CAP_PERFMON: grant it in addition to CAP_BPF"
		}
		return &kernelError{fmt.Sprintf("%s: the verifier of kernel %s refused the program: %s", action, f.release,
			line), errors.Join(ErrVerifier, err)}
	}
	return &kernelError{fmt.Sprintf("%s: %s (kernel %s)", action, oneLine(err), f.release), err}
}

// complaint returns the line of a verifier's log that says what is wrong: the last one that is not statistics.
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

// oneLine returns the text of an error without line breaks, which some errors of package ebpf have.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (f facts) has(capability uint) bool { return f.capabilities&(1<<capability) != 0 }

func (f facts) tooOld() bool {
	v, ok := host.ParseRelease(f.release)
	return ok && v.Before(host.SteeringMin)
}

// hostFacts returns the facts of this process. Where /proc is not readable it assumes every capability and the initial
// user namespace, so that explain does not blame what it cannot see.
func hostFacts() facts {
	f := facts{release: "unknown", capabilities: ^uint64(0)}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		f.release = unix.ByteSliceToString(uts.Release[:])
	}
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		value, _ := host.StatusField(string(status), "CapEff")
		f.capabilities, _ = strconv.ParseUint(value, 16, 64)
	}
	if uidMap, err := os.ReadFile("/proc/self/uid_map"); err == nil {
		f.userNS = host.InUserNamespace(string(uidMap))
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		f.files = files.Cur
	}
	return f
}
