package forwarded

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Field is the HTTP field in which proxies name their clients.
type Field uint8

// The fields. A proxy that writes one of them passes on the other as the client sent it, so only one can be believed.
const (
	XForwardedFor Field = iota // X-Forwarded-For: a list of addresses.
	Forwarded                  // Forwarded (RFC 7239).
)

// Name returns the name of the field in lower case.
func (f Field) Name() string {
	if f == Forwarded {
		return "forwarded"
	}
	return "x-forwarded-for"
}

const (
	// FieldMax is the size in bytes of the longest field that is read, all its lines together.
	FieldMax = 8 << 10
	// hopsMax bounds the proxies in a row.
	hopsMax = 32
)

// Client returns the address of the client from the lines of a field, in their order, that came from a trusted proxy.
// Each proxy appends the address of its own client, so Client goes through them from right to left and returns the
// first one that is not trusted: whatever stands before it was written by someone unknown. If all are trusted, it
// returns the first of all. The port is 0 if none was given.
//
// The address is not valid, without an error, if there is no line or a trusted proxy says that it does not know its
// client or hides it (RFC 7239 §6.2, §6.3). An error says what is malformed, without its value.
func (f Field) Client(lines []string, trusted *Prefixes) (client netip.AddrPort, err error) {
	total := 0
	for _, line := range lines {
		total += len(line)
	}
	if total > FieldMax {
		return client, fmt.Errorf("has %d bytes, at most %d are allowed", total, FieldMax)
	}
	hops := 0
	for _, line := range slices.Backward(lines) {
		nodes, err := f.nodes(line)
		if err != nil {
			return netip.AddrPort{}, err
		}
		for _, node := range slices.Backward(nodes) {
			if hops++; hops > hopsMax {
				return netip.AddrPort{}, fmt.Errorf("names more than %d proxies", hopsMax)
			}
			address, err := parseNode(node)
			if err != nil || !address.IsValid() {
				return netip.AddrPort{}, err
			}
			if client = address; !trusted.Contain(client.Addr()) {
				return client, nil
			}
		}
	}
	return client, nil
}

// nodes returns who the elements of a line name, in order.
func (f Field) nodes(line string) (nodes []string, err error) {
	if f == Forwarded {
		return forwardedNodes(line)
	}
	for node := range strings.SplitSeq(line, ",") {
		if node = strings.Trim(node, " \t"); node != "" { // A list may have empty elements (RFC 9110 §5.6.1).
			nodes = append(nodes, node)
		}
	}
	return nodes, nil
}

const unknownNode = "unknown"

// parseNode reads a node: an address, perhaps with a port, as proxies write it in either field, or a word instead of
// one. The result is not valid for a word.
func parseNode(node string) (netip.AddrPort, error) {
	if colon := strings.LastIndex(node, ":_"); colon > 0 { // The port is hidden.
		node = node[:colon]
	}
	host, _, _ := strings.Cut(node, ":")
	if strings.EqualFold(host, unknownNode) || strings.HasPrefix(node, "_") {
		return netip.AddrPort{}, nil
	}
	if inner, ok := strings.CutPrefix(node, "["); ok && strings.HasSuffix(inner, "]") {
		node = strings.TrimSuffix(inner, "]")
		if !strings.Contains(node, ":") {
			return netip.AddrPort{}, errNode
		}
	}
	address, err := netip.ParseAddr(node) // X-Forwarded-For has IPv6 addresses without brackets.
	both := netip.AddrPortFrom(address, 0)
	if err != nil {
		both, err = netip.ParseAddrPort(node)
	}
	if err != nil || both.Addr().Zone() != "" {
		return netip.AddrPort{}, errNode
	}
	return netip.AddrPortFrom(both.Addr().Unmap(), both.Port()), nil
}

var errNode = errors.New("names something other than an address")

var errForwarded = errors.New("is not a list of elements such as for=192.0.2.1;proto=https (RFC 7239)")

// forwardedNodes returns the parameters for of a line of Forwarded; unknown for an element without one. A line must be
// valid as a whole: a client may have sent its begin, so that the rest has another meaning.
func forwardedNodes(line string) (nodes []string, err error) {
	s := scanner{rest: line}
	for {
		node, found := "", false
		for {
			s.space()
			name := s.token()
			if name == "" {
				break // An empty element or parameter.
			}
			value, ok := s.value()
			if !ok {
				return nil, errForwarded
			}
			if strings.EqualFold(name, "for") {
				if found {
					return nil, errors.New("has the parameter for twice in an element")
				}
				node, found = value, true
			}
			if s.space(); !s.take(';') {
				break
			}
		}
		if found {
			nodes = append(nodes, node)
		} else if s.pairs {
			nodes = append(nodes, unknownNode)
		}
		s.pairs = false
		switch {
		case s.rest == "":
			return nodes, nil
		case !s.take(','):
			return nil, errForwarded
		}
	}
}

// scanner reads a line of Forwarded.
type scanner struct {
	rest  string
	pairs bool // The element has a parameter.
}

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t") }

// take takes c, if it comes next.
func (s *scanner) take(c byte) bool {
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// token takes a token (RFC 9110 §5.6.2), which may be empty.
func (s *scanner) token() (token string) {
	end := strings.IndexFunc(s.rest, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`(),/:;<=>?@[\]{}"`, c)
	})
	if end < 0 {
		end = len(s.rest)
	}
	token, s.rest = s.rest[:end], s.rest[end:]
	return token
}

// value takes = and a value, which is a token or a quoted string. It also takes what some proxies leave unquoted though
// they should not: the colons and brackets of an address.
func (s *scanner) value() (value string, ok bool) {
	s.pairs = true
	if !s.take('=') {
		return "", false
	}
	if s.take('"') {
		return s.quoted()
	}
	end := strings.IndexAny(s.rest, ",; \t\"\\")
	if end < 0 {
		end = len(s.rest)
	}
	value, s.rest = s.rest[:end], s.rest[end:]
	return value, value != ""
}

// quoted takes the rest of a quoted string.
func (s *scanner) quoted() (value string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(s.rest):
			i++
			b.WriteByte(s.rest[i])
		case c == '\\':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
