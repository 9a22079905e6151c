package shard

import (
	"wsd/internal/epoll"
)

// A connection whose token is being verified is held: what it sent after that, and what it sends meanwhile, waits in
// its buffer and its socket, as the answer decides what becomes of it. So a connection has one token under way at most,
// and what it sends is acted on in order (invariant 23).

// verify has a token of c verified and then calls decided on the loop, unless c has ended. Without room for the work,
// it says so to decided at once. It returns whether c is held.
func (s *Shard) verify(c *conn, purpose TokenPurpose, token string, decided func(c *conn, a TokenAnswer)) (held bool) {
	work := s.inbox.begin(c)
	if work == nil {
		decided(c, TokenAnswer{Result: TokenLater})
		return false
	}
	s.hold(c)
	s.opts.Auth.Authority.Verify(purpose, token, s.proxied.network(c), func(a TokenAnswer) {
		work.post(0, false, func(c *conn, _ bool) {
			if s.unhold(c); c.state == stateFree {
				return
			}
			decided(c, a)
			s.goOnHeld(c)
		})
	})
	return true
}

// hold stops reading from c. Nothing is changed in the poller unless c sends something meanwhile, see readable.
func (*Shard) hold(c *conn) { c.input = inputHeld }

// unhold has c read from again.
func (s *Shard) unhold(c *conn) {
	s.inbound.release(c)
	c.input = inputNone
	if c.isClient() && c.pings > 0 {
		s.pings.await(c) // Its pong may be in its socket, behind what was not read meanwhile.
	}
	if c.state != stateFree && c.fd >= 0 {
		s.watch(c)
	}
}

// goOnHeld has what c sent before it was held acted on, with the next turn's work. The request of a raw client is
// looked at again.
func (s *Shard) goOnHeld(c *conn) {
	switch {
	case c.input != inputNone, !c.isClient() && c.state != stateHead:
	case c.in != nil:
		s.work.wait(c, inputBuffer)
	default:
		s.afterRead(c)
	}
}

// broken reports whether an event says that the connection cannot go on, and does nothing else for one that is held.
func broken(c *conn, events uint32) bool { return c.input == inputHeld && events&epoll.Broken != 0 }
