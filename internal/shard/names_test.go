package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A name that no client can mean gets an error in every command.
func TestLossyNamesRefused(t *testing.T) {
	r := newRig(t, nil)
	c := r.join()
	for i, command := range []string{"subscribe", "unsubscribe", "history", "publish", "presence", "presence_stats", "sub_refresh"} {
		for j, name := range []string{`"\ud800"`, `"a\udc00"`} {
			id := 10*i + j + 2
			c.send(ws.OpText, fmt.Sprintf(`{"id":%d,"%s":{"channel":%s}}`, id, command, name))
			require.Equal(t, fmt.Sprintf(`{"id":%d,"error":{"code":107,"message":"bad request"}}`, id), c.message(wire.EventText))
		}
	}
	require.Zero(t, r.shard.Stats().Subscriptions.Load())
	c.send(ws.OpText, `{"id":100,"subscribe":{"channel":"a","data":"\ud800"}}`)
	require.Equal(t, `{"id":100,"subscribe":{}}`, c.message(wire.EventText))
}

// A client that has more channels than it may keeps its connection: each beyond the limit gets an error.
func TestManySubscriptions(t *testing.T) {
	r := newRig(t, nil)
	const limit = 8 // testLimits.
	c := r.join()
	var frame []string
	for i := range 1500 {
		frame = append(frame, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"c%d"}}`, i+2, i))
	}
	c.send(ws.OpText, strings.Join(frame, "\n"))
	var replies []string
	for len(replies) < len(frame) { // They come as the client gets its share of turns.
		replies = append(replies, strings.Split(c.message(wire.EventText), "\n")...)
	}
	for i, reply := range replies {
		want := fmt.Sprintf(`{"id":%d,"subscribe":{}}`, i+2)
		if i >= limit {
			want = fmt.Sprintf(`{"id":%d,"error":{"code":106,"message":"limit exceeded"}}`, i+2)
		}
		require.Equal(t, want, reply)
	}
}

// The limits that a frame can exceed are named in the close frame.
func TestClosedByLimits(t *testing.T) {
	r := newRig(t, nil)
	c := r.join()
	c.send(ws.OpText, strings.Repeat(`{"id":1,"rpc":{}}`+"\n", commandsMax(8)+1))
	for {
		event, payload, err := c.next()
		require.NoError(t, err)
		if event == wire.EventClose {
			code, reason, closeErr := wire.CloseCode([]byte(payload))
			require.Nil(t, closeErr)
			require.Equal(t, uint16(3501), code)
			require.Equal(t, "bad request: more than 2064 commands in a message (client.channels_max)", reason)
			break
		}
	}
	c = r.dial("/ws?channel=a")
	c.write(wire.AppendMasked(nil, ws.OpText, make([]byte, 64<<10+1), [4]byte{1})[:16])
	code, reason := c.closed()
	require.Equal(t, uint16(1009), code)
	require.Equal(t, "message too big: more than 65536 bytes (client.message_max)", reason)
	// The longest that the options allow fits into a close frame (RFC 6455 §5.5).
	require.LessOrEqual(t, len(fmt.Sprintf("bad request: more than %d commands in a message (client.channels_max)", commandsMax(1<<16))), 123)
}
