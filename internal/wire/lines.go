package wire

import (
	"bytes"

	"github.com/gobwas/httphead"
)

// HeadLen returns the length of the HTTP head at the start of b, including its blank line, or 0 while the head is
// incomplete. from is the length of b at the previous call, and 0 at the first call. Bytes before it are not searched
// again, so that a head that arrives byte by byte costs no more than one that arrives at once.
//
// A few empty lines before the request are ignored and count as part of the head (RFC 9112 §2.2).
//
// Bytes that cannot become a head, a head with bare LFs, and a PROXY header count as complete, so that Handshake
// responds with 400 at once and not only a timeout ends the connection.
func HeadLen(b []byte, from int) int {
	start := len(b) - len(skipEmptyLines(b))
	switch rest := b[start:]; {
	case len(rest) == 0 || start < emptyLinesMax*len(crlf) && string(rest) == crlf[:1]:
		return 0
	case !isToken(rest[0]): // A TLS hello, for example.
		return len(b)
	case proxyHeader(rest) != 0:
		if n := bytes.IndexByte(rest, '\n'); n >= 0 {
			return start + n + 1
		}
		return 0
	}
	// The head ends with a line feed that is followed by another one or by CR LF. At most two of these bytes are before
	// from.
	for i := max(from-2, start); i < len(b); i++ {
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

const crlf = "\r\n"

// emptyLinesMax is the number of empty lines that are ignored before a request.
const emptyLinesMax = 4

// skipEmptyLines returns b without the empty lines before the request.
func skipEmptyLines(b []byte) []byte {
	if bytes.HasPrefix(b, []byte(proxySignature)) {
		return b
	}
	for n := 0; n < emptyLinesMax && bytes.HasPrefix(b, []byte(crlf)); n++ {
		b = b[len(crlf):]
	}
	return b
}

// proxySignature begins a header of the PROXY protocol, version 2. No HTTP request has its NUL there, so the bytes
// after it need not be waited for.
const proxySignature = "\r\n\r\n\x00"

// proxyHeader returns the version of the PROXY protocol (HAProxy's) whose header b begins with, or 0 if there is none.
func proxyHeader(b []byte) int {
	if bytes.HasPrefix(b, []byte(proxySignature)) {
		return 2
	}
	for _, family := range []string{"TCP4 ", "TCP6 ", "UNKNOWN"} {
		if bytes.HasPrefix(b, []byte("PROXY "+family)) {
			return 1
		}
	}
	return 0
}

// cutLine splits b after its first line. ok is false unless the line ends with CR LF and contains no other CR and no
// NUL (RFC 9110 §5.5).
func cutLine(b []byte) (line, rest []byte, ok bool) {
	n := bytes.IndexByte(b, '\n')
	if n < 1 || b[n-1] != '\r' {
		return nil, nil, false
	}
	line = b[:n-1]
	return line, b[n+1:], bytes.IndexByte(line, '\r') < 0 && bytes.IndexByte(line, 0) < 0
}

// hasControl reports whether b contains a control character other than a tab.
func hasControl(b []byte) bool {
	for _, c := range b {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return true
		}
	}
	return false
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
