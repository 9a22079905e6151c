package epoll

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
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

// keyWake marks the poller's own eventfd; Add refuses it.
const keyWake = -1 << 31

// Loop states, see Wake.
const (
	stateRunning uint32 = iota
	stateWaiting
	stateNotified
)

// Poller is an epoll instance with a wake-up.
type Poller struct {
	fd     int
	wakeFD int
	file   *os.File        // Owns fd; registered in Go's poller.
	raw    syscall.RawConn // Of file.
	state  atomic.Uint32   // stateRunning, stateWaiting or stateNotified.
	woken  bool            // The last Wait ended by Wake.
	buf    []Event
}

// New returns a poller whose Wait reports at most eventsMax descriptors at a time.
func New(eventsMax int) (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	wakeFD, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	// Go's poller takes only descriptors in non-blocking mode; on an epoll descriptor the flag has no other effect.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		_ = unix.Close(wakeFD)
		return nil, fmt.Errorf("set epoll descriptor non-blocking: %w", err)
	}
	p := &Poller{fd: fd, wakeFD: wakeFD, file: os.NewFile(uintptr(fd), "epoll"), buf: make([]Event, eventsMax)}
	p.raw, err = p.file.SyscallConn()
	if err == nil {
		err = p.ctl(unix.EPOLL_CTL_ADD, wakeFD, Readable, keyWake, 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up epoll instance: %w", err), p.Close())
	}
	return p, nil
}

// Add watches fd for the given readiness, level-triggered. Wait hands key and tag back with each event.
func (p *Poller) Add(fd int, ready uint32, key, tag int32) error {
	if key == keyWake {
		panic("BUG: epoll key is the poller's own")
	}
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

// Wake makes the current or the next Wait return. Any goroutine may call it; it costs a system call only when the loop waits.
func (p *Poller) Wake() {
	if p.state.Swap(stateNotified) == stateWaiting {
		one := [8]byte{1}
		// The counter cannot overflow: each write follows a Wait, and Wait reads it.
		_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(p.wakeFD), uintptr(unsafe.Pointer(&one[0])), 8)
	}
}

// Wait returns the descriptors that are ready. With block it waits until there is one or Wake is called; a Wake since the last
// Wait returns at once. The result is valid until the next call. woken says whether Wake ended a wait.
func (p *Poller) Wait(block bool) (events []Event, woken bool, err error) {
	p.woken = false
	if !block || !p.state.CompareAndSwap(stateRunning, stateWaiting) {
		// Either somebody woke us while we ran, or the caller has more to do: look, do not wait.
		p.state.Store(stateRunning)
		n, err := p.poll()
		return p.take(n), p.woken, err
	}
	var n int
	var pollErr error
	err = p.raw.Read(func(uintptr) bool {
		n, pollErr = p.poll()
		return n > 0 || pollErr != nil
	})
	p.state.Store(stateRunning)
	if err != nil {
		return nil, false, fmt.Errorf("wait for events: %w", err)
	}
	return p.take(n), p.woken, pollErr
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

// take removes the poller's own eventfd from the first n events and resets it.
func (p *Poller) take(n int) []Event {
	events := p.buf[:n]
	for i := range events {
		if events[i].Fd == keyWake {
			var count [8]byte
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(p.wakeFD), uintptr(unsafe.Pointer(&count[0])), 8)
			p.woken = true
			events[i] = events[n-1]
			return events[:n-1]
		}
	}
	return events
}

// Close releases the poller's descriptors; descriptors that it watches stay open.
func (p *Poller) Close() error {
	return errors.Join(p.file.Close(), unix.Close(p.wakeFD))
}

// Monotonic returns CLOCK_MONOTONIC in nanoseconds: the clock that eBPF programs read by bpf_ktime_get_ns, for times that user
// space and a program compare. time.Now's monotonic part counts from another origin. Safe from any goroutine.
func Monotonic() uint64 {
	var t unix.Timespec
	// Fails only for a clock or an address that does not exist.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano())
}
