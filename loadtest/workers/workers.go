// Package workers is a WebSocket server whose workers share one accept queue: each is a thread with an epoll set that
// watches the listener with EPOLLEXCLUSIVE, as in servers that fork. It only shows how connections spread over workers.
//
// Thread rule: Serve belongs to one goroutine.
//
// It upgrades connections and holds them. It delivers nothing.
package workers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

const (
	eventsMax  = 64
	requestMax = 16 << 10 // Largest upgrade request in bytes.
)

// worker is one thread. All but held belongs to it.
type worker struct {
	set      int            // Epoll descriptor.
	listener int            // Descriptor of the shared listener.
	requests map[int][]byte // Incomplete upgrade requests, by descriptor.
	held     atomic.Int64   // Connections that are open.
}

// Serve serves on a free port of 127.0.0.1, which it writes to out as a JSON string. For each line of in it writes the
// number of connections of each worker, as a JSON array. It returns when in ends; the process is then expected to end.
func Serve(count int, in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It does not resolve anything.
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		return fmt.Errorf("get the listener's descriptor: %w", err)
	}
	listener := int(file.Fd())
	if err := unix.SetNonblock(listener, true); err != nil {
		return fmt.Errorf("set the listener non-blocking: %w", err)
	}
	list := make([]*worker, count)
	var failed sync.Map
	for i := range list {
		w := &worker{listener: listener, requests: map[int][]byte{}}
		if w.set, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
			err = w.watch(listener, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
		}
		if err != nil {
			return fmt.Errorf("start worker %d: %w", i, err)
		}
		list[i] = w
		go func() { failed.Store(i, w.run()) }()
	}
	reply := json.NewEncoder(out)
	if err := reply.Encode(l.Addr().String()); err != nil {
		return fmt.Errorf("tell the address: %w", err)
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		counts := make([]int64, count)
		for i, w := range list {
			if err, ok := failed.Load(i); ok {
				return fmt.Errorf("worker %d has ended: %w", i, err.(error))
			}
			counts[i] = w.held.Load()
		}
		if err := reply.Encode(counts); err != nil {
			return fmt.Errorf("tell the counts: %w", err)
		}
	}
	runtime.KeepAlive(file) // Its finalizer would close the listener.
	return l.Close()
}

func (w *worker) watch(fd int, events uint32) error {
	return unix.EpollCtl(w.set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// run blocks in epoll_wait, on a thread of its own, as a process would: which worker the kernel wakes decides the
// spread.
func (w *worker) run() error {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, eventsMax)
	for {
		n, err := unix.EpollWait(w.set, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, ev := range events[:max(n, 0)] {
			if fd := int(ev.Fd); fd == w.listener {
				err = w.accept()
			} else {
				w.read(fd)
			}
			if err != nil {
				return err
			}
		}
	}
}

// accept accepts one connection, as most servers do per event. Another worker may have been quicker.
func (w *worker) accept() error {
	fd, err := epoll.Accept(w.listener)
	if err != nil {
		return nil //nolint:nilerr // EAGAIN, or a connection that has gone; the listener is level-triggered.
	}
	w.held.Add(1)
	return w.watch(fd, unix.EPOLLIN)
}

// read upgrades a connection when its request is complete, and then drops what the client sends.
func (w *worker) read(fd int) {
	var b [4096]byte
	n, err := epoll.Read(fd, b[:])
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err != nil || n == 0 || len(w.requests[fd]) > requestMax {
		epoll.Close(fd)
		delete(w.requests, fd)
		w.held.Add(-1)
		return
	}
	request := append(w.requests[fd], b[:n]...)
	if wire.HeadLen(request, 0) == 0 {
		w.requests[fd] = request
		return
	}
	delete(w.requests, fd)
	out, _ := wire.Handshake(nil, request, func(*wire.Request) (wire.Accept, error) { return wire.Accept{}, nil })
	if len(out) > 0 { // Later data are frames, which are no request and have no answer.
		_, _ = epoll.Write(fd, out) // A client that has gone is noticed by the next read.
	}
}
