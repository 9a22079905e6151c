package kafka

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"wsd/internal/epoll"
)

// socket is a TCP connection whose reads and writes are raw non-blocking system calls. Package net does the waiting,
// deadlines and closing. If a process was idle, a system call that the Go runtime knows about wakes its monitor thread.
// With sparse records, that took more CPU than the call: a fifth of what a record costs from fetch to write. One
// goroutine at a time may read, and one may write.
type socket struct {
	net.Conn
	raw     syscall.RawConn
	in, out transfer
	// Called with the number of bytes that a read or write has moved. Nil calls nothing.
	moved func(bytes int) error
}

// transfer is a read or write in progress. Its step is made once, because a function literal would be allocated for
// each call.
type transfer struct {
	buf  []byte
	n    int
	err  error
	step func(fd uintptr) (done bool)
}

// rawBytesMax bounds one system call, because the runtime cannot preempt it.
const rawBytesMax = 256 << 10

func newSocket(c *net.TCPConn) (*socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: c, raw: raw}
	s.in.step = func(fd uintptr) bool {
		s.in.n, s.in.err = epoll.Read(int(fd), s.in.buf)
		return !errors.Is(s.in.err, syscall.EAGAIN)
	}
	s.out.step = func(fd uintptr) bool {
		s.out.n, s.out.err = epoll.Write(int(fd), s.out.buf)
		return !errors.Is(s.out.err, syscall.EAGAIN)
	}
	return s, nil
}

// Read is net.Conn's.
func (s *socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := &s.in
	t.buf = b[:min(len(b), rawBytesMax)]
	err := s.raw.Read(t.step)
	t.buf = nil
	switch {
	case err != nil:
		return 0, err
	case t.err != nil:
		return 0, s.failed("read", t.err)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, s.progress(t.n)
}

// progress reports that bytes have moved.
func (s *socket) progress(bytes int) error {
	if s.moved == nil {
		return nil
	}
	return s.moved(bytes)
}

// Write is net.Conn's.
func (s *socket) Write(b []byte) (n int, err error) {
	t := &s.out
	for n < len(b) {
		t.buf = b[n:min(len(b), n+rawBytesMax)]
		err := s.raw.Write(t.step)
		t.buf = nil
		switch {
		case err != nil:
			return n, err
		case t.err != nil:
			return n, s.failed("write", t.err)
		}
		n += t.n
		if err := s.progress(t.n); err != nil {
			return n, err
		}
	}
	return n, nil
}

// failed describes a failed system call as package net does.
func (s *socket) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(),
		Err: os.NewSyscallError(op, err)}
}
