package shard

import "wsd/internal/routing"

// isMember reports whether the client gets messages: it has said whatever it must say first.
func (c *conn) isMember() bool { return c.state == stateRaw || c.state == stateJoined }

// countClients counts n more clients, or fewer. While there are any, messages for everybody are for this shard, too.
func (s *Shard) countClients(n int64) {
	switch s.stats.Clients.Add(n) {
	case 0:
		s.interest.Remove(routing.Everybody, s.id)
		delete(s.channelByID, s.everybody)
	case n: // There were none.
		s.everybody = s.interest.Add(routing.Everybody, s.id, 0)
		s.channelByID[s.everybody] = toEverybody
	}
}

// setUser makes c a connection of the user, before its first subscription: messages for the user reach it from now on, as if it had
// subscribed to a channel of a name that no client can name.
func (s *Shard) setUser(c *conn, user string) {
	s.subscribe(c, string(routing.AppendUser(nil, []byte(user))))
	c.user = true
}

// firstChannel returns the index in c.subs of the first channel that the client subscribed to.
func (c *conn) firstChannel() int {
	if c.user {
		return 1
	}
	return 0
}
