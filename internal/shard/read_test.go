package shard

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A message that comes in many pieces is moved a few times, not with each piece, and is understood like a whole one.
func TestMessageInPieces(t *testing.T) {
	r := newStepped(t, nil)
	var c *client
	r.during(func() { c = r.join() })
	conn := r.shard.slab.get(0)
	command := fmt.Sprintf(`{"id":7,"rpc":{},"pad":%q}`, strings.Repeat("x", 60<<10))
	frame := wire.AppendMasked(nil, ws.OpText, []byte(command), [4]byte{1, 2, 3, 4})
	frame = append(frame, wire.AppendMasked(nil, ws.OpText, []byte(`{"id":8,"rpc":{}}`), [4]byte{5, 6, 7, 8})...)
	moves, place := 0, (*byte)(nil)
	const piece = 450
	for sent := 0; sent < len(frame); sent += piece {
		before := r.shard.stats.BytesIn.Load()
		b := frame[sent:min(sent+piece, len(frame))]
		c.write(b)
		for r.shard.stats.BytesIn.Load() < before+uint64(len(b)) {
			r.step()
		}
		if conn.in != nil && len(conn.in.bytes) >= keptMin && unsafe.SliceData(conn.in.bytes) != place {
			place = unsafe.SliceData(conn.in.bytes)
			moves++
		}
	}
	for id := 7; id <= 8; id++ {
		require.Equal(t, fmt.Sprintf(`{"id":%d,"error":{"code":108,"message":"not available"}}`, id), c.message(wire.EventText))
	}
	require.Nil(t, conn.in, "nothing is kept of complete messages")
	require.LessOrEqual(t, moves, 10)
	require.Positive(t, moves)
}

// What is kept after a large message does not have its memory.
func TestKeepShrinks(t *testing.T) {
	c := &conn{in: &incomplete{bytes: make([]byte, 60<<10)}}
	new(inbound).keep(c, c.in.bytes[59<<10:])
	require.Len(t, c.in.bytes, 1<<10)
	require.LessOrEqual(t, cap(c.in.bytes), 2<<10)
}
