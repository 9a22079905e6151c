package wire

import "github.com/gobwas/ws"

// Reader is the incoming state of one connection.
type Reader struct {
	message []byte
	checked int
	op      ws.OpCode
}

// Next takes at most one frame from the start of b.
func (r *Reader) Next(b []byte, role Role, messageMax int) (ev Event, payload []byte, n int, err *CloseError) {
	panic("BUG: declared only")
}

// Idle reports whether no fragmented message is under way.
func (r *Reader) Idle() bool { return r.op == 0 }
