package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wsd/internal/origin"
)

// Edge is what is in front of the client port: proxies and web pages.
type Edge struct {
	ProxyProtocol  []string `key:"proxy_protocol" help:"Addresses and prefixes of proxies whose connections begin with a header of the PROXY protocol, version 1 or 2, before HTTP and TLS (send-proxy of HAProxy, proxy_protocol of nginx). It names the client, whose address limits and the log then use. They are exempt from steering.limits.source_rate. A connection of theirs without a header is refused. From others such a header is an error."`
	TrustedProxies []string `key:"trusted_proxies" help:"Addresses and prefixes of proxies that name their client in the field trusted_header of the upgrade request, in which each proxy appends an address: the last one that is not of these prefixes is the client's. They are exempt from steering.limits.source_rate. From others the field is not read."`
	TrustedHeader  string   `key:"trusted_header" def:"x-forwarded-for" help:"x-forwarded-for or forwarded (RFC 7239): the field that trusted_proxies write. They pass on the other one as the client sent it, so it is not read."`
	Origins        []string `key:"origins" help:"Origins of web pages that may connect, as SCHEME://HOST[:PORT], such as https://app.example, https://*.example (all names below it) or http://localhost:*; null for pages without one; same-host for pages of the host that they connect to, on any port. Others get status 403. Clients that are not browsers send no origin, and are not asked for one. Default: all."`
}

// The values of TrustedHeader.
const (
	HeaderXForwardedFor = "x-forwarded-for"
	HeaderForwarded     = "forwarded"
)

// ProxyPrefixes returns ProxyProtocol and TrustedProxies as prefixes. It panics on an entry that Load refuses.
func (e *Edge) ProxyPrefixes() (protocol, trusted []netip.Prefix) {
	return mustPrefixes("client.proxy_protocol", e.ProxyProtocol),
		mustPrefixes("client.trusted_proxies", e.TrustedProxies)
}

// AllowsOrigin returns a function that reports whether Origins allow a page of an origin to connect to a host; nil if
// all may. It panics on an entry that Load refuses.
func (e *Edge) AllowsOrigin() func(origin, host string) bool {
	if len(e.Origins) == 0 {
		return nil
	}
	o, err := origin.Parse(e.Origins)
	if err != nil {
		panic(fmt.Sprintf("BUG: client.origins passed the checks: %v", err))
	}
	return o.Allows
}

// Exempt returns the prefixes that no limit per source applies to in the kernel: those that are configured, and those
// of proxies. Each is there once.
func (c *Config) Exempt() []netip.Prefix {
	protocol, trusted := c.Client.ProxyPrefixes()
	all := slices.Concat(c.Steering.Limits.ExemptPrefixes(), protocol, trusted)
	seen := make(map[netip.Prefix]bool, len(all))
	return slices.DeleteFunc(all, func(p netip.Prefix) bool {
		known := seen[p]
		seen[p] = true
		return known
	})
}

func mustPrefixes(key string, texts []string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		p, problem := parsePrefix(text)
		if problem != "" {
			panic(fmt.Sprintf("BUG: %s %q passed the checks", key, text))
		}
		list = append(list, p)
	}
	return list
}

func (l *loader) checkEdge(c *Config) {
	e := &c.Client.Edge
	good := l.checkPrefixes("steering.limits.source_exempt", c.Steering.Limits.SourceExempt)
	for key, texts := range map[string][]string{
		"client.proxy_protocol": e.ProxyProtocol, "client.trusted_proxies": e.TrustedProxies,
	} {
		good = l.checkPrefixes(key, texts) && good
		for _, text := range texts {
			if p, problem := parsePrefix(text); problem == "" && p.Bits() == 0 {
				l.warn(key, text, "everyone who reaches the client port can pretend to have any address",
					"name the addresses of your proxies")
			}
		}
	}
	if good {
		if n := len(c.Exempt()); n > exemptMax {
			l.complain("client.trusted_proxies", "", fmt.Sprintf("with client.proxy_protocol and "+
				"steering.limits.source_exempt these are %d prefixes; the maximum is %d", n, exemptMax),
				"merge some into shorter prefixes")
		}
	}
	if e.TrustedHeader != HeaderXForwardedFor && e.TrustedHeader != HeaderForwarded {
		l.complain("client.trusted_header", e.TrustedHeader, "must be "+HeaderXForwardedFor+" or "+HeaderForwarded, "")
	}
	l.unique("client.origins", e.Origins)
	if _, err := origin.Parse(e.Origins); err != nil {
		l.complain("client.origins", strings.Join(e.Origins, ","), err.Error(), "")
	}
}
