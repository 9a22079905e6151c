package server

import (
	"wsd/internal/config"
	"wsd/internal/forwarded"
	"wsd/internal/shard"
)

// proxies returns which peers of the client port are proxies.
func (s *Server) proxies() shard.Proxies {
	c := &s.cfg.Client
	protocol, trusted := c.ProxyPrefixes()
	p := shard.Proxies{Protocol: forwarded.NewPrefixes(protocol), Trusted: forwarded.NewPrefixes(trusted)}
	if c.TrustedHeader == config.HeaderForwarded {
		p.Field = forwarded.Forwarded
	}
	return p
}
