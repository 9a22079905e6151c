package wire

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// The three opcodes of data.
const (
	cont = ws.OpContinuation
	text = ws.OpText
	bin  = ws.OpBinary
)

var testMask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// frame makes a masked frame of any kind, also of a wrong one.
func frame(fin bool, rsv byte, op ws.OpCode, payload string) []byte {
	b := AppendMasked(nil, op, []byte(payload), testMask)
	if !fin {
		b[0] &^= bitFin
	}
	b[0] |= rsv << 4
	return b
}

func whole(op ws.OpCode, payload string) []byte { return frame(true, 0, op, payload) }
func begin(op ws.OpCode, payload string) []byte { return frame(false, 0, op, payload) }

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// got is one event as a reader's caller sees it.
type got struct {
	ev      Event
	payload string
}

func (g got) String() string {
	if len(g.payload) > 40 {
		return fmt.Sprintf("%d(%d bytes)", g.ev, len(g.payload))
	}
	return fmt.Sprintf("%d(%q)", g.ev, g.payload)
}

// feed gives stream to a new reader in pieces, as a connection would: what is
// incomplete is kept and comes again in front of the next piece. next says how
// long a piece is. It returns the events, fragments left out, the code of the
// error that ended it, and how many bytes were not used.
func feed(tb testing.TB, stream []byte, role Role, messageMax int, next func() int) (events []got, code uint16, left int) {
	tb.Helper()
	var r Reader
	var kept []byte
	for stream := bytes.Clone(stream); len(stream) > 0; {
		n := min(max(next(), 1), len(stream))
		kept, stream = append(kept, stream[:n]...), stream[n:]
		for {
			before := bytes.Clone(kept)
			ev, payload, n, err := r.Next(kept, role, messageMax)
			if err != nil {
				require.Zero(tb, n)
				require.Equal(tb, EventNone, ev)
				require.NotEmpty(tb, err.Reason)
				require.LessOrEqual(tb, len(err.Reason), 123)
				return events, err.Code, len(kept) + len(stream)
			}
			require.Equal(tb, ev == EventNone, n == 0)
			if n == 0 {
				require.Nil(tb, payload)
				require.Equal(tb, before, kept, "an incomplete frame was changed")
				break
			}
			if ev == EventFragment {
				require.False(tb, r.Idle())
			} else {
				events = append(events, got{ev, string(payload)})
			}
			if ev == EventText || ev == EventBinary {
				require.True(tb, r.Idle())
				require.LessOrEqual(tb, len(payload), messageMax)
			}
			require.LessOrEqual(tb, r.Held(), messageMax)
			kept = kept[n:]
		}
	}
	return events, 0, len(kept)
}

// The ways to cut a stream into pieces that every case is tried in.
var feeds = map[string]func(streamLen int) func() int{
	"whole":        func(n int) func() int { return func() int { return n } },
	"byte by byte": func(int) func() int { return func() int { return 1 } },
}
