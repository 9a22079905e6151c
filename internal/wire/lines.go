package wire

import (
	"bytes"

	"github.com/gobwas/httphead"
)

// HeadLen returns the length of the HTTP head at the start of b, its blank line
// included, or 0 while it is incomplete. from is the length of b at the last
// call, 0 at the first: what was searched then is not searched again, so that a
// head that arrives byte by byte costs no more than one that arrives whole.
//
// Bytes that can become no head are complete at once, as is a head with bare
// LFs: Handshake then answers them by 400, rather than a timeout.
func HeadLen(b []byte, from int) int {
	if len(b) > 0 && !isToken(b[0]) {
		return len(b) // A TLS hello, for example.
	}
	// The end is a line feed and, behind it, another one or a CR LF: at most two
	// bytes of it were there before.
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

// cutLine splits b behind its first line. It is ok when the line ends in CR LF
// and holds no other control character than tabs.
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

// cutField splits a header line into name and value. A line that continues the
// one before (RFC 9112 §5.2, obsolete) is not ok, nor one with a space before
// the colon: two readers may understand them differently.
func cutField(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte{':'})
	return name, trimSpace(value), ok && isTokens(name)
}

// cutItem takes the first element off a comma-separated list; it may be empty
// (RFC 9110 §5.6.1).
func cutItem(list []byte) (item, rest []byte) {
	item, rest, _ = bytes.Cut(list, []byte{','})
	return trimSpace(item), rest
}

// hasItem reports whether a list has the given lower-case element.
func hasItem(list []byte, lower string) bool {
	for len(list) > 0 {
		var item []byte
		if item, list = cutItem(list); equalFold(item, lower) {
			return true
		}
	}
	return false
}

// equalFold compares without regard to the case of ASCII letters alone;
// bytes.EqualFold would also take U+017F for an s and U+212A for a k.
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

// trimSpace removes optional whitespace, which is spaces and tabs only.
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
