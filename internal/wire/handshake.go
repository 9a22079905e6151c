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
	Method    string   // Method, such as GET.
	Path      string   // Path as sent, with percent-encoding; "*" for OPTIONS *.
	RawQuery  string   // Query as sent: everything after the first '?'.
	Host      string   // Host of an absolute target, else of the Host field; may include a port.
	Origin    string   // Origin field.
	Upgrade   bool     // Whether this is a WebSocket request that satisfies RFC 6455 §4.2.1.
	Protocols []string // Subprotocols offered, in the client's order.
	Deflate   bool     // Whether permessage-deflate is offered on acceptable terms.
}

// Accept says how to accept an upgrade.
type Accept struct {
	Protocol string      // One of Request.Protocols, or "" for none.
	Deflate  bool        // Whether to use permessage-deflate, if Request.Deflate.
	Header   [][2]string // Further fields of the response, without CR or LF.
}

// Reject is a complete HTTP response that is not an upgrade; its status may be 200. It is an error so that decide can
// return it.
type Reject struct {
	Status int         // HTTP status.
	Body   string      // One helpful line without its newline, sent as text/plain.
	Header [][2]string // Further fields of the response, without CR or LF.
}

// Error implements error.
func (r *Reject) Error() string { return r.Body }

// Handshake reads a complete request head, whose length HeadLen has found, and appends the HTTP response to dst.
// upgraded reports whether the response is a 101, so that WebSocket frames follow. Otherwise the response has
// Connection: close, and the caller must close the connection when it has been sent.
//
// Handshake itself responds to malformed and ambiguous requests and to wrong WebSocket requests, with status 400, 405,
// 426 or 505. It passes all others to decide, including plain HTTP requests (Upgrade is false). decide accepts an
// upgrade or returns a *Reject. It cannot accept a plain request. Any other error of decide becomes status 500, without
// its text. Handshake does not change head.
func Handshake(dst, head []byte, decide func(*Request) (Accept, error)) (out []byte, upgraded bool) {
	h, bad := parseRequest(head)
	withBody := !bytes.HasPrefix(head, []byte("HEAD ")) // Even if the rest of the head is not valid.
	if bad == nil {
		bad = h.checkUpgrade()
	}
	if bad != nil {
		return appendResponse(dst, bad, withBody), false
	}
	accept, err := decide(h.request())
	if err == nil && !h.upgrade {
		err = rejectNotUpgrade
	}
	if err != nil {
		bad, ok := errors.AsType[*Reject](err)
		if !ok {
			bad = &Reject{Status: http.StatusInternalServerError, Body: "The server could not process this request."}
		}
		return appendResponse(dst, bad, withBody), false
	}
	if accept.Deflate && h.deflate != "" {
		accept.Header = append(slices.Clip(accept.Header), [2]string{"Sec-WebSocket-Extensions", h.deflate})
	}
	return upgrade(dst, h.key, accept)
}

var rejectNotUpgrade = &Reject{
	Status: http.StatusUpgradeRequired,
	Body:   "This address serves WebSocket connections only.",
	Header: [][2]string{{"Upgrade", "websocket"}},
}

// canonicalHead is a valid upgrade request up to its key.
const canonicalHead = "GET / HTTP/1.1\r\nHost: -\r\nUpgrade: websocket\r\nConnection: " +
	"Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "

// upgrade appends the 101. The request has been checked, and more strictly than by ws.Upgrader, which accepts bare LFs,
// repeated fields and any 24 bytes as a key. So the Upgrader gets the request in a canonical form, and the two cannot
// interpret it differently.
func upgrade(dst, key []byte, accept Accept) (out []byte, upgraded bool) {
	s := stream{in: key, prefix: canonicalHead, suffix: "\r\n\r\n", out: dst}
	upgrader := ws.Upgrader{ReadBufferSize: 256, WriteBufferSize: 256}
	if accept.Protocol != "" || len(accept.Header) > 0 {
		upgrader.Header = ws.HandshakeHeaderFunc(accept.writeTo)
	}
	if _, err := upgrader.Upgrade(&s); err != nil {
		// Do not use what the Upgrader has written, which may be incomplete.
		return appendResponse(dst, &Reject{Status: http.StatusInternalServerError, Body: "The upgrade failed."}, true),
			false
	}
	return s.out, true
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
