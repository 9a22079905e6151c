package shard

import (
	"errors"
	"fmt"
	"net/netip"

	"wsd/internal/forwarded"
	"wsd/internal/shrink"
	"wsd/internal/wire"
)

// Proxies says which peers are proxies, and how they name their clients. Nobody else may name one. It is shared by all
// shards and must not change.
type Proxies struct {
	// Protocol are the addresses whose connections begin with a PROXY header. Those without one are refused.
	Protocol *forwarded.Prefixes
	// Trusted are the addresses that name their clients in Field of an upgrade request. A client that a PROXY header
	// names may be one of them.
	Trusted *forwarded.Prefixes
	Field   forwarded.Field
}

// A connection from an address in Proxies.Protocol begins in stateProxy, before all other states. The header is read
// from what the loop has read anyway, however it is split; handshake_timeout runs from accept, as without a proxy.

// proxied are the connections of a shard whose peers are proxies. It belongs to the shard's goroutine.
type proxied struct {
	opts   *Options
	bySlot map[uint32]proxiedConn // Of connections with knownProxied.
	peak   int                    // See shrink.Map.
}

// proxiedConn is one connection whose peer is a proxy.
type proxiedConn struct {
	client netip.AddrPort // Not valid: not known, or nobody's but the proxy's.
	reads  bool           // Proxies.Field is to be read.
}

// begin looks at a connection that was accepted, and reports whether it must begin with a PROXY header.
func (p *proxied) begin(c *conn) (header bool) {
	o := &p.opts.Proxies
	if o.Protocol == nil && o.Trusted == nil {
		return false
	}
	peer := c.peer().Addr()
	switch {
	case o.Protocol.Contain(peer):
		p.set(c, proxiedConn{})
		return true
	case o.Trusted.Contain(peer):
		p.set(c, proxiedConn{reads: true})
	}
	return false
}

func (p *proxied) set(c *conn, pc proxiedConn) {
	if p.bySlot == nil {
		p.bySlot = make(map[uint32]proxiedConn)
	}
	c.known |= knownProxied
	p.bySlot[c.slot] = pc
}

// forget drops what is known of c, as it ends.
func (p *proxied) forget(c *conn) {
	if c.known&knownProxied == 0 {
		return
	}
	p.peak = max(p.peak, len(p.bySlot))
	delete(p.bySlot, c.slot)
	shrink.Map(&p.bySlot, &p.peak, shrinkFrom)
	c.known &^= knownProxied
}

// client returns the address of c's client for the log, which is the proxy's where the client's is not known.
func (p *proxied) client(c *conn) netip.AddrPort {
	if c.known&knownProxied != 0 {
		if pc := p.bySlot[c.slot]; pc.client.IsValid() {
			return pc.client
		}
	}
	return c.peer()
}

// network returns what limits per client address go by, see networkOf. It is not valid, so that no such limit applies,
// if the client has gone, or is behind a proxy that has not named it: all the proxy's clients would share one limit.
func (p *proxied) network(c *conn) netip.Addr {
	if c.known&knownProxied != 0 {
		return networkOf(p.bySlot[c.slot].client.Addr())
	}
	return networkOf(c.peer().Addr())
}

// readProxy reads the PROXY header at the start of b, and returns what follows it, or nil while it is incomplete and
// after it was refused.
func (s *Shard) readProxy(c *conn, b []byte) []byte {
	client, length, err := forwarded.ReadHeader(b)
	switch {
	case err != nil:
		s.refuseProxied(c, b, err)
		return nil
	case length == 0:
		s.inbound.keep(c, b)
		return nil
	}
	s.inbound.drop(c)
	pc := proxiedConn{client: client}
	if s.opts.Proxies.Trusted.Contain(client.Addr()) {
		pc = proxiedConn{reads: true}
	}
	s.proxied.set(c, pc)
	c.state = stateHead
	if s.opts.TLS.speaks(int(c.listener)) {
		c.state = stateTLS
	}
	if c != s.accepting.opening && !s.countHandshake(c) {
		return nil
	}
	return b[length:]
}

// refuseProxied ends a connection that lacks its PROXY header, or has a malformed one. It says why where its peer may
// understand that: the proxy, or a client that speaks HTTP.
func (s *Shard) refuseProxied(c *conn, b []byte, err error) {
	peer := c.peer().Addr()
	what := fmt.Sprintf("The address %v is in client.proxy_protocol, so its connections must begin with a header of "+
		"the PROXY protocol, version 1 or 2, but this one has %v. Turn the header on in the proxy (send-proxy), or "+
		"remove the address.", peer, err)
	if !errors.Is(err, forwarded.ErrNoHeader) {
		what = fmt.Sprintf("The connection from the proxy %v is refused (client.proxy_protocol): %v.", peer, err)
	}
	if s.opts.Quotas.proxyRefused.Allows() {
		s.opts.Logger.Warn("a connection of a proxy is refused", "peer", peer, "error", err, "shard", s.opts.ID,
			"option", "client.proxy_protocol",
			"metric", "wsd_handshakes_rejected_total counts each time; this line comes once a minute at most")
	}
	r := &wire.Reject{Cause: wire.CauseProxyProtocol, Status: 400, Body: what}
	s.inbound.drop(c)
	if s.opts.TLS.speaks(int(c.listener)) && len(b) > 0 && b[0] == recordType {
		s.countRefusal(c, r)
		s.peerClosed(c, ReasonHandshakeRejected)
		return
	}
	s.refuseRequest(c, r, ReasonHandshakeRejected)
}

// nameClient has the request of a trusted proxy say who its client is.
func (s *Shard) nameClient(c *conn, r *wire.Request, head []byte) error {
	if c.known&knownProxied == 0 {
		return nil
	}
	pc := s.proxied.bySlot[c.slot]
	if !pc.reads {
		return nil
	}
	field := s.opts.Proxies.Field
	lines := wire.FieldValues(head, field.Name())
	client, err := field.Client(lines, s.opts.Proxies.Trusted)
	if err != nil {
		return &wire.Reject{Cause: causeForwarded, Status: 400, Body: fmt.Sprintf("The field %s of a proxy in "+
			"client.trusted_proxies %v: the proxy must append the address of its client.", field.Name(), err)}
	}
	if len(lines) == 0 && r.Upgrade && s.opts.Quotas.proxyUnnamed.Allows() {
		s.opts.Logger.Warn("a trusted proxy does not name its client: limits per address do not apply to it", "peer",
			c.peer().Addr(), "field", field.Name(), "remedy", "have the proxy set the field, choose the other one by "+
				"client.trusted_header, or remove the proxy from client.trusted_proxies", "shard", s.opts.ID,
			"note", "this line comes once a minute at most")
	}
	pc.client = client
	s.proxied.bySlot[c.slot] = pc
	return nil
}
