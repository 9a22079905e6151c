package privilege

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"wsd/internal/host"
)

// Need is something that the process does again after its start, and that may take a capability.
type Need struct {
	For          string // What it is, as the end of "kept CAP_X to ...".
	Capabilities []int  // What it may take, the least first. The first that suffices is kept.
	// Try does it, or as much as shows whether it may be done. It is called several times, each on a thread with other
	// capabilities, and must do its work on the goroutine that calls it.
	Try func() error
}

// Kept is a capability that the process keeps.
type Kept struct {
	Capability string
	For        string
}

// State is what a process may do.
type State struct {
	Effective  Set    // Capabilities of the process.
	Bounding   Set    // Capabilities that a program which it starts could get, were it not for NoNewPrivs.
	NoNewPrivs bool   // Whether neither it nor a program which it starts can gain privileges.
	Kept       []Kept // Why Effective is not empty, after Drop.
	Problem    string // Why Drop could not drop everything; empty if it could, and before Drop.
}

// Drop drops all capabilities except those without which a need fails, on all threads of the process, empties the
// bounding set and sets no_new_privs. The process keeps running if something cannot be dropped: State.Problem then says
// what. It must be called before the process starts work whose threads have to be without privileges.
func Drop(needs []Need) State {
	had, err := own()
	if err != nil {
		return State{Problem: err.Error()}
	}
	var keep Set
	var kept []Kept
	for i := range needs {
		c, needed, err := needs[i].measure(had.Permitted)
		if err != nil {
			return describe(nil, fmt.Errorf("measure what is needed to %s: %w", needs[i].For, err))
		}
		if needed {
			keep |= Of(c)
			kept = append(kept, Kept{Capability: Name(c), For: needs[i].For})
		}
	}
	return describe(kept, errors.Join(dropAll(keep), verify(keep, true)))
}

func describe(kept []Kept, problem error) State {
	state, err := Read()
	if err = errors.Join(problem, err); err != nil {
		state.Problem = err.Error()
	}
	state.Kept = kept
	return state
}

// measure returns the capability without which the need fails. needed is false if it is met without one, or cannot be
// met at all, so that no capability would help.
func (n *Need) measure(permitted Set) (capability int, needed bool, err error) {
	met := false
	try := func() { met = n.Try() == nil }
	if err := With(0, try); err != nil || met {
		return 0, false, err
	}
	for _, c := range n.Capabilities {
		if permitted&Of(c) == 0 {
			continue
		}
		if err := With(Of(c), try); err != nil || met {
			return c, met, err
		}
	}
	return 0, false, nil
}

// With calls f on a thread whose effective capabilities are those in set, and gives the thread back what it had. It
// returns an error, and does not call f, if they cannot be set.
func With(set Set, f func()) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread ends with the goroutine.
		had, err := own()
		if err == nil {
			changed := had
			changed.Effective = set
			err = changed.apply(unix.RawSyscall)
		}
		if err == nil {
			f()
			// Go ends a thread whose goroutine ended locked, but not the first one of the process: that stays. Drop
			// makes its calls on all threads, and the runtime gives up if they end differently.
			err = had.apply(unix.RawSyscall)
		}
		done <- err
	}()
	return <-done
}

// dropAll drops on all threads. What fails does not keep it from the rest.
func dropAll(keep Set) error {
	var errs []error
	for c := range 64 {
		set, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, uintptr(c), 0)
		if errno != 0 {
			break // No such capability.
		}
		if set == 0 {
			continue
		}
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
			if errors.Is(err, unix.EPERM) {
				break // It takes CAP_SETPCAP. With no_new_privs the bounding set does not matter.
			}
			errs = append(errs, fmt.Errorf("empty the bounding set: %w", err))
			break
		}
	}
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		errs = append(errs, fmt.Errorf("clear the ambient capabilities: %w", err))
	}
	data := sets{Effective: keep, Permitted: keep}
	errs = append(errs, data.apply(func(trap, a, b, c uintptr) (r1, r2 uintptr, errno syscall.Errno) {
		return syscall.AllThreadsSyscall(trap, a, b, c)
	}))
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		errs = append(errs, fmt.Errorf("set no_new_privs: %w", err))
	}
	return errors.Join(errs...)
}

// onAllThreads makes a system call with up to six arguments, of which the last three are 0, on every thread.
func onAllThreads(trap, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(trap, a, b, c, 0, 0, 0); errno != 0 {
		return withRemedy(errno)
	}
	return nil
}

// withRemedy explains the error of a program that is linked with C, whose threads Go does not know.
func withRemedy(errno syscall.Errno) error {
	if errno == unix.ENOTSUP {
		return fmt.Errorf("%w: build wsd with CGO_ENABLED=0, as make build does", errno)
	}
	return errno
}

// verify returns an error unless every thread may do just this.
func verify(effective Set, noNewPrivs bool) error {
	tasks, _ := filepath.Glob("/proc/self/task/*/status") // The pattern is valid. Without /proc there is none.
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // The thread has ended.
		}
		state := parse(string(text))
		if state.Effective != effective || state.NoNewPrivs != noNewPrivs {
			return fmt.Errorf("thread %s has %v, no_new_privs %v", filepath.Base(filepath.Dir(path)),
				state.Effective.Names(), state.NoNewPrivs)
		}
	}
	return nil
}

// Read returns what the calling process may do now.
func Read() (State, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return State{}, fmt.Errorf("read the capabilities: %w", err)
	}
	return parse(string(text)), nil
}

// parse reads a text like /proc/self/status.
func parse(status string) State {
	set := func(field string) Set {
		text, _ := host.StatusField(status, field)
		n, _ := strconv.ParseUint(text, 16, 64) // The kernel writes a number.
		return Set(n)
	}
	noNewPrivs, _ := host.StatusField(status, "NoNewPrivs")
	return State{Effective: set("CapEff"), Bounding: set("CapBnd"), NoNewPrivs: noNewPrivs == "1"}
}

// sets are the capability sets of a thread.
type sets struct{ Effective, Permitted, Inheritable Set }

// own returns the sets of the calling thread.
func own() (s sets, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return s, fmt.Errorf("read the capabilities: %w", err)
	}
	join := func(low, high uint32) Set { return Set(low) | Set(high)<<32 }
	return sets{
		Effective:   join(data[0].Effective, data[1].Effective),
		Permitted:   join(data[0].Permitted, data[1].Permitted),
		Inheritable: join(data[0].Inheritable, data[1].Inheritable),
	}, nil
}

// apply sets the sets by capset, which call makes on one thread or on all.
func (s sets) apply(call func(trap, a, b, c uintptr) (r1, r2 uintptr, errno syscall.Errno)) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		data[i] = unix.CapUserData{
			Effective: half(s.Effective, i), Permitted: half(s.Permitted, i), Inheritable: half(s.Inheritable, i),
		}
	}
	var pinner runtime.Pinner // Keeps them off the stack, which may move.
	pinner.Pin(&header)
	pinner.Pin(&data)
	defer pinner.Unpin()
	_, _, errno := call(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return fmt.Errorf("set the capabilities: %w", withRemedy(errno))
	}
	return nil
}

// half returns the lower or the upper 32 bits.
func half(s Set, i int) uint32 { return uint32(s >> (32 * i) & math.MaxUint32) }

// MayChange returns nil if the calling thread may create and remove files in a directory that exists, and read it.
func MayChange(dir string) error {
	err := unix.Faccessat2(unix.AT_FDCWD, dir, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	if err != nil {
		return fmt.Errorf("change %s: %w", dir, err)
	}
	return nil
}
