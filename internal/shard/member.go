package shard

import "wsd/internal/routing"

// isMember reports whether the client gets messages: it has said whatever it must say first.
func (c *conn) isMember() bool { return c.state == stateJoined }

// countClients counts n more clients, or fewer. While there are any, messages for everybody are for this shard, too.
func (s *Shard) countClients(n int) {
	s.clients += n
	s.stats.Clients.Store(int64(s.clients))
	switch s.clients {
	case 0:
		s.opts.Interest.Remove(routing.Everybody, s.opts.ID)
		s.channels.setEverybody(0)
	case n: // There were none.
		s.channels.setEverybody(s.opts.Interest.Add(routing.Everybody, s.opts.ID, 0))
	}
}

// setUser makes c a connection of the user. From now on messages for the user reach it, as if it had subscribed to a
// channel whose name no client can use.
func (s *Shard) setUser(c *conn, user string) {
	s.channels.subscribe(c, string(routing.AppendUser(nil, []byte(user))))
	s.channels.swap(c, 0, len(c.subs)-1)
	c.known |= knownUser
}

// firstChannel returns the index in c.subs of the first channel that the client subscribed to.
func (c *conn) firstChannel() int {
	if c.known&knownUser != 0 {
		return 1
	}
	return 0
}
