package shard

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/proto"
	"wsd/internal/wire"
)

// protobufClient speaks the client protocol in Protobuf.
type protobufClient struct{ *client }

func (c protobufClient) command(commands ...*protocol.Command) {
	c.t.Helper()
	var frame []byte
	for _, cmd := range commands {
		b, err := cmd.MarshalCF()
		require.NoError(c.t, err)
		frame = append(binary.AppendUvarint(frame, uint64(len(b))), b...)
	}
	c.send(ws.OpBinary, string(frame))
}

// replies reads the messages of the next frame.
func (c protobufClient) replies() (all []*protocol.Reply) {
	c.t.Helper()
	frame := []byte(c.message(wire.EventBinary))
	for len(frame) > 0 {
		length, n := binary.Uvarint(frame)
		require.Positive(c.t, n)
		r := new(protocol.Reply)
		require.NoError(c.t, r.UnmarshalCF(frame[n:n+int(length)]))
		all, frame = append(all, r), frame[n+int(length):]
	}
	return all
}

// joinProtobuf connects and subscribes.
func (r *rig) joinProtobuf(channels ...string) protobufClient {
	r.t.Helper()
	c := protobufClient{r.dial(pathProtocol + "?cf_protocol=protobuf")}
	c.command(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}})
	require.Len(r.t, c.replies()[0].Connect.Client, 32)
	for i, name := range channels {
		c.command(&protocol.Command{Id: uint32(i + 2), Subscribe: &protocol.SubscribeRequest{Channel: name}})
		require.NotNil(r.t, c.replies()[0].Subscribe)
	}
	return c
}

// How a client asks for an encoding, and which it gets.
func TestChooseEncoding(t *testing.T) {
	r := newRig(t, nil)
	const path = "GET /connection/websocket"
	for _, test := range []struct {
		query, offered, answer string
		binary                 bool
	}{
		{"", "", "", false},
		{"", "centrifuge-json", "centrifuge-json", false},
		{"", "centrifuge-protobuf", "centrifuge-protobuf", true},
		{"", "other, centrifuge-protobuf, centrifuge-json", "centrifuge-protobuf", true},
		{"?cf_protocol=protobuf", "", "", true},
		{"?format=protobuf", "", "", true},
		{"?cf_protocol=protobuf", "centrifuge-json", "centrifuge-json", false},
		{"?cf_protocol=json", "", "", false},
	} {
		c := r.open()
		request := path + test.query + upgradeLines
		if test.offered != "" {
			request += "Sec-WebSocket-Protocol: " + test.offered + "\r\n"
		}
		c.write([]byte(request + "\r\n"))
		status, _ := c.response()
		require.Equal(t, 101, status)
		require.Equal(t, test.answer, c.header.Get("Sec-WebSocket-Protocol"), "%+v", test)
		if test.binary {
			protobufClient{c}.command(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}})
			require.NotNil(t, protobufClient{c}.replies()[0].Connect)
		} else {
			c.send(ws.OpText, `{"id":1,"connect":{}}`)
			require.Contains(t, c.message(wire.EventText), `{"id":1,"connect":{`)
		}
	}
}

// All values reach these clients, as they are; the publications of a batch come in one frame.
func TestDeliverProtobuf(t *testing.T) {
	r := newRig(t, nil)
	c, other := r.joinProtobuf("a", "b"), r.join("a")
	r.publish("a", `{"n": 1}`, "\xff\xfe", "\x00")
	got := c.replies()
	require.Len(t, got, 3)
	for i, want := range []string{`{"n": 1}`, "\xff\xfe", "null"} {
		require.Equal(t, "a", got[i].Push.Channel)
		require.Equal(t, want, string(got[i].Push.Pub.Data))
		require.EqualValues(t, i+1, got[i].Push.Pub.Offset)
	}
	require.Contains(t, other.message(wire.EventText), `{"data":{"n": 1},"offset":1}`, "the other encoding beside it")
	r.publish("b", "5")
	require.Equal(t, "b", c.replies()[0].Push.Channel)
	stats := r.shard.Stats()
	eventually(t, "counted", func() bool { return stats.Deliveries.Load() == 6 })
}

// Several commands in one frame are answered in one.
func TestProtobufCommands(t *testing.T) {
	r := newRig(t, nil)
	c := r.joinProtobuf()
	c.command(
		&protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "a"}},
		&protocol.Command{Id: 3, Subscribe: &protocol.SubscribeRequest{Channel: "a"}},
		&protocol.Command{Id: 4, Rpc: &protocol.RPCRequest{Method: "m"}},
	)
	got := c.replies()
	require.Len(t, got, 3)
	require.NotNil(t, got[0].Subscribe)
	require.Equal(t, proto.ErrAlreadySubscribed.Reply(), got[1].Error)
	require.Equal(t, proto.ErrNotAvailable.Reply(), got[2].Error)

	c.send(ws.OpBinary, "\x05\x01")
	code, reason := c.closed()
	require.EqualValues(t, 3501, code)
	require.Contains(t, reason, "bad request: decode command: ")

	// A pong that nobody asked for, as in JSON.
	c = r.joinProtobuf()
	c.send(ws.OpBinary, proto.PingFrameProtobuf)
	code, _ = c.closed()
	require.EqualValues(t, 3501, code)
}

func TestProtobufPings(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Limits.PingInterval, o.Limits.PongTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	c := r.joinProtobuf()
	for range 3 {
		require.Equal(t, proto.PingFrameProtobuf, c.message(wire.EventBinary))
		c.send(ws.OpBinary, proto.PingFrameProtobuf)
	}
	require.Equal(t, proto.PingFrameProtobuf, c.message(wire.EventBinary))
	code, _ := c.closed()
	require.EqualValues(t, 3012, code, "no pong")
}

// The bus has left the shard behind: every subscription ends, in one frame.
func TestProtobufDetached(t *testing.T) {
	r := newRig(t, nil)
	c, idle := r.joinProtobuf("a", "b"), r.join()
	block := make(chan struct{})
	r.place.block.Store(&block)
	idle.send(ws.OpText, `{"id":9,"subscribe":{"channel":"slow"}}`)
	eventually(t, "detached", func() bool {
		r.publish("a", "1")
		return r.ring.Stats().Detached[0].Load() == 1
	})
	r.place.block.Store(nil)
	close(block)
	var ended []string
	for len(ended) < 2 {
		for _, reply := range c.replies() {
			if u := reply.Push.Unsubscribe; u != nil {
				require.Equal(t, fmt.Sprint(2500, " insufficient state"), fmt.Sprint(u.Code, " ", u.Reason))
				ended = append(ended, reply.Push.Channel)
			}
		}
	}
	require.ElementsMatch(t, []string{"a", "b"}, ended)
}
