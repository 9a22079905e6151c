package shard

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
)

const (
	// acceptsPerTurn bounds the connections taken from one listener in a turn; the rest wait in the backlog.
	acceptsPerTurn = 64
	// longTurn is how long a turn must take for the next one to accept acceptsPerTurn connections.
	longTurn = 250 * time.Microsecond
	// acceptPause is how long a shard without free descriptors stops accepting. Waiting connections stay in the
	// backlog.
	acceptPause = 100 * time.Millisecond
)

// accepting is what a shard knows of its listeners. A pause has both edges in the log.
type accepting struct {
	listeners []int
	stopped   bool        // The listeners are closed.
	opening   *conn       // Being read from for the first time; nil: none.
	paused    atomic.Bool // The process has no descriptor to spare; clients wait in the backlog.
	resumeAt  uint32      // Tick at which accepting is tried again; 0: the listeners are watched.

	// For the load reporter, in this turn.
	accepted, closed uint64
	before           bool // The turn before has accepted a connection.
}

// acceptReady takes connections from the listener with the given index, which epoll says has one.
//
// It takes one and does not ask for more: accept4 makes a file before it looks at the queue, so the answer that
// nobody waits costs half an accept (3.5 µs; another look by epoll 0.2), and mostly nobody does. A client that does
// wait is seen by the next turn. Only after a long turn, or where epoll has more events than it can report at once
// (full), would that take too long.
func (s *Shard) acceptReady(index int, full bool) {
	acceptsMax := 1
	if full || s.lastTurn >= uint64(longTurn) {
		acceptsMax = acceptsPerTurn
	}
	s.accept(index, acceptsMax)
}

// accept takes at most acceptsMax connections from the listener with the given index.
func (s *Shard) accept(index, acceptsMax int) {
	for range acceptsMax {
		if s.opts.Descriptors.full() {
			s.pauseAccepting(errDescriptorsKept)
			return
		}
		fd, err := epoll.Accept(s.accepting.listeners[index])
		switch err {
		case nil:
			if !s.open(fd, index) {
				return
			}
		case unix.EAGAIN:
			return
		case unix.ECONNABORTED, unix.EINTR, unix.EPROTO, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET,
			unix.EHOSTUNREACH, unix.ENETUNREACH:
			// The client is gone already (accept(2) passes on errors of the new socket): taken from the queue, and
			// closed.
			s.accepting.accepted++
			s.accepting.closed++
		default: // Mostly EMFILE, ENFILE, ENOBUFS or ENOMEM.
			s.pauseAccepting(err)
			return
		}
	}
}

// open makes a connection of a descriptor that a listener has accepted, and reads what it has sent. It returns false if
// the kernel would not watch the connection, and has paused accepting then: the next ones would end like this one.
func (s *Shard) open(fd, listener int) bool {
	s.stats.Accepted.Add(1)
	s.accepting.accepted++
	if !s.admits(AnswerReset) {
		s.turnAway(fd, ReasonAdmission)
		return true
	}
	c := s.slab.take()
	if c == nil {
		s.turnAway(fd, ReasonInternal)
		return true
	}
	c.fd, c.listener = int32(fd), uint8(listener)
	c.state = stateHead
	if s.opts.TLS.speaks(listener) {
		c.state = stateTLS
	}
	if s.proxied.begin(c) {
		c.state = stateProxy
	}
	c.whole = s.allowanceNow()
	s.countConnections(1)
	s.beginAge(c)
	c.deadline = s.tick + ticks(s.opts.Limits.HandshakeTimeout)
	s.doing.on(c)
	// Mostly the request came with the connection (listen.Options.DeferAccept). Read before the socket is watched, it
	// causes no event.
	s.accepting.opening = c
	s.readable(c)
	s.accepting.opening = nil
	if c.state == stateFree || c.isComing() && !s.beginHandshake(c) {
		return true
	}
	if err := s.poller.Add(fd, epoll.Readable, int32(c.slot), int32(c.generation)); err != nil {
		c.reason = ReasonInternal
		s.abort(c)
		s.pauseAccepting(fmt.Errorf("watch an accepted connection: %w", err))
		return false
	}
	s.wheel.rearm(c)
	s.blockIfHeld(c)
	return true
}

// turnAway resets an accepted descriptor that does not become a connection.
func (s *Shard) turnAway(fd int, reason Reason) {
	epoll.Reset(fd)
	s.accepting.closed++
	s.stats.Closed[reason].Add(1)
}

// pauseAccepting stops watching the listeners for a while, so that one which stays readable does not make the loop
// spin.
func (s *Shard) pauseAccepting(cause error) {
	s.stats.AcceptErrors.Add(1)
	s.accepting.resumeAt = s.tick + ticks(acceptPause)
	if !s.accepting.paused.Load() {
		s.accepting.setPaused(true, s.stats)
		s.opts.Logger.Warn("not accepting: out of file descriptors or memory; clients wait in the backlog",
			"shard", s.opts.ID, "connections", s.connections, "error", cause,
			"remedy", acceptRemedy(cause))
	}
	s.watchListeners(0)
}

// acceptRemedy says what helps when a shard cannot accept.
func acceptRemedy(cause error) string {
	switch {
	case errors.Is(cause, unix.ENOSPC):
		return "raise the sysctl fs.epoll.max_user_watches"
	case errors.Is(cause, unix.ENOMEM), errors.Is(cause, unix.ENOBUFS):
		return "give the machine or the container more memory, or lower limits.connections"
	}
	return "raise the limit of open files (nofile)"
}

// resumeAccepting ends a pause. The log has both edges: the pause counts as over when a connection could be accepted
// again.
func (s *Shard) resumeAccepting() {
	s.accepting.resumeAt = 0
	if s.accepting.stopped {
		return
	}
	if s.opts.Descriptors.full() {
		s.pauseAccepting(errDescriptorsKept)
		return
	}
	s.watchListeners(epoll.Readable)
	fd, err := epoll.Accept(s.accepting.listeners[0])
	if err == nil && !s.open(fd, 0) {
		return
	}
	if err == nil || err == unix.EAGAIN {
		// EAGAIN alone does not prove a free descriptor: the kernel looks for one before it looks at the queue.
		s.accepting.setPaused(false, s.stats)
		s.opts.Logger.Info("accepting resumed", "connections", s.connections)
		return
	}
	s.pauseAccepting(err)
}

func (a *accepting) setPaused(paused bool, st *Stats) {
	a.paused.Store(paused)
	gauge := int64(0)
	if paused {
		gauge = 1
	}
	st.PauseAccepts.Store(gauge)
}

// AcceptingPaused reports whether the shard accepts nobody for want of descriptors or memory. Any goroutine.
func (s *Shard) AcceptingPaused() bool { return s.accepting.paused.Load() }

func (s *Shard) watchListeners(ready uint32) {
	for i, fd := range s.accepting.listeners {
		if err := s.poller.Modify(fd, ready, listenerKey(i), 0); err != nil {
			s.opts.Logger.Error("BUG: watch listener", "error", err)
		}
	}
}

// closeListeners accepts what the kernel has already queued and closes the listeners: connections left in a queue
// would be reset unless another shard still listens, as are those that the kernel holds back until their client says
// something. None of those it accepts becomes a client, see decide.
func (s *Shard) closeListeners() {
	if s.accepting.stopped {
		return
	}
	s.accepting.stopped = true
	for i := range s.accepting.listeners {
		s.accept(i, closeAcceptsMax)
	}
	for _, fd := range s.accepting.listeners {
		epoll.Close(fd)
	}
	s.accepting.listeners = nil
	s.accepting.resumeAt = 0
	s.accepting.setPaused(false, s.stats)
}

// closeAcceptsMax bounds what closeListeners takes from one queue.
const closeAcceptsMax = 65536

// listenerKey is the epoll key of the listener with the given index; connections have keys from 0 up.
func listenerKey(index int) int32 { return -1 - int32(index) }
