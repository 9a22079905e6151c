package wire

import (
	"bytes"

	"github.com/gobwas/httphead"
)

// HeadLen returns the length of the HTTP head at the start of b, including its blank line, or 0 while the head is
// incomplete. from is the length of b at the previous call, and 0 at the first call. Bytes before it are not searched
// again, so that a head that arrives byte by byte costs no more than one that arrives at once.
//
// Bytes that cannot become a head, and a head with bare LFs, count as complete, so that Handshake responds with 400 at
// once and not only a timeout ends the connection.
func HeadLen(b []byte, from int) int {
	if len(b) > 0 && !isToken(b[0]) {
		return len(b) // A TLS hello, for example.
	}
	// The head ends with a line feed that is followed by another one or by CR LF. At most two of these bytes are before
	// from.
	for i := max(from-2, 0); i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n
		switch rest := b[i+1:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 2
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 3
		}
	}
	return 0
}

// cutLine splits b after its first line. ok is false unless the line ends with CR LF and contains no control characters
// but tabs.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	n := bytes.IndexByte(b, '\n')
	if n < 1 || b[n-1] != '\r' {
		return nil, nil, false
	}
	line = b[:n-1]
	for _, c := range line {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return nil, nil, false
		}
	}
	return line, b[n+1:], true
}

// cutField splits a header line into name and value. ok is false for a line that continues the previous one (RFC 9112
// §5.2, obsolete) and for a space before the colon, because readers interpret these differently.
func cutField(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte{':'})
	return name, trimSpace(value), ok && isTokens(name)
}

// cutItem splits the first element off a comma-separated list. The element may be empty (RFC 9110 §5.6.1).
func cutItem(list []byte) (item, rest []byte) {
	item, rest, _ = bytes.Cut(list, []byte{','})
	return trimSpace(item), rest
}

// hasItem reports whether a comma-separated list contains an element. lower is the element in lower case.
func hasItem(list []byte, lower string) bool {
	for len(list) > 0 {
		var item []byte
		if item, list = cutItem(list); equalFold(item, lower) {
			return true
		}
	}
	return false
}

// equalFold reports whether b is lower, ignoring the case of ASCII letters. bytes.EqualFold would also treat U+017F as
// an s and U+212A as a k.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// trimSpace removes spaces and tabs from both ends.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func isToken(c byte) bool { return httphead.OctetTypes[c].IsToken() }

// isTokens reports whether b is a token (RFC 9110 §5.6.2).
func isTokens(b []byte) bool {
	for _, c := range b {
		if !isToken(c) {
			return false
		}
	}
	return len(b) > 0
}
