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

// AppendHeader appends the header of an unmasked, unfragmented frame with payloadLen bytes of payload, as a server
// sends it. The header has 2, 4 or 10 bytes.
func AppendHeader(dst []byte, op ws.OpCode, payloadLen int) []byte {
	return appendHeader(dst, op, payloadLen, 0)
}

func appendHeader(dst []byte, op ws.OpCode, payloadLen int, mask byte) []byte {
	dst = append(dst, bitFin|byte(op))
	switch {
	case payloadLen <= ws.MaxControlFramePayloadSize:
		return append(dst, mask|byte(payloadLen)) //nolint:gosec // At most 125.
	case payloadLen <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, mask|126), uint16(payloadLen))
	default:
		return binary.BigEndian.AppendUint64(append(dst, mask|127), uint64(payloadLen))
	}
}

// AppendFrame appends an unmasked, unfragmented frame. The payload of a control frame must not exceed 125 bytes.
func AppendFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	return append(AppendHeader(dst, op, len(payload)), payload...)
}

// AppendMasked appends a masked, unfragmented frame, as a client sends it. It does not change payload.
func AppendMasked(dst []byte, op ws.OpCode, payload []byte, mask [4]byte) []byte {
	dst = append(appendHeader(dst, op, len(payload), bitMask), mask[:]...)
	start := len(dst)
	dst = append(dst, payload...)
	ws.Cipher(dst[start:], mask, 0)
	return dst
}

// AppendClose appends an unmasked close frame. It shortens a reason that does not fit, at the end of a rune, and
// replaces invalid UTF-8 in it. For a code that must not be sent (0, 1005, 1006, 1015) the frame has no code and no
// reason.
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

// CloseCode reads the payload of a close frame. Without a payload the code is 1005, which means that there is none. The
// error has code 1002 if the frame's code must not be sent, and 1007 if the reason is not UTF-8. The connection must
// then be closed with the error's code instead of an echo.
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
		// Registered with IANA after RFC 6455: restart, try again later, bad gateway. Package ws does not know them.
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
