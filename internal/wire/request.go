package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// requestHead is a parsed request head. Its slices alias the head.
type requestHead struct {
	method     []byte
	target     []byte
	pathStart  int  // Index of the path in target.
	queryStart int  // Index of the query in target, after the '?'; len(target) without a query.
	minor      byte // Minor version of HTTP/1.

	host    []byte // Host of the target or of the Host field.
	origin  []byte // Origin field.
	auth    []byte // Authorization field.
	key     []byte // Sec-WebSocket-Key field.
	version []byte // Sec-WebSocket-Version field.

	hosts    int // Number of Host fields.
	origins  int // Number of Origin fields.
	auths    int // Number of Authorization fields.
	keys     int // Number of Sec-WebSocket-Key fields.
	versions int // Number of Sec-WebSocket-Version fields.

	upgradeField      bool     // Whether Upgrade contains websocket.
	connectionUpgrade bool     // Whether Connection contains upgrade.
	body              bool     // Whether a body follows.
	protocols         [][]byte // Elements of Sec-WebSocket-Protocol.
	deflate           string   // Response to the first acceptable offer of permessage-deflate; "" if there is none.
	upgrade           bool     // Whether this is a WebSocket request.
}

// RefuseProxy returns the response to bytes that begin with a header of the PROXY protocol, where none is read; nil if
// they do not.
func RefuseProxy(b []byte) *Reject {
	version := proxyHeader(b)
	if version == 0 {
		return nil
	}
	return &Reject{Cause: CauseProxyProtocol, Status: http.StatusBadRequest, Body: fmt.Sprintf("The request begins "+
		"with a header of the PROXY protocol, version %d, which is read only from the addresses in "+
		"client.proxy_protocol: add the proxy's address there, or turn the header off in the proxy.", version)}
}

func badRequest(text string) *Reject {
	return &Reject{Cause: CauseMalformed, Status: http.StatusBadRequest, Body: text}
}

// parseRequest reads a complete head and checks its syntax.
func parseRequest(head []byte) (h requestHead, bad *Reject) {
	if bad := RefuseProxy(head); bad != nil {
		return h, bad
	}
	line, rest, ok := cutLine(head)
	if !ok || hasControl(line) {
		return h, badRequest("Malformed request: the first line is not an HTTP/1.1 request line that ends with CR " +
			"LF. (This port does not use TLS.)")
	}
	if bad := h.requestLine(line); bad != nil {
		return h, bad
	}
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return h, badRequest("Malformed request: a header line does not end with CR LF, or contains a CR or a NUL.")
		}
		if len(line) == 0 {
			break
		}
		name, value, ok := cutField(line)
		if !ok {
			return h, badRequest("Malformed request: a header line is not a name, a colon and a value.")
		}
		if !h.field(name, value) {
			return h, badRequest(fmt.Sprintf("Malformed request: bad value of header field %s.", name))
		}
	}
	switch {
	case len(rest) > 0:
		return h, badRequest("Malformed request: bytes after the end of its head.")
	case h.hosts > 1 || (h.hosts == 0 && h.minor > 0):
		return h, badRequest("Malformed request: exactly one Host field is required.")
	case !validHost(h.host):
		return h, badRequest("Malformed request: bad host.")
	case h.origins > 1:
		return h, badRequest("Malformed request: more than one Origin field.")
	case h.auths > 1:
		return h, badRequest("Malformed request: more than one Authorization field.")
	}
	return h, nil
}

// requestLine reads method, target and version.
func (h *requestHead) requestLine(line []byte) *Reject {
	method, rest, _ := bytes.Cut(line, []byte{' '})
	target, version, ok := bytes.Cut(rest, []byte{' '})
	if !ok || !isTokens(method) {
		return badRequest("Malformed request: the first line is not a method, a target and a version.")
	}
	number, ok := bytes.CutPrefix(version, []byte("HTTP/"))
	if !ok || len(number) != 3 || !isDigit(number[0]) || number[1] != '.' || !isDigit(number[2]) {
		return badRequest("Malformed request: the first line does not end with HTTP/1.1.")
	}
	if number[0] != '1' {
		return &Reject{Cause: CauseVersion, Status: http.StatusHTTPVersionNotSupported,
			Body: "This port supports HTTP/1.1 only, not WebSocket over HTTP/2."}
	}
	h.method, h.target, h.minor = method, target, number[2]-'0'
	return h.splitTarget()
}

// splitTarget finds the path and the query in the target, and the host in an absolute target (RFC 9112 §3.2).
func (h *requestHead) splitTarget() *Reject {
	t := h.target
	switch {
	case len(t) == 0 || bytes.IndexByte(t, '\t') >= 0:
		return badRequest("Malformed request: bad target.")
	case bytes.IndexByte(t, '#') >= 0:
		return badRequest("Malformed request: a # in the target; percent-encode it as %23.")
	}
	if t[0] != '/' && string(t) != "*" {
		scheme, rest, ok := bytes.Cut(t, []byte("://"))
		if !ok || !(equalFold(scheme, "http") || equalFold(scheme, "https") || equalFold(scheme, "ws") ||
			equalFold(scheme, "wss")) {
			return badRequest("Malformed request: the target must be a path that begins with /.")
		}
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		if end == 0 || !validHost(rest[:end]) {
			return badRequest("Malformed request: bad host.")
		}
		h.host = rest[:end]
		h.pathStart = len(t) - len(rest) + end
	}
	h.queryStart = len(t)
	if n := bytes.IndexByte(t[h.pathStart:], '?'); n >= 0 {
		h.queryStart = h.pathStart + n + 1
	}
	return nil
}

// field reads one header field. ok is false if its value is malformed. Fields with a name that is not here are not
// looked at, cookies included.
func (h *requestHead) field(name, value []byte) (ok bool) {
	switch {
	case equalFold(name, "host"):
		h.hosts++
		if h.pathStart == 0 { // The host of an absolute target takes precedence.
			h.host = value
		}
		return validHost(value)
	case equalFold(name, "upgrade"):
		h.upgradeField = h.upgradeField || hasItem(value, "websocket")
	case equalFold(name, "connection"):
		h.connectionUpgrade = h.connectionUpgrade || hasItem(value, "upgrade")
	case equalFold(name, "origin"):
		h.origins++
		h.origin = value
	case equalFold(name, "authorization"):
		h.auths++
		h.auth = value
	case equalFold(name, "sec-websocket-key"):
		h.keys++
		h.key = value
	case equalFold(name, "sec-websocket-version"):
		h.versions++
		h.version = value
	case equalFold(name, "sec-websocket-protocol"):
		for len(value) > 0 {
			var item []byte
			if item, value = cutItem(value); len(item) == 0 {
				continue
			}
			if !isTokens(item) {
				return false
			}
			h.protocols = append(h.protocols, item)
		}
	case equalFold(name, "sec-websocket-extensions"):
		if h.deflate == "" { // Several fields are one list (RFC 6455 §9.1).
			h.deflate = acceptDeflate(value)
		}
	case equalFold(name, "content-length"):
		h.body = h.body || string(value) != "0"
	case equalFold(name, "transfer-encoding"):
		h.body = true
	default:
		return true
	}
	return !hasControl(value)
}

// checkUpgrade sets h.upgrade if this is a WebSocket request. It rejects a WebSocket request that violates RFC 6455
// §4.2.1.
func (h *requestHead) checkUpgrade() *Reject {
	if !h.upgradeField {
		if h.keys > 0 {
			return &Reject{
				Cause:  CauseMalformed,
				Status: http.StatusUpgradeRequired,
				Body: "The WebSocket request lacks Upgrade: websocket. A proxy in between must pass on Upgrade and " +
					"Connection.",
				Header: rejectNotUpgrade.Header,
			}
		}
		return nil
	}
	h.upgrade = true
	switch {
	case h.minor == 0:
		return &Reject{Cause: CauseVersion, Status: http.StatusHTTPVersionNotSupported, Body: "WebSocket requires " +
			"HTTP/1.1, but this request uses HTTP/1.0. A proxy in between must use 1.1."}
	case string(h.method) != http.MethodGet:
		return &Reject{Cause: CauseMalformed, Status: http.StatusMethodNotAllowed,
			Body: "A WebSocket request must use GET.", Header: [][2]string{{"Allow", "GET"}}}
	case !h.connectionUpgrade:
		return badRequest("The WebSocket request lacks Connection: Upgrade. A proxy in between must pass on Upgrade " +
			"and Connection.")
	case h.body:
		return badRequest("A WebSocket request must not have a body.")
	case h.versions != 1 || len(h.version) == 0:
		return badRequest("The WebSocket request needs exactly one Sec-WebSocket-Version: 13.")
	case string(h.version) != "13":
		return &Reject{
			Cause:  CauseVersion,
			Status: http.StatusUpgradeRequired,
			Body:   "Only WebSocket version 13 is supported.",
			Header: [][2]string{{"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}},
		}
	case h.keys != 1 || !validKey(h.key):
		return badRequest("The WebSocket request needs exactly one Sec-WebSocket-Key, 16 bytes in base64.")
	}
	return nil
}

// request returns the request with copies of its parts, which the caller may keep.
func (h *requestHead) request() *Request {
	target := string(h.target[h.pathStart:])
	query := h.queryStart - h.pathStart
	r := &Request{
		Path:     target[:query],
		RawQuery: target[query:],
		Host:     string(h.host),
		Origin:   string(h.origin),

		Authorization: string(h.auth),

		Upgrade: h.upgrade,
		Deflate: h.upgrade && h.deflate != "",
	}
	if query > 0 && target[query-1] == '?' {
		r.Path = target[:query-1]
	}
	if r.Path == "" {
		r.Path = "/" // An absolute target may lack a path.
	}
	if r.Method = http.MethodGet; string(h.method) != http.MethodGet {
		r.Method = string(h.method)
	}
	if len(h.protocols) > 0 {
		r.Protocols = make([]string, len(h.protocols))
		for i, p := range h.protocols {
			r.Protocols[i] = string(p)
		}
	}
	return r
}

// validHost reports whether b may be a host with an optional port. It allows more than RFC 3986, but no character that
// has a meaning elsewhere in a URL or in a list.
func validHost(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("/?#@\\,\"<>^{|}`", c) >= 0 {
			return false
		}
	}
	return true
}

// validKey reports whether b is 16 bytes in base64.
func validKey(b []byte) bool {
	const encoded = 24
	var raw [encoded / 4 * 3]byte
	if len(b) != encoded {
		return false
	}
	n, err := base64.StdEncoding.Decode(raw[:], b)
	return err == nil && n == 16
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
