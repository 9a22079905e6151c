package wire

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/gobwas/ws"
)

// Request is a valid HTTP request head. Its strings are copies that may be kept; Path and RawQuery share one.
type Request struct {
	Method   string // Method, such as GET.
	Path     string // Path as sent, with percent-encoding; "*" for OPTIONS *.
	RawQuery string // Query as sent: everything after the first '?'.
	Host     string // Host of an absolute target, else of the Host field; may include a port.
	Origin   string // Origin field.
	// Authorization field. It must not be logged or sent.
	Authorization string
	Upgrade       bool     // Whether this is a WebSocket request that satisfies RFC 6455 §4.2.1.
	Protocols     []string // Subprotocols offered, in the client's order.
	Deflate       bool     // Whether permessage-deflate is offered on acceptable terms.
}

// Accept says how to accept an upgrade.
type Accept struct {
	Protocol string      // One of Request.Protocols; "" only if the client offered none.
	Deflate  bool        // Whether to use permessage-deflate, if Request.Deflate.
	Header   [][2]string // Further fields of the response, without CR or LF.
}

// Reject is a complete HTTP response that is not an upgrade; its status may be 200. It is an error so that decide can
// return it.
type Reject struct {
	Cause  Cause       // What was wrong with the request; "" if nothing was.
	Status int         // HTTP status.
	Body   string      // One helpful line without its newline, sent as text/plain.
	Header [][2]string // Further fields of the response, without CR or LF.
}

// Cause says in one word why an upgrade request is rejected.
type Cause string

// The causes of Handshake's own rejections. decide may return others.
const (
	CauseMalformed     Cause = "malformed"      // Not a valid HTTP request, or not a valid WebSocket request.
	CauseNotUpgrade    Cause = "not_upgrade"    // Not a WebSocket request.
	CauseVersion       Cause = "version"        // Another version of HTTP or of WebSocket.
	CauseProxyProtocol Cause = "proxy_protocol" // A PROXY header precedes the request.
	CauseSubprotocol   Cause = "subprotocol"    // None of the subprotocols offered is supported.
	CauseInternal      Cause = "internal"       // decide or the upgrade failed.
)

// Error implements error.
func (r *Reject) Error() string { return r.Body }

// FieldValues returns the values of the header fields with a name, which must be in lower case, in their order. They
// are copies. head must be one for which Handshake calls decide. Fields that hardly anyone asks for are read like this,
// so that they cost nothing otherwise.
func FieldValues(head []byte, lower string) (values []string) {
	_, rest, _ := cutLine(skipEmptyLines(head)) // It was checked.
	for {
		line, after, ok := cutLine(rest)
		if !ok || len(line) == 0 {
			return values
		}
		if name, value, _ := cutField(line); equalFold(name, lower) {
			values = append(values, string(value))
		}
		rest = after
	}
}

// Handshake reads a complete request head, whose length HeadLen has found, and appends the HTTP response to dst.
// rejected is nil if the response is a 101, so that WebSocket frames follow. Otherwise it is what the response says,
// which has Connection: close, and the caller must close the connection when it has been sent.
//
// Handshake itself responds to malformed and ambiguous requests and to wrong WebSocket requests, with status 400, 405,
// 426 or 505. It passes all others to decide, including plain HTTP requests (Upgrade is false). decide accepts an
// upgrade or returns a *Reject. It cannot accept a plain request. Any other error of decide becomes status 500, without
// its text. Handshake does not change head.
//
// A client must fail the connection if the 101 names a subprotocol that it did not offer (RFC 6455 §4.1), and browsers
// also do so if it names none although some were offered. So a request whose offers decide leaves unanswered is
// rejected with 400.
func Handshake(dst, head []byte, decide func(*Request) (Accept, error)) (out []byte, rejected *Reject) {
	head = skipEmptyLines(head)
	h, bad := parseRequest(head)
	withBody := !bytes.HasPrefix(head, []byte("HEAD ")) // Even if the rest of the head is not valid.
	if bad == nil {
		bad = h.checkUpgrade()
	}
	if bad != nil {
		return appendResponse(dst, bad, withBody), bad
	}
	r := h.request()
	accept, err := decide(r)
	switch {
	case err != nil:
	case !h.upgrade:
		err = rejectNotUpgrade
	case accept.Protocol == "" && len(r.Protocols) > 0:
		err = rejectSubprotocol
	case accept.Protocol != "" && !slices.Contains(r.Protocols, accept.Protocol):
		panic("BUG: decide chose the subprotocol " + accept.Protocol + ", which was not offered")
	}
	if err != nil {
		bad, ok := errors.AsType[*Reject](err)
		if !ok {
			bad = &Reject{Cause: CauseInternal, Status: http.StatusInternalServerError,
				Body: "The server could not process this request."}
		}
		return appendResponse(dst, bad, withBody), bad
	}
	if accept.Deflate && h.deflate != "" {
		accept.Header = append(slices.Clip(accept.Header), [2]string{"Sec-WebSocket-Extensions", h.deflate})
	}
	return upgrade(dst, h.key, accept)
}

var rejectNotUpgrade = &Reject{
	Cause:  CauseNotUpgrade,
	Status: http.StatusUpgradeRequired,
	Body:   "This address serves WebSocket connections only.",
	Header: [][2]string{{"Upgrade", "websocket"}},
}

var rejectSubprotocol = &Reject{
	Cause:  CauseSubprotocol,
	Status: http.StatusBadRequest,
	Body:   "None of the offered subprotocols is supported.",
}

// canonicalHead is a valid upgrade request up to its key.
const canonicalHead = "GET / HTTP/1.1\r\nHost: -\r\nUpgrade: websocket\r\nConnection: " +
	"Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "

// upgrade appends the 101. The request has been checked, and more strictly than by ws.Upgrader, which accepts bare LFs,
// repeated fields and any 24 bytes as a key. So the Upgrader gets the request in a canonical form, and the two cannot
// interpret it differently.
func upgrade(dst, key []byte, accept Accept) (out []byte, rejected *Reject) {
	s := stream{in: key, prefix: canonicalHead, suffix: "\r\n\r\n", out: dst}
	upgrader := ws.Upgrader{ReadBufferSize: 256, WriteBufferSize: 256}
	if accept.Protocol != "" || len(accept.Header) > 0 {
		upgrader.Header = ws.HandshakeHeaderFunc(accept.writeTo)
	}
	if _, err := upgrader.Upgrade(&s); err != nil {
		// Do not use what the Upgrader has written, which may be incomplete.
		bad := &Reject{Cause: CauseInternal, Status: http.StatusInternalServerError, Body: "The upgrade failed."}
		return appendResponse(dst, bad, true), bad
	}
	return s.out, nil
}

func (a *Accept) writeTo(w io.Writer) (int64, error) {
	var b []byte
	if a.Protocol != "" {
		b = appendField(b, "Sec-WebSocket-Protocol", a.Protocol)
	}
	for _, field := range a.Header {
		b = appendField(b, field[0], field[1])
	}
	n, err := w.Write(b)
	return int64(n), err
}

// stream lets ws.Upgrader read prefix, in and suffix, and write to out.
type stream struct {
	prefix string
	in     []byte
	suffix string
	out    []byte
}

func (s *stream) Read(p []byte) (int, error) {
	n := copy(p, s.prefix)
	s.prefix = s.prefix[n:]
	m := copy(p[n:], s.in)
	s.in = s.in[m:]
	n += m
	m = copy(p[n:], s.suffix)
	s.suffix = s.suffix[m:]
	n += m
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (s *stream) Write(p []byte) (int, error) {
	s.out = append(s.out, p...)
	return len(p), nil
}
