package shard

import (
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
)

const (
	// acceptsPerTurn bounds the connections taken from one listener in a turn; the rest wait in the backlog.
	acceptsPerTurn = 64
	// longTurn is how long a turn must be for the next to accept as many as may be.
	longTurn = 250 * time.Microsecond
	// acceptPause is how long a shard without free descriptors stops accepting. Waiting connections stay in the backlog.
	acceptPause = 100 * time.Millisecond
)

// acceptReady takes connections from the listener with the given index, which epoll says has one.
//
// It takes one and does not ask for more: accept4 makes a file before it looks at the queue, so that to be told that nobody waits costs
// half an accept (3.5 µs; another look by epoll 0.2), and mostly nobody does. Whoever does wait is seen by the next turn. Only where turns are
// long, or epoll has more than it can tell at once (full), would that take too long.
func (s *Shard) acceptReady(index int, full bool) {
	most := 1
	if full || s.stats.TurnLastNanos.Load() >= uint64(longTurn) {
		most = acceptsPerTurn
	}
	s.accept(index, most)
}

// accept takes at most so many connections from the listener with the given index.
func (s *Shard) accept(index, most int) {
	for range most {
		if s.descriptors.full() {
			s.pauseAccepting(errDescriptorsKept)
			return
		}
		fd, err := epoll.Accept(s.listeners[index])
		switch err {
		case nil:
			s.open(fd)
		case unix.EAGAIN:
			return
		case unix.ECONNABORTED, unix.EINTR, unix.EPROTO, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.ENETUNREACH:
			// The client is gone already (accept(2) passes on errors of the new socket): taken from the queue, and closed.
			s.acceptedInTurn++
			s.closedInTurn++
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			s.pauseAccepting(err)
			return
		default:
			s.pauseAccepting(err)
			return
		}
	}
}

// open makes a connection of an accepted descriptor, and takes what it has sent.
func (s *Shard) open(fd int) {
	s.stats.Accepted.Add(1)
	s.acceptedInTurn++
	c := s.slab.take()
	if c == nil {
		epoll.Reset(fd)
		s.closedInTurn++
		s.stats.Closed[ReasonInternal].Add(1)
		return
	}
	c.fd, c.state = int32(fd), stateHead
	s.stats.Connections.Add(1)
	s.descriptors.open.Add(1)
	c.deadline = s.tick + ticks(s.limits.HandshakeTimeout)
	// Mostly the request came with the connection (listen.Options.DeferAccept). Read before the socket is watched, it makes no event.
	s.readable(c)
	if c.state == stateFree {
		return
	}
	if err := s.poller.Add(fd, epoll.Readable, int32(c.slot), int32(c.generation)); err != nil {
		s.logger.Warn("watch accepted connection", "error", err)
		c.reason = ReasonInternal
		s.abort(c)
		return
	}
	s.rearm(c)
}

// pauseAccepting stops watching the listeners for a while, so that a listener which stays readable does not make the loop spin.
func (s *Shard) pauseAccepting(cause error) {
	s.stats.AcceptErrors.Add(1)
	s.acceptAgainAt = s.tick + ticks(acceptPause)
	if s.stats.PauseAccepts.Swap(1) == 0 {
		s.logger.Warn("accepting paused: the process has no free descriptor or memory; clients wait in the backlog",
			"error", cause, "connections", s.stats.Connections.Load(), "remedy", "raise the limit of open files (nofile)")
	}
	s.watchListeners(0)
}

// resumeAccepting ends a pause. The log has both edges: the pause counts as over when a connection could be accepted again.
func (s *Shard) resumeAccepting() {
	s.acceptAgainAt = 0
	if s.stopAccepting {
		return
	}
	if s.descriptors.full() {
		s.pauseAccepting(errDescriptorsKept)
		return
	}
	s.watchListeners(epoll.Readable)
	fd, err := epoll.Accept(s.listeners[0])
	if err == nil {
		s.open(fd)
		s.endDoomed()
	}
	if err == nil || err == unix.EAGAIN {
		// EAGAIN alone does not prove a free descriptor: the kernel looks for one before it looks at the queue.
		s.stats.PauseAccepts.Store(0)
		s.logger.Info("accepting resumed", "connections", s.stats.Connections.Load())
		return
	}
	s.pauseAccepting(err)
}

func (s *Shard) watchListeners(ready uint32) {
	for i, fd := range s.listeners {
		if err := s.poller.Modify(fd, ready, listenerKey(i), 0); err != nil {
			s.logger.Error("BUG: watch listener", "error", err)
		}
	}
}

// closeListeners accepts what the kernel has already queued and closes the listeners: connections left in a queue would be reset
// unless another shard still listens, as those are that it holds back until their client says something. None of those it takes
// becomes a client (decide), so nobody is doomed here.
func (s *Shard) closeListeners() {
	if s.stopAccepting {
		return
	}
	s.stopAccepting = true
	for i := range s.listeners {
		s.accept(i, closeAcceptsMax)
	}
	for _, fd := range s.listeners {
		epoll.Close(fd)
	}
	s.listeners = nil
	s.acceptAgainAt = 0
	s.stats.PauseAccepts.Store(0)
}

// closeAcceptsMax bounds what closeListeners takes from one queue.
const closeAcceptsMax = 65536

// listenerKey is the epoll key of the listener with the given index; connections have keys from 0 up.
func listenerKey(index int) int32 { return -1 - int32(index) }
