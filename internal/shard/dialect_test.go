package shard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// A segment is split into messages of at most the limit, or one publication, and together they hold what one message
// would.
func TestMessageOutMax(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, v := range []bus.Variant{bus.VariantJSON, bus.VariantProtobuf} {
		d := &dialects[v]
		for range 300 {
			channel := strings.Repeat("c\n", 1+random.IntN(20)) // Longer in JSON than it is.
			var records []bus.Record
			for i := range 1 + random.IntN(60) {
				value := fmt.Sprintf(`"%s"`, strings.Repeat("x", []int{1, 10, 60, 300, 70_000}[random.IntN(5)*random.IntN(2)]+random.IntN(80)))
				records = append(records, record(uint64(i+1), `{"v":`+value+`}`))
			}
			messageMax := 100 + random.IntN(4000)
			whole := payloads(t, d.layout(channel, records, 0, 1<<30))
			require.Len(t, whole, 1)
			parts := payloads(t, d.layout(channel, records, 0, messageMax))
			require.Equal(t, whole[0], bytes.Join(parts, []byte(d.encoding.Separator)))
			for i, part := range parts {
				n := 0
				require.NoError(t, decodePushes(v, part, func() { n++ }))
				require.Positive(t, n)
				require.True(t, n == 1 || len(part) <= messageMax, "message %d has %d bytes and %d publications", i, len(part), n)
			}
		}
	}
}

// payloads takes the frames of a layout apart.
func payloads(t *testing.T, b []byte) (list [][]byte) {
	t.Helper()
	var reader wire.Reader
	for len(b) > 0 {
		event, payload, n, closeErr := reader.Next(b, wire.RoleClient, 1<<30)
		require.Nil(t, closeErr)
		require.Positive(t, n)
		require.Contains(t, []wire.Event{wire.EventText, wire.EventBinary}, event)
		list = append(list, bytes.Clone(payload))
		b = b[n:]
	}
	return list
}

// decodePushes calls fn for each push of a message.
func decodePushes(v bus.Variant, message []byte, fn func()) error {
	if v == bus.VariantJSON {
		for _, line := range bytes.Split(message, []byte("\n")) {
			if !bytes.HasPrefix(line, []byte(`{"push":{`)) || !bytes.HasSuffix(line, []byte("}}}")) {
				return fmt.Errorf("not a push: %.80q", line)
			}
			fn()
		}
		return nil
	}
	for len(message) > 0 {
		size, n := uvarint(message)
		if n == 0 || len(message) < n+size {
			return fmt.Errorf("not a push: %.80q", message)
		}
		message = message[n+size:]
		fn()
	}
	return nil
}

func uvarint(b []byte) (value, n int) {
	for n < len(b) {
		value |= int(b[n]&0x7f) << (7 * n)
		n++
		if b[n-1] < 0x80 {
			return value, n
		}
	}
	return 0, 0
}

// At the default many records of one batch come in messages that any client takes, in one write.
func TestManyMessagesOneWrite(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.Limits.MessageOutMax = 32 << 10 })
	var c *client
	r.during(func() { c = r.join("a") })
	writes := r.shard.stats.Writes.Load()
	r.publish("a", many(300, 100)...)
	r.step()
	require.Equal(t, writes+1, r.shard.stats.Writes.Load())
	next := 0
	r.during(func() {
		for next < 300 {
			event, message, err := c.next()
			if err != nil || event != wire.EventText || len(message) > 32<<10 {
				t.Errorf("message of %d bytes, event %v, error %v", len(message), event, err)
				return
			}
			for _, line := range strings.Split(message, "\n") {
				require.Contains(t, line, fmt.Sprintf(`"data":%0100d,`, next))
				next++
			}
		}
	})
	c.send(ws.OpText, `{"id":9,"rpc":{}}`)
}
