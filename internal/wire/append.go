package wire

import "github.com/gobwas/ws"

// AppendHeader appends the header of an unmasked frame.
func AppendHeader(dst []byte, op ws.OpCode, payloadLen int) []byte { panic("BUG: declared only") }

// AppendFrame appends an unmasked frame.
func AppendFrame(dst []byte, op ws.OpCode, payload []byte) []byte { panic("BUG: declared only") }

// AppendClose appends an unmasked close frame.
func AppendClose(dst []byte, code uint16, reason string) []byte { panic("BUG: declared only") }

// AppendMasked appends a masked frame, as a client sends it.
func AppendMasked(dst []byte, op ws.OpCode, payload []byte, mask [4]byte) []byte {
	panic("BUG: declared only")
}

// CloseCode reads the payload of a close frame. An empty payload is code 1005.
func CloseCode(payload []byte) (code uint16, reason string, err *CloseError) {
	panic("BUG: declared only")
}
