package wire

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/gobwas/ws"
)

// Request is a valid HTTP request head. Its strings are copies and may be kept;
// Path and RawQuery share one.
type Request struct {
	Method    string
	Path      string // As sent, percent-encoding included; "*" for OPTIONS *.
	RawQuery  string // What follows the first '?', as sent.
	Host      string // Of an absolute target, else of the Host field; may have a port.
	Origin    string
	Upgrade   bool     // Asks for a WebSocket, with all that RFC 6455 §4.2.1 wants.
	Protocols []string // Subprotocols offered, in the client's order.
	Deflate   bool     // Offers permessage-deflate on terms that can be accepted.
}

// Accept says how to accept an upgrade.
type Accept struct {
	Protocol string      // One of Request.Protocols, or "" for none.
	Deflate  bool        // Use permessage-deflate; only if Request.Deflate.
	Header   [][2]string // Further response fields; no CR or LF in them.
}

// Reject is a complete HTTP answer that is not an upgrade, also one of status
// 200. It is an error so that decide can return it.
type Reject struct {
	Status int
	Body   string      // One helpful line without its newline, sent as text/plain.
	Header [][2]string // Further response fields; no CR or LF in them.
}

// Error implements error.
func (r *Reject) Error() string { return r.Body }

// Handshake answers the complete request head in head, whose length HeadLen has
// found, by appending an HTTP response to dst. upgraded says that it is a 101:
// WebSocket frames follow the head. Otherwise it has Connection: close, and the
// connection is to be closed when the response is sent.
//
// A request that is malformed, ambiguous or asks for a WebSocket in a wrong way
// is answered here: 400, 405, 426 or 505. decide sees all others, plain HTTP
// requests (Upgrade false) among them, and accepts an upgrade or returns a
// *Reject; a plain request cannot be accepted. Any other error of decide is
// answered by 500, without its text. head is not changed.
func Handshake(dst, head []byte, decide func(*Request) (Accept, error)) (out []byte, upgraded bool) {
	h, bad := parseRequest(head)
	withBody := !bytes.HasPrefix(head, []byte("HEAD ")) // Whether the rest of the head is valid or not.
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
			bad = &Reject{Status: http.StatusInternalServerError, Body: "The server could not decide about this request."}
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
const canonicalHead = "GET / HTTP/1.1\r\nHost: -\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "

// upgrade appends the 101. The request is checked by now, more strictly than
// ws.Upgrader does, which takes bare LFs, repeated fields and any 24 bytes as a
// key; so the Upgrader gets the request in a canonical form, and the two cannot
// disagree about what it said.
func upgrade(dst, key []byte, accept Accept) (out []byte, upgraded bool) {
	s := stream{in: key, prefix: canonicalHead, suffix: "\r\n\r\n", out: dst}
	upgrader := ws.Upgrader{ReadBufferSize: 256, WriteBufferSize: 256}
	if accept.Protocol != "" || len(accept.Header) > 0 {
		upgrader.Header = ws.HandshakeHeaderFunc(accept.writeTo)
	}
	if _, err := upgrader.Upgrade(&s); err != nil {
		// The Upgrader's own rejection would follow what it may have written.
		return appendResponse(dst, &Reject{Status: http.StatusInternalServerError, Body: "The upgrade could not be made."}, true), false
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
