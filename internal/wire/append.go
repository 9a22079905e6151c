package wire

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

const (
	bitFin  = 0x80
	bitMask = 0x80
)

// AppendHeader appends the header of an unmasked, unfragmented frame: what a
// server sends in front of payloadLen bytes. It takes 2, 4 or 10 bytes.
func AppendHeader(dst []byte, op ws.OpCode, payloadLen int) []byte {
	return appendHeader(dst, op, payloadLen, 0)
}

func appendHeader(dst []byte, op ws.OpCode, payloadLen int, mask byte) []byte {
	dst = append(dst, bitFin|byte(op))
	switch {
	case payloadLen <= ws.MaxControlFramePayloadSize:
		return append(dst, mask|byte(payloadLen))
	case payloadLen <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, mask|126), uint16(payloadLen))
	default:
		return binary.BigEndian.AppendUint64(append(dst, mask|127), uint64(payloadLen))
	}
}

// AppendFrame appends an unmasked, unfragmented frame. The payload of a control
// frame may have at most 125 bytes.
func AppendFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	return append(AppendHeader(dst, op, len(payload)), payload...)
}

// AppendMasked appends a masked, unfragmented frame, as a client sends it. The
// payload itself is not changed.
func AppendMasked(dst []byte, op ws.OpCode, payload []byte, mask [4]byte) []byte {
	dst = append(appendHeader(dst, op, len(payload), bitMask), mask[:]...)
	start := len(dst)
	dst = append(dst, payload...)
	ws.Cipher(dst[start:], mask, 0)
	return dst
}

// AppendClose appends an unmasked close frame. The reason is cut at the end of
// a rune so that it fits, and what is not UTF-8 in it is replaced. A code that
// must not be sent (0, 1005, 1006, 1015) makes a frame without code and reason.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	if code == 0 || ws.StatusCode(code).IsProtocolReserved() {
		return AppendHeader(dst, ws.OpClose, 0)
	}
	if !utf8.ValidString(reason) {
		reason = strings.ToValidUTF8(reason, string(utf8.RuneError))
	}
	if n := ws.MaxControlFramePayloadSize - 2; len(reason) > n {
		for !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	dst = AppendHeader(dst, ws.OpClose, 2+len(reason))
	return append(binary.BigEndian.AppendUint16(dst, code), reason...)
}

// CloseCode reads the payload of a close frame. No payload is 1005, the code
// that stands for none. Codes that nobody may send are an error with 1002,
// a reason that is not UTF-8 one with 1007: the connection is to be closed with
// that code instead of an echo.
func CloseCode(payload []byte) (code uint16, reason string, err *CloseError) {
	switch len(payload) {
	case 0:
		return uint16(ws.StatusNoStatusRcvd), "", nil
	case 1:
		return 0, "", &CloseError{uint16(ws.StatusProtocolError), "close frame with half a status code"}
	}
	status, reason := ws.ParseCloseFrameData(payload)
	switch {
	case status >= 1012 && status <= 1014:
		// Registered with IANA after RFC 6455: restart, try again later, bad
		// gateway. ws does not know them.
	case status > 4999:
		return 0, "", &CloseError{uint16(ws.StatusProtocolError), "status code out of range"}
	default:
		if bad := ws.CheckCloseFrameData(status, ""); bad != nil {
			return 0, "", &CloseError{uint16(ws.StatusProtocolError), bad.Error()}
		}
	}
	if !utf8.ValidString(reason) {
		return 0, "", &CloseError{uint16(ws.StatusInvalidFramePayloadData), "close reason is not valid UTF-8"}
	}
	return uint16(status), reason, nil
}
