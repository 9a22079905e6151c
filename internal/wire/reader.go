package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Reader is the state of reading one connection. Its zero value is ready to use. It keeps bytes only while a fragmented
// message is incomplete, at most messageMax (see Next), or DeflatedMax(messageMax) of a compressed one. It belongs to
// the goroutine that owns the connection.
type Reader struct {
	partial *partial // Incomplete fragmented message; usually nil.
	deflate bool     // Whether permessage-deflate is negotiated.
}

// partial is an incomplete fragmented message.
type partial struct {
	message  []byte    // Payloads of the fragments received so far.
	checked  int       // Number of bytes of message that are known to be valid UTF-8, if it is uncompressed text.
	op       ws.OpCode // Text or binary.
	deflated bool      // Whether the message is compressed.
}

// Deflate reports whether AllowDeflate was called.
func (r *Reader) Deflate() bool { return r.deflate }

// AllowDeflate makes the Reader accept compressed messages, for a connection that has negotiated permessage-deflate.
func (r *Reader) AllowDeflate() { r.deflate = true }

// Errors for messages that are refused. They are shared, because no one changes a CloseError.
var (
	errBadUTF8 = &CloseError{uint16(ws.StatusInvalidFramePayloadData), "text is not valid UTF-8"}
	errTooBig  = &CloseError{uint16(ws.StatusMessageTooBig), "message too big"}
	errLength  = &CloseError{uint16(ws.StatusProtocolError), "payload length not in its shortest form"}
	errMSB     = &CloseError{uint16(ws.StatusProtocolError), "payload length out of range"}
)

// Next reads at most one frame from the start of b. It returns the event, its payload, and the number of bytes of b
// that it used. If n is 0 and the event is EventNone, the frame is incomplete and b is unchanged. Call Next again with
// more bytes.
//
// Next unmasks a payload in place. The payload aliases b, so use it before b changes; only the payload of a fragmented
// message belongs to the caller. A message has at most messageMax bytes, or DeflatedMax(messageMax) if it is
// compressed, and a control frame at most 125. Text is valid UTF-8; Inflater checks compressed text. CloseCode checks
// the payload of a close frame.
//
// An error means that the connection must be failed with the error's code, and that the Reader must not be used any
// more. Next returns it as early as possible: for a message that is too large, after the header of the frame that makes
// it so, and for fragmented text, at the first wrong byte.
func (r *Reader) Next(b []byte, role Role, messageMax int) (ev Event, payload []byte, n int, err *CloseError) {
	h, size, err := r.header(b, role, messageMax)
	if err != nil || size == 0 || int64(len(b)-size) < h.Length {
		return EventNone, nil, 0, err
	}
	n = size + int(h.Length)
	payload = b[size:n:n]
	if h.Masked {
		ws.Cipher(payload, h.Mask, 0)
	}
	switch h.OpCode {
	case ws.OpPing:
		return EventPing, payload, n, nil
	case ws.OpPong:
		return EventPong, payload, n, nil
	case ws.OpClose:
		return EventClose, payload, n, nil
	default: // Data; header refuses all others.
	}
	if h.Fin && r.partial == nil {
		switch {
		case deflated(h):
			return deflatedEvent(h.OpCode), payload, n, nil
		case h.OpCode == ws.OpBinary:
			return EventBinary, payload, n, nil
		}
		if !utf8.Valid(payload) {
			return EventNone, nil, 0, errBadUTF8
		}
		return EventText, payload, n, nil
	}
	ev, payload, err = r.fragment(h, payload, messageMax)
	if err != nil {
		n = 0
	}
	return ev, payload, n, err
}

// Idle reports whether there is no incomplete fragmented message.
func (r *Reader) Idle() bool { return r.partial == nil }

// header reads and checks the header at the start of b. size is the length of the header, or 0 while it is incomplete.
func (r *Reader) header(b []byte, role Role, messageMax int) (h ws.Header, size int, err *CloseError) {
	if len(b) < ws.MinHeaderSize {
		return h, 0, nil
	}
	h.Fin = b[0]&0x80 != 0
	h.Rsv = b[0] >> 4 & 0x7
	h.OpCode = ws.OpCode(b[0] & 0xf)
	h.Masked = b[1]&0x80 != 0
	h.Length = int64(b[1] & 0x7f)

	state := ws.StateServerSide
	if role == RoleClient {
		state = ws.StateClientSide
	}
	had := 0
	if r.partial != nil {
		state |= ws.StateFragmented
		had = len(r.partial.message)
	}
	// RSV1 is allowed in the first frame of a message (RFC 7692 §6.1). In other frames it is an error, as without the
	// extension.
	checked := h
	if r.deflate && (h.OpCode == ws.OpText || h.OpCode == ws.OpBinary) {
		checked.Rsv &^= rsvDeflated
	}
	// Length still is the seven bits of the second byte. A control frame must not use more, so this also detects one
	// that is too long.
	if bad := ws.CheckHeader(checked, state); bad != nil {
		return h, 0, &CloseError{uint16(ws.StatusProtocolError), bad.Error()}
	}
	size = ws.MinHeaderSize
	switch h.Length {
	case 126:
		if size += 2; len(b) < size {
			return h, 0, nil
		}
		if h.Length = int64(binary.BigEndian.Uint16(b[2:])); h.Length < 126 {
			return h, 0, errLength
		}
	case 127:
		if size += 8; len(b) < size {
			return h, 0, nil
		}
		switch h.Length = int64(binary.BigEndian.Uint64(b[2:])); { //nolint:gosec // A negative one is refused.
		case h.Length < 0:
			return h, 0, errMSB
		case h.Length < 1<<16:
			return h, 0, errLength
		}
	}
	if deflated(h) || r.partial != nil && r.partial.deflated {
		messageMax = DeflatedMax(messageMax)
	}
	if h.OpCode.IsData() && h.Length > int64(messageMax-had) {
		return h, 0, errTooBig
	}
	if h.Masked {
		if size += len(h.Mask); len(b) < size {
			return h, 0, nil
		}
		copy(h.Mask[:], b[size-len(h.Mask):])
	}
	return h, size, nil
}

// rsvDeflated is RSV1 in ws.Header.Rsv.
const rsvDeflated = 0x4

// deflated reports whether a frame begins a compressed message. The header must have been checked.
func deflated(h ws.Header) bool { return h.Rsv&rsvDeflated != 0 }

func deflatedEvent(op ws.OpCode) Event {
	if op == ws.OpBinary {
		return EventDeflatedBinary
	}
	return EventDeflatedText
}

// fragment adds a fragment to its message. header has checked that the message does not become too large.
func (r *Reader) fragment(h ws.Header, payload []byte, messageMax int) (Event, []byte, *CloseError) {
	p := r.partial
	if p == nil {
		p = &partial{op: h.OpCode, deflated: deflated(h)}
		r.partial = p
	}
	if p.deflated {
		messageMax = DeflatedMax(messageMax)
	}
	p.grow(len(payload), messageMax)
	p.message = append(p.message, payload...)
	if p.op == ws.OpText && !p.deflated {
		valid, ok := validPrefix(p.message[p.checked:])
		p.checked += valid
		if !ok || (h.Fin && p.checked < len(p.message)) {
			return EventNone, nil, errBadUTF8
		}
	}
	if !h.Fin {
		return EventFragment, nil, nil
	}
	ev := EventBinary
	switch {
	case p.deflated:
		ev = deflatedEvent(p.op)
	case p.op == ws.OpText:
		ev = EventText
	}
	r.partial = nil // The message belongs to the caller now.
	return ev, p.message, nil
}

// grow makes room for n more bytes. It doubles the buffer, so that many small fragments are cheap, but not beyond
// messageMax, so that a client cannot make the server keep more than it may send.
func (p *partial) grow(n, messageMax int) {
	need := len(p.message) + n
	if need <= cap(p.message) {
		return
	}
	p.message = append(make([]byte, 0, max(need, min(2*cap(p.message), messageMax))), p.message...)
}

// Held returns the memory of an incomplete fragmented message, in bytes.
func (r *Reader) Held() int {
	if r.partial == nil {
		return 0
	}
	return cap(r.partial.message)
}

// validPrefix returns the length of the longest prefix of b that is valid UTF-8. ok is false unless the rest of b is
// empty or the beginning of one more rune.
func validPrefix(b []byte) (n int, ok bool) {
	n = len(b)
	// The last rune may be incomplete. Its first byte then is one of the last three.
	for i := n - 1; i >= 0 && i >= n-(utf8.UTFMax-1); i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				n = i
			}
			break
		}
	}
	return n, utf8.Valid(b[:n])
}
