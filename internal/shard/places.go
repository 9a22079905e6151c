package shard

import (
	"net/netip"
	"time"

	"wsd/internal/wire"
)

// places are what connections take of the quotas, and when they are to end, by slot. They stand beside the
// connections, and only where a quota needs them, because hardly anybody sets one.
type places struct {
	needed    bool
	age, idle uint32 // Of QuotaAge and QuotaIdle, in ticks; 0: none.
	list      []taken
}

// taken is what one connection takes of the quotas.
type taken struct {
	address    netip.Addr // Of which it counts as a connection or a handshake; not valid: of none.
	upgraded   bool       // It counts as a connection of its address, not as a handshake.
	connection bool       // It counts in Quotas.connections.
	endsAt     uint32     // Tick at which it is too old; 0: never.
	idleAt     uint32     // Tick at which it is idle for too long, unless it subscribes; 0: never.
}

func newPlaces(q *Quotas) (p places) {
	for _, quota := range []Quota{
		QuotaConnections, QuotaAddressConnections, QuotaAddressHandshakes, QuotaAge, QuotaIdle,
	} {
		p.needed = p.needed || q.Limits[quota].Max > 0
	}
	if most := q.Limits[QuotaAge].Max; most > 0 {
		p.age = ticks(time.Duration(most))
	}
	if most := q.Limits[QuotaIdle].Max; most > 0 {
		p.idle = ticks(time.Duration(most))
	}
	return p
}

// of returns what the connection in a slot takes.
func (p *places) of(slot uint32) *taken {
	if int(slot) >= len(p.list) {
		p.list = append(p.list, make([]taken, (int(slot)|(blockSlots-1))+1-len(p.list))...)
	}
	return &p.list[slot]
}

// leavePlace gives back what c took, when its socket is closed.
func (s *Shard) leavePlace(c *conn) {
	if !s.places.needed {
		return
	}
	p := s.places.of(c.slot)
	if p.connection {
		s.opts.Quotas.connections.Add(-1)
	}
	if p.address.IsValid() {
		s.leaveAddress(p)
	}
	*p = taken{}
}

// leaveAddress takes a connection off the counts of its address.
func (s *Shard) leaveAddress(p *taken) {
	if p.upgraded {
		s.opts.Quotas.addresses.change(p.address, -1, 0)
	} else {
		s.opts.Quotas.addresses.change(p.address, 0, -1)
	}
	p.address, p.upgraded = netip.Addr{}, false
}

// beginHandshake counts c, whose upgrade request is not complete, and reports whether there is room for it. If not, c
// has its response and is closed: what is refused must not hold its socket as long as what is not. What c has sent has
// been read, so the kernel does not reset the connection before the response.
func (s *Shard) beginHandshake(c *conn) bool {
	q := s.opts.Quotas
	limit := q.Limits[QuotaHandshakes].Max
	if n := q.handshakes.Add(1); limit > 0 && n > limit && s.exceeded(QuotaHandshakes) {
		s.refuseHandshake(c, QuotaHandshakes)
		return false
	}
	return s.countHandshake(c)
}

// countHandshake is the part of beginHandshake that counts c for its address, which a PROXY header may name later.
func (s *Shard) countHandshake(c *conn) bool {
	q := s.opts.Quotas
	perAddress := q.Limits[QuotaAddressHandshakes].Max
	if perAddress == 0 {
		return true
	}
	address := s.proxied.network(c)
	if !address.IsValid() {
		return true
	}
	s.places.of(c.slot).address = address
	n := q.addresses.change(address, 0, 1).handshakes
	if int64(n) > perAddress && s.exceeded(QuotaAddressHandshakes) {
		s.refuseHandshake(c, QuotaAddressHandshakes)
		return false
	}
	return true
}

// refuseHandshake ends c, for whose upgrade request there is no room.
func (s *Shard) refuseHandshake(c *conn, exceeded Quota) {
	r := rejectOver(exceeded)
	s.countRefusal(c, r)
	// Before the TLS handshake there is no way to say why.
	if c.state == stateHead || c.state == stateProxy && !s.opts.TLS.speaks(int(c.listener)) {
		// It fits the empty buffer of a new socket, or the client has gone.
		_, _ = c.write(&s.secured, wire.AppendReject(nil, r))
	}
	c.reason = ReasonHandshakeRejected
	s.finish(c)
}

// endHandshake notes that c's upgrade request is complete, or that none is waited for any longer. It does nothing for a
// connection that is being opened: most have sent their request and never count.
func (s *Shard) endHandshake(c *conn) {
	if !c.isComing() || c == s.accepting.opening {
		return
	}
	s.opts.Quotas.handshakes.Add(-1)
	if !s.places.needed {
		return
	}
	if p := s.places.of(c.slot); p.address.IsValid() && !p.upgraded {
		s.leaveAddress(p)
	}
}

// takePlace counts c as an upgraded connection, or returns the response to its request if there is no room for it.
func (s *Shard) takePlace(c *conn) *wire.Reject {
	if !s.places.needed {
		return nil
	}
	q := s.opts.Quotas
	p := s.places.of(c.slot)
	if limit := q.Limits[QuotaConnections].Max; limit > 0 {
		if n := q.connections.Add(1); n > limit && s.exceeded(QuotaConnections) {
			q.connections.Add(-1)
			return rejectOver(QuotaConnections)
		}
		p.connection = true
	}
	limit := q.Limits[QuotaAddressConnections].Max
	if limit == 0 {
		return nil
	}
	if p.address.IsValid() {
		s.leaveAddress(p) // It counted as a handshake.
	}
	address := s.proxied.network(c)
	if !address.IsValid() { // It has gone, or is not known.
		return nil
	}
	if n := q.addresses.change(address, 1, 0).connections; int64(n) > limit && s.exceeded(QuotaAddressConnections) {
		q.addresses.change(address, -1, 0)
		return rejectOver(QuotaAddressConnections)
	}
	p.address, p.upgraded = address, true
	return nil
}
