package wire

import "bytes"

// deflateName is the extension of RFC 7692.
const deflateName = "permessage-deflate"

// The responses to an offer of permessage-deflate. Neither side keeps its window from one message to the next, so that
// a message compressed once can be sent to every client, and a connection needs no compressor of its own.
const (
	deflateTerms       = deflateName + "; server_no_context_takeover; client_no_context_takeover"
	deflateTermsWindow = deflateTerms + "; server_max_window_bits=15"
)

// acceptDeflate returns the response to the first acceptable offer of permessage-deflate in a Sec-WebSocket-Extensions
// field (RFC 7692 §5.1), or "" if there is none. It ignores other extensions and unacceptable offers.
func acceptDeflate(field []byte) string {
	for len(field) > 0 {
		var offer []byte
		offer, field = cutUnquoted(field, ',')
		if name, parameters := cutUnquoted(offer, ';'); string(name) == deflateName {
			if terms := deflateTermsFor(parameters); terms != "" {
				return terms
			}
		}
	}
	return ""
}

// deflateTermsFor returns the response to one offer, or "" to decline it. It declines an offer with an unknown,
// duplicate or malformed parameter (RFC 7692 §7), and one with a smaller window than that of the messages compressed
// for all clients. The window of the client itself may have any size.
func deflateTermsFor(parameters []byte) string {
	terms := deflateTerms
	var seen [4]bool
	for len(parameters) > 0 {
		var parameter []byte
		parameter, parameters = cutUnquoted(parameters, ';')
		name, value, hasValue := bytes.Cut(parameter, []byte{'='})
		value = unquote(trimSpace(value))
		which, ok := 0, false
		switch string(trimSpace(name)) {
		case "server_no_context_takeover":
			which, ok = 0, !hasValue
		case "client_no_context_takeover":
			which, ok = 1, !hasValue
		case "server_max_window_bits":
			which, ok = 2, string(value) == "15"
			terms = deflateTermsWindow
		case "client_max_window_bits":
			which, ok = 3, !hasValue || isWindowBits(value)
		}
		if !ok || seen[which] {
			return ""
		}
		seen[which] = true
	}
	return terms
}

// isWindowBits reports whether b is a number from 8 to 15 without a leading zero (RFC 7692 §7.1.2).
func isWindowBits(b []byte) bool {
	switch len(b) {
	case 1:
		return b[0] == '8' || b[0] == '9'
	case 2:
		return b[0] == '1' && '0' <= b[1] && b[1] <= '5'
	}
	return false
}

// cutUnquoted splits b at the first separator that is not part of a quoted string. It trims white space from before.
func cutUnquoted(b []byte, separator byte) (before, after []byte) {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			quoted = !quoted
		case quoted && b[i] == '\\':
			i++
		case !quoted && b[i] == separator:
			return trimSpace(b[:i]), b[i+1:]
		}
	}
	return trimSpace(b), nil
}

// unquote removes the quotes of a quoted string. It does not resolve escapes, which no parameter needs.
func unquote(b []byte) []byte {
	if n := len(b); n >= 2 && b[0] == '"' && b[n-1] == '"' {
		return b[1 : n-1]
	}
	return b
}
