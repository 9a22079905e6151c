// Package origin decides which web pages may connect, by the origin that browsers send (RFC 6454).
//
// Only browsers send it, and only they can be relied on to: it protects their users from pages that would use what
// their browser is allowed to, and says nothing about other clients.
//
// Thread rule: any goroutine may use an Origins, which never changes.
package origin

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// SameHost is the entry that stands for the host that the page connects to, on any port.
const SameHost = "same-host"

// null is the origin of pages that have none of their own, such as files and sandboxed frames.
const null = "null"

const lengthMax = 300 // Of an entry, in bytes.

// Origins is a set of origins.
type Origins struct {
	sameHost bool
	null     bool
	patterns []pattern
}

// pattern is the origins with a scheme, a host and a port, all in lower case.
type pattern struct {
	scheme string
	host   string
	below  bool   // All hosts below host, but not host itself.
	port   string // *: any.
}

// Parse reads a list of entries: same-host, null, or SCHEME://HOST[:PORT]. *. before HOST stands for all names below
// it, * as HOST for all hosts, and * as PORT for any. Without a port it is the scheme's own. The error names the entry.
func Parse(list []string) (*Origins, error) {
	o := new(Origins)
	for _, entry := range list {
		switch entry {
		case SameHost:
			o.sameHost = true
		case null:
			o.null = true
		default:
			p, err := parsePattern(entry)
			if err != nil {
				return nil, fmt.Errorf("%.100q %w", entry, err)
			}
			o.patterns = append(o.patterns, p)
		}
	}
	return o, nil
}

func parsePattern(entry string) (p pattern, err error) {
	if len(entry) > lengthMax {
		return p, fmt.Errorf("has %d bytes; at most %d are allowed", len(entry), lengthMax)
	}
	scheme, host, port, ok := split(entry)
	if !ok {
		return p, errors.New("is not an origin: write such as https://app.example, https://*.example or " +
			"http://localhost:*, " + SameHost + " or " + null)
	}
	p = pattern{scheme: scheme, host: host, port: port}
	if host == "*" {
		p.host, p.below = "", true
	} else if below, ok := strings.CutPrefix(host, "*."); ok {
		if below == "" { // Which would be all hosts.
			return p, errors.New("names no host after *. (https://* stands for all hosts)")
		}
		p.host, p.below = below, true
	}
	if strings.Contains(p.host, "*") {
		return p, errors.New("has a * that is not the first part of its host")
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && port != "*" && (err != nil || n == 0) {
		return p, fmt.Errorf("has the port %q; write a number from 1 to 65535, or * for any", port)
	}
	return p, nil
}

// defaultPorts are the ports that origins leave out.
var defaultPorts = map[string]string{"http": "80", "https": "443"}

// split splits an origin into its parts, in lower case. The port is that of the scheme if there is none.
func split(origin string) (scheme, host, port string, ok bool) {
	origin = strings.ToLower(origin)
	scheme, rest, found := strings.Cut(origin, "://")
	host, port = splitHost(rest)
	if !found || scheme == "" || host == "" || strings.ContainsAny(rest, "/?#@\\ \t,\"") {
		return "", "", "", false
	}
	if port == "" {
		port = defaultPorts[scheme]
	}
	return scheme, host, port, true
}

// splitHost splits a host and a port, which may be missing. An IPv6 address has brackets.
func splitHost(text string) (host, port string) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 || strings.HasSuffix(text, "]") {
		return text, ""
	}
	return text[:colon], text[colon+1:]
}

// Allows reports whether a page of an origin may connect to a host, which may have a port, as the request names both.
func (o *Origins) Allows(origin, host string) bool {
	if origin == null {
		return o.null
	}
	scheme, name, port, ok := split(origin)
	if !ok {
		return false
	}
	if o.sameHost {
		if own, _ := splitHost(strings.ToLower(host)); name == own {
			return true
		}
	}
	return slices.ContainsFunc(o.patterns, func(p pattern) bool {
		if p.scheme != scheme || p.port != "*" && p.port != port {
			return false
		}
		if !p.below {
			return p.host == name
		}
		return p.host == "" || strings.HasSuffix(name, "."+p.host)
	})
}
