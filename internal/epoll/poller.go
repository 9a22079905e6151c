package epoll

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Readiness bits of an Event; EPOLLERR and EPOLLHUP are always reported.
const (
	Readable = unix.EPOLLIN
	Writable = unix.EPOLLOUT
	Broken   = unix.EPOLLERR | unix.EPOLLHUP
)

// Event is one ready descriptor: the two words given to Add, and what it is ready for.
type Event = unix.EpollEvent

// Loop states, see Wake.
const (
	stateRunning uint32 = iota
	stateWaiting
	stateNotified
)

// Poller is an epoll instance with a wake-up.
//
// Wake is a read deadline in the past: it makes the goroutine that is parked in Go's poller ready without a system call. An
// eventfd in the set would cost a write, a read and two more looks at the set for each wake-up, a quarter of a small delivery.
type Poller struct {
	fd    int
	file  *os.File        // Owns fd; registered in Go's poller.
	raw   syscall.RawConn // Of file.
	state atomic.Uint32   // stateRunning, stateWaiting or stateNotified.
	buf   []Event

	// Of the Wait under way; its look is made once, because a method value would be allocated each time.
	look    func(fd uintptr) (done bool)
	found   int
	failure error
}

// New returns a poller whose Wait reports at most eventsMax descriptors at a time.
func New(eventsMax int) (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	// Go's poller takes only descriptors in non-blocking mode; on an epoll descriptor the flag has no other effect.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set epoll descriptor non-blocking: %w", err)
	}
	p := &Poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), buf: make([]Event, eventsMax)}
	p.look = func(uintptr) bool {
		p.found, p.failure = p.poll()
		return p.found > 0 || p.failure != nil
	}
	p.raw, err = p.file.SyscallConn()
	if err == nil {
		err = p.file.SetReadDeadline(time.Time{}) // Refused where Go's poller does not watch the file.
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up epoll instance: %w", err), p.Close())
	}
	return p, nil
}

// Add watches fd for the given readiness, level-triggered. Wait hands key and tag back with each event.
func (p *Poller) Add(fd int, ready uint32, key, tag int32) error {
	return p.ctl(unix.EPOLL_CTL_ADD, fd, ready, key, tag)
}

// Modify changes what fd is watched for.
func (p *Poller) Modify(fd int, ready uint32, key, tag int32) error {
	return p.ctl(unix.EPOLL_CTL_MOD, fd, ready, key, tag)
}

func (p *Poller) ctl(op, fd int, ready uint32, key, tag int32) error {
	ev := Event{Events: ready, Fd: key, Pad: tag}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Wake makes the current or the next Wait return. Any goroutine may call it; it makes no system call.
func (p *Poller) Wake() {
	if p.state.Swap(stateNotified) == stateWaiting {
		_ = p.file.SetReadDeadline(past) // Fails only when the poller is closed.
	}
}

// past is a read deadline that has passed.
var past = time.Unix(1, 0)

// Wait returns the descriptors that are ready. With block it waits until there is one or Wake is called; a Wake since the last
// Wait returns at once. The result is valid until the next call. woken says whether Wake ended a wait; then no descriptor has been
// looked at, and the next Wait does.
func (p *Poller) Wait(block bool) (events []Event, woken bool, err error) {
	if !block || !p.state.CompareAndSwap(stateRunning, stateWaiting) {
		// Either somebody woke us while we ran, or the caller has more to do: look, do not wait.
		p.state.Store(stateRunning)
		n, err := p.poll()
		return p.buf[:n], false, err
	}
	p.found, p.failure = 0, nil
	err = p.raw.Read(p.look)
	p.state.Store(stateRunning)
	switch {
	case err == nil:
		return p.buf[:p.found], false, p.failure
	case errors.Is(err, os.ErrDeadlineExceeded):
		// A Wake that set its deadline only now, though this Wait or an earlier one has ended otherwise, cuts the next one short.
		// That is harmless. None is lost: what is taken back here belongs to Wakes that this return answers.
		if err := p.file.SetReadDeadline(time.Time{}); err != nil {
			return nil, true, fmt.Errorf("wait for events: %w", err)
		}
		return nil, true, nil
	default:
		return nil, false, fmt.Errorf("wait for events: %w", err)
	}
}

// poll asks the kernel once, without waiting.
func (p *Poller) poll() (int, error) {
	for {
		// epoll_pwait and not epoll_wait: arm64 has only the former.
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.buf[0])), uintptr(len(p.buf)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		default:
			return 0, fmt.Errorf("poll for events: %w", errno)
		}
	}
}

// Close releases the poller's descriptors; descriptors that it watches stay open.
func (p *Poller) Close() error {
	return p.file.Close()
}

// Monotonic returns CLOCK_MONOTONIC in nanoseconds: the clock that eBPF programs read by bpf_ktime_get_ns, for times that user
// space and a program compare. time.Now's monotonic part counts from another origin. Safe from any goroutine.
func Monotonic() uint64 {
	var t unix.Timespec
	// Fails only for a clock or an address that does not exist.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano())
}
