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

// Readiness bits of an Event. Broken is always reported.
const (
	Readable = unix.EPOLLIN
	Writable = unix.EPOLLOUT
	Broken   = unix.EPOLLERR | unix.EPOLLHUP
)

// Event is a ready descriptor: its readiness bits, and the key (Fd) and tag (Pad) passed to Add.
type Event = unix.EpollEvent

// Loop states, see Wake.
const (
	stateRunning uint32 = iota
	stateWaiting
	stateNotified
)

// Poller is an epoll instance with a wake-up.
//
// Wake sets a read deadline in the past, which makes the goroutine that is parked in Go's poller ready without a system
// call. An eventfd would cost a write, a read and two more calls of epoll_wait for each wake-up, a quarter of the cost
// of a small delivery.
type Poller struct {
	fd    int
	file  *os.File        // Owns fd; registered in Go's poller.
	raw   syscall.RawConn // Parks the goroutine until file is readable.
	state atomic.Uint32   // stateRunning, stateWaiting or stateNotified.
	buf   []Event         // Events of the last poll.

	// Argument of raw.Read. It is created once, because creating it for each Wait would allocate.
	check   func(fd uintptr) (done bool)
	found   int   // Number of events that check has found.
	failure error // Error of check.
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
	p.check = func(uintptr) bool {
		p.found, p.failure = p.poll()
		return p.found > 0 || p.failure != nil
	}
	p.raw, err = p.file.SyscallConn()
	if err == nil {
		err = p.file.SetReadDeadline(time.Time{}) // Fails if Go's poller does not watch the file.
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up epoll instance: %w", err), p.Close())
	}
	return p, nil
}

// Add watches fd for the given readiness, level-triggered. Wait returns key and tag with each event.
func (p *Poller) Add(fd int, ready uint32, key, tag int32) error {
	return p.ctl(unix.EPOLL_CTL_ADD, fd, ready, key, tag)
}

// Modify changes the readiness that fd is watched for, and its key and tag.
func (p *Poller) Modify(fd int, ready uint32, key, tag int32) error {
	return p.ctl(unix.EPOLL_CTL_MOD, fd, ready, key, tag)
}

func (p *Poller) ctl(op, fd int, ready uint32, key, tag int32) error {
	ev := Event{Events: ready, Fd: key, Pad: tag}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), uintptr(op), uintptr(fd),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Wake makes the current or the next Wait return. It makes no system call. Any goroutine may call it.
func (p *Poller) Wake() {
	if p.state.Swap(stateNotified) == stateWaiting {
		_ = p.file.SetReadDeadline(past) // Fails only if the poller is closed.
	}
}

// past is a read deadline that has passed.
var past = time.Unix(1, 0)

// Wait returns the descriptors that are ready. If block is true, it waits until there is one or Wake is called; it
// returns at once if Wake has been called since the last Wait. The events are valid until the next call. woken reports
// whether Wake has ended the wait. In that case Wait has not checked the descriptors; the next Wait will.
func (p *Poller) Wait(block bool) (events []Event, woken bool, err error) {
	if !block || !p.state.CompareAndSwap(stateRunning, stateWaiting) {
		// Either Wake was called since the last Wait, or the caller has more to do, so check without waiting.
		p.state.Store(stateRunning)
		n, err := p.poll()
		return p.buf[:n], false, err
	}
	p.found, p.failure = 0, nil
	err = p.raw.Read(p.check)
	p.state.Store(stateRunning)
	switch {
	case err == nil:
		return p.buf[:p.found], false, p.failure
	case errors.Is(err, os.ErrDeadlineExceeded):
		// A Wake may set its deadline late, after the Wait that it was for has ended for another reason. It then
		// shortens the next Wait, which is harmless. No Wake is lost, because this return serves all Wakes whose
		// deadline is removed here.
		if err := p.file.SetReadDeadline(time.Time{}); err != nil {
			return nil, true, fmt.Errorf("wait for events: %w", err)
		}
		return nil, true, nil
	default:
		return nil, false, fmt.Errorf("wait for events: %w", err)
	}
}

// poll calls epoll_wait once, without waiting, and returns the number of events in buf.
func (p *Poller) poll() (int, error) {
	for {
		// arm64 has epoll_pwait, but not epoll_wait.
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.buf[0])),
			uintptr(len(p.buf)), 0, 0, 0)
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

// Close closes the poller. The descriptors that it watches stay open.
func (p *Poller) Close() error {
	return p.file.Close()
}

// Monotonic returns CLOCK_MONOTONIC in nanoseconds. eBPF programs read the same clock with bpf_ktime_get_ns, so it is
// for times that user space and a program compare. The monotonic part of time.Now has another origin. Any goroutine may
// call it.
func Monotonic() uint64 {
	var t unix.Timespec
	// Fails only for a clock or an address that does not exist.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano()) //nolint:gosec // Since boot.
}
