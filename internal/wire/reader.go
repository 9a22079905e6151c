package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Reader is the incoming state of one connection. Its zero value is ready. It
// holds bytes only while a fragmented message is incomplete, at most messageMax
// of them (see Next; DeflatedMax of a compressed one), and belongs to the goroutine that owns the connection.
type Reader struct {
	partial *partial // The fragmented message under way; nil for none, which is nearly always.
	deflate bool     // permessage-deflate is negotiated.
}

// partial is what has come of a fragmented message.
type partial struct {
	message  []byte
	checked  int       // Bytes of message known to be UTF-8; text only.
	op       ws.OpCode // Its kind.
	deflated bool      // It is compressed.
}

// AllowDeflate makes the Reader take compressed messages from now on: for a
// connection that has negotiated permessage-deflate.
func (r *Reader) AllowDeflate() { r.deflate = true }

// What messages are refused with. A CloseError is never changed, so they are
// shared.
var (
	errBadUTF8 = &CloseError{uint16(ws.StatusInvalidFramePayloadData), "text is not valid UTF-8"}
	errTooBig  = &CloseError{uint16(ws.StatusMessageTooBig), "message too big"}
	errLength  = &CloseError{uint16(ws.StatusProtocolError), "payload length not in its shortest form"}
	errMSB     = &CloseError{uint16(ws.StatusProtocolError), "payload length out of range"}
)

// Next takes at most one frame from the start of b. It returns what the frame
// means, its payload, and how many bytes of b it used; with n = 0 and EventNone
// the frame is incomplete and b unchanged: call again when more bytes have
// followed.
//
// A masked payload is unmasked in place. The payload aliases b or, for a message
// that came in fragments, is the caller's alone; use it before b changes.
// Payloads of messages have at most messageMax bytes, those of compressed ones
// DeflatedMax(messageMax), those of control frames 125. Text is valid UTF-8;
// whether compressed text is, Inflater finds out. Whether the payload of a close
// frame is valid, CloseCode says.
//
// An error means that the connection must be failed with the error's code, and
// that the Reader is of no further use. It comes as early as the bytes allow:
// a message that is too big is refused by the header of the frame that makes it
// so, and a fragment of text by its first wrong byte.
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
	default: // Data: others are refused by their header.
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

// Idle reports whether no fragmented message is under way.
func (r *Reader) Idle() bool { return r.partial == nil }

// header reads and checks the header at the start of b. size is its length, 0
// while it is incomplete.
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
	// RSV1 belongs to the first frame of a message (RFC 7692 §6.1); at any other it
	// is as wrong as without the extension.
	checked := h
	if r.deflate && (h.OpCode == ws.OpText || h.OpCode == ws.OpBinary) {
		checked.Rsv &^= rsvDeflated
	}
	// Length is still the seven bits of the second byte. That is all a control
	// frame may use, so a longer one is found here too.
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
		switch h.Length = int64(binary.BigEndian.Uint64(b[2:])); {
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

// rsvDeflated is RSV1 as ws.Header has it.
const rsvDeflated = 0x4

// deflated reports whether the frame begins a compressed message. It is to be
// asked of checked headers.
func deflated(h ws.Header) bool { return h.Rsv&rsvDeflated != 0 }

func deflatedEvent(op ws.OpCode) Event {
	if op == ws.OpBinary {
		return EventDeflatedBinary
	}
	return EventDeflatedText
}

// fragment adds one fragment to its message. The sum of the two is known to be
// within what header allows.
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
	r.partial = nil // The message is the caller's.
	return ev, p.message, nil
}

// grow makes room for n more bytes. Doubling keeps many small fragments cheap,
// and messageMax keeps a client from making us hold more than it may send.
func (p *partial) grow(n, messageMax int) {
	need := len(p.message) + n
	if need <= cap(p.message) {
		return
	}
	p.message = append(make([]byte, 0, max(need, min(2*cap(p.message), messageMax))), p.message...)
}

// held is the memory that the Reader holds for a fragmented message, in bytes.
func (r *Reader) held() int {
	if r.partial == nil {
		return 0
	}
	return cap(r.partial.message)
}

// validPrefix returns how much of b is whole, valid UTF-8. It is ok when the
// rest, if any, is the beginning of one more rune.
func validPrefix(b []byte) (n int, ok bool) {
	n = len(b)
	// The last rune may be incomplete: its first byte is among the last three.
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
