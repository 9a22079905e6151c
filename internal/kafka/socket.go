package kafka

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"wsd/internal/epoll"
)

// socket is a TCP connection whose reads and writes are raw non-blocking system calls; waiting, deadlines and closing are net's. A
// system call that Go knows of wakes the runtime's monitor thread when the process was idle, which on sparse records cost more
// than the call: a fifth of the CPU from fetch to write. One goroutine at a time may read, and one write.
type socket struct {
	net.Conn
	raw     syscall.RawConn
	in, out transfer
}

// transfer is a read or write under way. Its step is made once, because a function literal would be allocated for each call.
type transfer struct {
	buf  []byte
	n    int
	err  error
	step func(fd uintptr) (done bool)
}

// rawBytesMax bounds one system call: the runtime cannot take the processor away during it.
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
	return t.n, nil
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
	}
	return n, nil
}

// failed describes a failed system call as package net does.
func (s *socket) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
