package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/httphead"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
	"github.com/stretchr/testify/require"
)

// deflateClient is gobwas/ws with its own permessage-deflate.
type deflateClient struct{ *client }

func (r *rig) dialDeflate(path string) deflateClient {
	r.t.Helper()
	d := ws.Dialer{Timeout: waitMax, Extensions: []httphead.Option{wsflate.DefaultParameters.Option()}}
	conn, br, hs, err := d.Dial(r.t.Context(), "ws://"+r.server.Addresses()[0].String()+path)
	require.NoError(r.t, err)
	require.Nil(r.t, br)
	require.Len(r.t, hs.Extensions, 1)
	r.t.Cleanup(func() { conn.Close() })
	require.NoError(r.t, conn.SetDeadline(time.Now().Add(waitMax)))
	return deflateClient{&client{t: r.t, conn: conn, rw: conn}}
}

func (c deflateClient) sendDeflated(command string) {
	c.t.Helper()
	f, err := wsflate.CompressFrame(ws.NewTextFrame([]byte(command)))
	require.NoError(c.t, err)
	require.NoError(c.t, ws.WriteFrame(c.conn, ws.MaskFrame(f)))
}

// inflated returns the next message and whether it was compressed.
func (c deflateClient) inflated() (message string, compressed bool) {
	c.t.Helper()
	f, err := ws.ReadFrame(c.conn)
	require.NoError(c.t, err)
	require.True(c.t, f.Header.OpCode.IsData(), "%v %q", f.Header, f.Payload)
	compressed, err = wsflate.IsCompressed(f.Header)
	require.NoError(c.t, err)
	f, err = wsflate.DecompressFrame(f)
	require.NoError(c.t, err)
	return string(f.Payload), compressed
}

// From Kafka to clients with and without compression on every shard: small values, those that shards compress and those that the
// pool does; and the figures.
func TestCompression(t *testing.T) {
	r := newRig(t, map[string]any{"client.compression": true})
	r.ready()
	var compressing []deflateClient
	for range 6 {
		compressing = append(compressing, r.dialDeflate("/ws?channel=a"))
	}
	plain, joined := r.dial("/ws?channel=a"), r.dialDeflate("/connection/websocket")
	joined.sendDeflated(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"a"}}`)
	answer, compressed := joined.inflated()
	require.Contains(t, answer, `{"id":2,"subscribe":{`)
	require.False(t, compressed, "answers are sent as they are")
	r.eventually("subscribed", func() bool { return r.server.Health().Shards != nil && r.subscriptions() == 8 })
	var values []string
	for i := range 30 {
		values = append(values, fmt.Sprintf(`{"i":%d,"s":"%s"}`, i, strings.Repeat("0123456789abcdef", []int{1, 100, 3000}[i%3])))
	}
	r.produce("a", "", values...)
	for i, want := range values {
		require.Equal(t, want, plain.message())
		for _, c := range compressing {
			got, compressed := c.inflated()
			require.Equal(t, want, got)
			require.Equal(t, i%3 > 0, compressed)
		}
	}
	for read := 0; read < len(values); {
		message, _ := joined.inflated()
		for line := range strings.Lines(message) {
			require.Contains(t, line, values[read])
			read++
		}
	}
	_, text := r.get("/metrics")
	require.Contains(t, text, "wsd_compression_saturated_total 0\n")
	require.Contains(t, text, "wsd_goroutine_pool_queue_depth 0\n")
	require.NotContains(t, text, "wsd_compression_jobs_total 0\n")
	require.NotContains(t, text, "wsd_compressed_messages_total 0\n")
	require.Contains(t, text, "wsd_goroutine_pool_utilization ")
}
