package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
)

// handshakesMax is the maximum number of concurrent TLS handshakes. Each has a thread, which waits for the socket.
const handshakesMax = 64

// tlsConn is TLS on a client's socket. Package tls needs a blocking connection for the handshake, so that is done in a
// goroutine. Later reads return os.ErrDeadlineExceeded when the socket has no more data, which package tls allows to
// repeat.
type tlsConn struct {
	*tls.Conn
	socket *socket
}

// socket is a non-blocking descriptor as a net.Conn.
type socket struct {
	net.Conn     // Nil. Package tls calls none of its other methods here.
	fd       int // The descriptor.
	e        *Engine
	deadline time.Time // Until then reads and writes wait; zero: they do not wait.
}

// Read reads into b.
func (s *socket) Read(b []byte) (int, error) {
	for {
		n, err := epoll.Read(s.fd, b)
		switch {
		case err == nil && n == 0:
			return 0, io.EOF
		case err == nil || !again(err):
			return n, err
		}
		if err := s.wait(unix.POLLIN); err != nil {
			return 0, err
		}
	}
}

// Write writes all of b.
func (s *socket) Write(b []byte) (written int, err error) {
	for written < len(b) {
		n, err := epoll.Write(s.fd, b[written:])
		if written += n; err == nil {
			continue
		}
		if !again(err) {
			return written, err
		}
		if err := s.wait(unix.POLLOUT); err != nil {
			return written, err
		}
	}
	return written, nil
}

// Close does nothing: the loop owns the descriptor.
func (s *socket) Close() error { return nil }

// wait waits for the socket in steps, so that it notices the end of the run.
func (s *socket) wait(ready int16) error {
	for {
		if !time.Now().Before(s.deadline) || s.e.phase.Load() == phaseClose {
			return os.ErrDeadlineExceeded
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: ready}}, 100)
		if n > 0 || err != nil && !again(err) {
			return err
		}
	}
}

// secure begins the TLS handshake of a client.
func (l *loop) secure(who int32) {
	c := &l.conns[who]
	c.state = stateSecuring
	if err := l.poller.Modify(int(c.fd), 0, who, c.fd); err != nil {
		l.attemptFailed(who, fmt.Sprintf("watch socket: %v", err))
		return
	}
	s := &socket{fd: int(c.fd), e: l.e, deadline: time.Now().Add(l.e.o.AttemptTimeout)}
	t := &tlsConn{Conn: tls.Client(s, l.e.o.TLS), socket: s}
	l.securing++
	l.e.handshakes.Go(func() {
		l.e.shaking <- struct{}{}
		err := t.HandshakeContext(context.Background()) // The socket has a deadline.
		<-l.e.shaking
		l.post(func(l *loop) { l.secured(who, t, err) })
	})
}

// secured ends the TLS handshake of a client. Meanwhile nothing else touches the client.
func (l *loop) secured(who int32, t *tlsConn, err error) {
	c := &l.conns[who]
	l.securing--
	if err != nil {
		l.attemptFailed(who, "TLS handshake: "+err.Error())
		return
	}
	t.socket.deadline = time.Time{}
	c.tls = t
	l.upgrade(who)
	if c.tls != nil && (c.bad == nil || !c.bad.blind) {
		l.event(who) // What came with the end of the handshake is in t already.
	}
}

// read reads once. The error is one for which again is true when there is no data.
func (l *loop) read(c *conn, b []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Read(b)
	}
	return epoll.Read(int(c.fd), b)
}

// write writes once.
func (l *loop) write(c *conn, b []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Write(b)
	}
	return epoll.Write(int(c.fd), b)
}
