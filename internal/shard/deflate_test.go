package shard

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/httphead"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// slowDeflater compresses at once, but does posted jobs only when the test says so.
type slowDeflater struct {
	mu   sync.Mutex
	jobs []func()
	room int // Jobs that it takes; negative: any number.
}

func (d *slowDeflater) Append(dst, payload []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 3)
	_, _ = w.Write(payload)
	_ = w.Flush()
	return append(dst, b.Bytes()[:b.Len()-4]...)
}

func (d *slowDeflater) Post(job func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.room == 0 {
		return false
	}
	d.room--
	d.jobs = append(d.jobs, job)
	return true
}

func (d *slowDeflater) posted() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.jobs)
}

// do does job i of those that wait.
func (d *slowDeflater) do(i int) {
	d.mu.Lock()
	job := d.jobs[i]
	d.jobs = slices.Delete(d.jobs, i, i+1)
	d.mu.Unlock()
	job()
}

const (
	testLeast  = 200
	testInline = 4000
)

func newDeflateRig(t testing.TB, change func(*Options)) (*rig, *slowDeflater) {
	t.Helper()
	d := &slowDeflater{room: -1}
	// Nothing is detached: on a busy machine a turn of compression may take long.
	return newRigStalling(t, waitMax, func(o *Options) {
		o.Deflate = Deflate{Deflater: d, Least: testLeast, Inline: testInline}
		if change != nil {
			change(o)
		}
	}), d
}

// dialDeflate connects and offers permessage-deflate, as browsers do.
func (r *rig) dialDeflate(path string) *client {
	r.t.Helper()
	c := r.open()
	request := wire.AppendClientHandshake(nil, r.address, path, "", testKey)
	c.write(append(request[:len(request)-2], "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"...))
	status, body := c.response()
	require.Equal(r.t, 101, status, body)
	require.Equal(r.t, "permessage-deflate; server_no_context_takeover; client_no_context_takeover", c.header.Get("Sec-Websocket-Extensions"))
	c.reader.AllowDeflate()
	return c
}

// joinDeflate is join with compression.
func (r *rig) joinDeflate(channel string) *client {
	r.t.Helper()
	c := r.dialDeflate(pathProtocol)
	c.send(ws.OpText, `{"id":1,"connect":{}}`+"\n"+fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, channel))
	require.Contains(r.t, c.message(wire.EventText), `{"id":2,"subscribe":{`)
	return c
}

// inflated reads the next message, which must be compressed or not as said.
func (c *client) inflated(compressed bool) string {
	c.t.Helper()
	event, payload, err := c.next()
	require.NoError(c.t, err)
	require.Equal(c.t, compressed, event == wire.EventDeflatedText || event == wire.EventDeflatedBinary, "event %d: %.80q", event, payload)
	if !compressed {
		return payload
	}
	var f wire.Inflater
	_, out, closeErr := f.Inflate(event, []byte(payload), 64<<20)
	require.Nil(c.t, closeErr)
	return string(out)
}

func (c *client) sendDeflated(payload string) {
	c.t.Helper()
	c.write(deflatedMessage(payload))
}

// deflatedMessage returns a client's compressed message.
func deflatedMessage(payload string) []byte {
	b := wire.AppendMasked(nil, ws.OpText, (&slowDeflater{}).Append(nil, []byte(payload)), [4]byte{1, 2, 3, 4})
	b[0] |= 0x40
	return b
}

func jsonOf(n int, seed uint64) string {
	random := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	for b.WriteString(`{"items":[0`); b.Len() < n-2; {
		fmt.Fprintf(&b, `,%d`, random.IntN(10000))
	}
	return b.String() + "]}"
}

// Compressing clients get what the others get; large enough messages compressed, one compression for all of them.
func TestDeflateDelivery(t *testing.T) {
	r, d := newDeflateRig(t, nil)
	plainRaw, raw, raw2 := r.dial("/ws?channel=a"), r.dialDeflate("/ws?channel=a"), r.dialDeflate("/ws?channel=a")
	plainJSON, json := r.join("a"), r.joinDeflate("a")
	long, short, binary := jsonOf(600, 1), `{"n":1}`, "\xff"+strings.Repeat("b", 300)
	r.publish("a", short, long, binary, "\x00")
	for _, c := range []*client{raw, raw2} {
		require.Equal(t, short, c.inflated(false))
		require.Equal(t, long, c.inflated(true))
		require.Equal(t, binary, c.inflated(true))
	}
	require.Equal(t, short, plainRaw.message(wire.EventText))
	require.Equal(t, long, plainRaw.message(wire.EventText))
	require.Equal(t, binary, plainRaw.message(wire.EventBinary))
	require.Equal(t, plainJSON.message(wire.EventText), json.inflated(true))
	r.publish("a", short)
	require.Equal(t, short, raw.inflated(false))
	require.Equal(t, plainJSON.message(wire.EventText), json.inflated(false))
	require.Zero(t, d.posted())
	require.EqualValues(t, 3, r.shard.Stats().Compressed.Load())
}

// Protobuf too.
func TestDeflateProtobuf(t *testing.T) {
	r, _ := newDeflateRig(t, nil)
	plain := r.joinProtobuf("a")
	c := protobufClient{r.dialDeflate(pathProtocol + "?cf_protocol=protobuf")}
	c.command(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}}, &protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "a"}})
	require.Len(t, c.replies(), 2)
	r.publish("a", jsonOf(600, 1), jsonOf(600, 2))
	require.Equal(t, plain.message(wire.EventBinary), c.inflated(true))
}

// Without the option nothing is negotiated.
func TestDeflateOff(t *testing.T) {
	r := newRig(t, nil)
	c := r.open()
	request := wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey)
	c.write(append(request[:len(request)-2], "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"...))
	status, _ := c.response()
	require.Equal(t, 101, status)
	require.Empty(t, c.header.Values("Sec-Websocket-Extensions"))
	b := wire.AppendMasked(nil, ws.OpText, []byte("\x00"), [4]byte{1, 2, 3, 4})
	b[0] |= 0x40
	c.write(b)
	code, _ := c.closed()
	require.EqualValues(t, 1002, code)
}

// What follows a large segment waits behind it, for those who wait only; results that come in another order change
// nothing.
func TestDeflateElsewhere(t *testing.T) {
	r, d := newDeflateRig(t, nil)
	plain, raw, json := r.dial("/ws?channel=a"), r.dialDeflate("/ws?channel=a"), r.joinDeflate("a")
	first, second := jsonOf(9000, 1), jsonOf(9000, 2)
	r.publish("a", first)
	require.Equal(t, first, plain.message(wire.EventText), "others do not wait")
	r.publish("a", `{"n":1}`)
	r.publish("a", second)
	r.publish("a", `{"n":2}`)
	for _, want := range []string{`{"n":1}`, second, `{"n":2}`} {
		require.Equal(t, want, plain.message(wire.EventText))
	}
	raw.send(ws.OpPing, "p")
	eventually(t, "posted", func() bool { return d.posted() == 4 })
	stats := r.shard.Stats()
	eventually(t, "queued with the plain size", func() bool { return stats.OutboundBytes.Load() > 4*9000 })
	deliveries := stats.Deliveries.Load()
	require.EqualValues(t, 4, deliveries)
	for _, i := range []int{3, 2, 1, 0} { // The last first.
		require.NoError(t, raw.conn.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err := raw.in.Peek(1)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout, "nothing is sent before its turn")
		d.do(i)
	}
	require.NoError(t, raw.conn.SetReadDeadline(time.Now().Add(waitMax)))
	require.Equal(t, first, raw.inflated(true))
	require.Equal(t, `{"n":1}`, raw.inflated(false))
	require.Equal(t, second, raw.inflated(true))
	require.Equal(t, `{"n":2}`, raw.inflated(false))
	require.Equal(t, "p", raw.message(wire.EventPong))
	for _, want := range []string{first, `{"n":1}`, second, `{"n":2}`} {
		require.Contains(t, json.inflated(len(want) > testLeast), want)
	}
	eventually(t, "queues empty", func() bool { return stats.OutboundBytes.Load() == 0 })
	eventually(t, "counted", func() bool { return stats.Deliveries.Load() == 12 })
	require.Zero(t, stats.Dropped.Load())
}

// When the pool has no room the segment goes out plain, at once, to everybody.
func TestDeflateSaturated(t *testing.T) {
	r, d := newDeflateRig(t, nil)
	d.room = 1
	raw, raw2 := r.dialDeflate("/ws?channel=a"), r.dialDeflate("/ws?channel=a")
	first, second := jsonOf(9000, 1), jsonOf(9000, 2)
	r.publish("a", first)
	r.publish("a", second)
	eventually(t, "posted", func() bool { return d.posted() == 1 })
	d.do(0)
	for _, c := range []*client{raw, raw2} {
		require.Equal(t, first, c.inflated(true))
		require.Equal(t, second, c.inflated(false))
	}
}

// A connection that ends while it waits is told off with what it waited for; a new one in its slot gets nothing of
// the old one's.
func TestDeflateClosing(t *testing.T) {
	r, d := newDeflateRig(t, nil)
	value := jsonOf(9000, 1)
	for _, how := range []string{"close frame", "gone"} {
		c := r.dialDeflate("/ws?channel=a")
		r.publish("a", value)
		eventually(t, "posted", func() bool { return d.posted() == 1 })
		if how == "close frame" {
			c.send(ws.OpClose, "\x03\xe8")
			require.Equal(t, value, c.inflated(false))
			code, _ := c.closed()
			require.EqualValues(t, 1000, code)
		}
		require.NoError(t, c.conn.Close())
		stats := r.shard.Stats()
		eventually(t, "ended", func() bool { return stats.Connections.Load() == 0 })
		next := r.dialDeflate("/ws?channel=a")
		r.publish("a", `{"n":1}`)
		d.do(0)
		require.Equal(t, `{"n":1}`, next.inflated(false))
		require.NoError(t, next.conn.Close())
		eventually(t, "ended", func() bool { return stats.Connections.Load() == 0 })
	}
}

// A shard does not wait for the pool to end.
func TestDeflateShutdown(t *testing.T) {
	r, d := newDeflateRig(t, nil)
	c := r.dialDeflate("/ws?channel=a")
	value := jsonOf(9000, 1)
	r.publish("a", value)
	eventually(t, "posted", func() bool { return d.posted() == 1 })
	done := make(chan struct{})
	go func() { defer close(done); r.stop(waitMax) }()
	require.Equal(t, value, c.inflated(false))
	code, _ := c.closed()
	require.EqualValues(t, 1001, code)
	<-done
	d.do(0) // Its result finds nobody.
}

// Compressed commands are understood, in fragments and with control frames between; what is wrong with them closes
// one client.
func TestDeflatedCommands(t *testing.T) {
	r, _ := newDeflateRig(t, nil)
	c := r.dialDeflate(pathProtocol)
	c.sendDeflated(`{"id":1,"connect":{}}`)
	require.Contains(t, c.message(wire.EventText), `{"id":1,"connect":{"client":"`)
	data := (&slowDeflater{}).Append(nil, []byte(`{"id":2,"subscribe":{"channel":"a"}}`))
	for i, piece := range [][]byte{data[:3], data[3:10], data[10:]} {
		op := ws.OpContinuation
		if i == 0 {
			op = ws.OpText
		}
		b := wire.AppendMasked(nil, op, piece, [4]byte{1, 2, 3, 4})
		if i == 0 {
			b[0] |= 0x40
		}
		if i < 2 {
			b[0] &^= 0x80
		}
		c.write(b)
		c.send(ws.OpPing, "between")
		if i < 2 {
			require.Equal(t, "between", c.message(wire.EventPong))
		}
	}
	require.Contains(t, c.message(wire.EventText), `{"id":2,"subscribe":{`)
	c.message(wire.EventPong)
	require.EqualValues(t, 2, r.shard.Stats().Inflated.Load())

	for _, test := range []struct {
		payload string
		code    uint16
		reason  Reason
	}{
		{"garbage in a frame", 1007, ReasonProtocolError},
		{string((&slowDeflater{}).Append(nil, []byte("\xff\xfe"))), 1007, ReasonProtocolError},
		{string((&slowDeflater{}).Append(nil, bytes.Repeat([]byte(" "), testLimits().MessageMax+1))), 1009, ReasonTooBig},
		{string((&slowDeflater{}).Append(nil, []byte("no command"))), 3501, ReasonBadRequest},
	} {
		before := r.reason(test.reason)
		bad := r.dialDeflate(pathProtocol)
		b := wire.AppendMasked(nil, ws.OpText, []byte(test.payload), [4]byte{1, 2, 3, 4})
		b[0] |= 0x40
		bad.write(b)
		code, _ := bad.closed()
		require.Equal(t, test.code, code)
		require.NoError(t, bad.conn.Close())
		eventually(t, "counted", func() bool { return r.reason(test.reason) == before+1 })
	}
}

// Many clients of every kind, random values, channels and delays of the pool: each reads what was published, in order.
func TestDeflateOrder(t *testing.T) {
	r, d := newDeflateRig(t, func(o *Options) {
		o.Limits.OutboundMax, o.Limits.PingInterval = 8<<20, 24*time.Hour // Nobody answers pings, however long it takes.
	})
	random := rand.New(rand.NewPCG(8, 9))
	var clients []*client
	for i := range 12 {
		if i%4 == 0 {
			clients = append(clients, r.dial("/ws?channel=a&channel=b"))
		} else {
			clients = append(clients, r.dialDeflate("/ws?channel=a&channel=b"))
		}
	}
	done := make(chan struct{})
	var worker sync.WaitGroup
	worker.Go(func() {
		random := rand.New(rand.NewPCG(10, 11))
		for {
			if n := d.posted(); n > 0 && random.IntN(3) == 0 {
				d.do(random.IntN(n))
				continue
			}
			select {
			case <-done:
				return
			default:
				runtime.Gosched()
			}
		}
	})
	want := map[byte][]string{} // By channel, whose name is in each value: there is no order between channels.
	total := 0
	for i := range 300 {
		channel := []string{"a", "b"}[random.IntN(2)]
		values := make([]string, random.IntN(4)+1)
		for j := range values {
			values[j] = fmt.Sprintf(`{"%s":%d,"v":%s}`, channel, i, jsonOf([]int{20, 300, 3000, 9000}[random.IntN(4)], random.Uint64()))
		}
		r.publish(channel, values...)
		want[channel[0]] = append(want[channel[0]], values...)
		total += len(values)
	}
	for _, c := range clients {
		var f wire.Inflater
		next := map[byte]int{}
		for range total {
			event, payload, err := c.next()
			require.NoError(t, err)
			if event == wire.EventDeflatedText {
				_, out, closeErr := f.Inflate(event, []byte(payload), 1<<20)
				require.Nil(t, closeErr)
				payload = string(out)
			}
			channel := payload[2]
			require.Equal(t, want[channel][next[channel]], payload)
			next[channel]++
		}
	}
	close(done)
	worker.Wait()
	for d.posted() > 0 {
		d.do(0)
	}
}

// An independent client: gobwas/ws with its own extension and another inflater.
func TestDeflateGobwas(t *testing.T) {
	r, _ := newDeflateRig(t, nil)
	dialer := ws.Dialer{
		Extensions: []httphead.Option{wsflate.DefaultParameters.Option()}, TLSConfig: &tls.Config{InsecureSkipVerify: true},
	}
	conn, buffered, hs, err := dialer.Dial(t.Context(), map[bool]string{false: "ws://", true: "wss://"}[r.tls]+r.address+
		"/ws?channel=a")
	require.NoError(t, err)
	require.Nil(t, buffered)
	defer conn.Close()
	require.Len(t, hs.Extensions, 1)
	var params wsflate.Parameters
	require.NoError(t, params.Parse(hs.Extensions[0]))
	require.True(t, params.ServerNoContextTakeover && params.ClientNoContextTakeover)
	value := jsonOf(1500, 1)
	r.publish("a", value, value)
	require.NoError(t, conn.SetDeadline(time.Now().Add(waitMax)))
	for range 2 {
		frame, err := ws.ReadFrame(conn)
		require.NoError(t, err)
		require.Less(t, len(frame.Payload), len(value))
		frame, err = wsflate.DecompressFrame(frame)
		require.NoError(t, err)
		require.Equal(t, value, string(frame.Payload))
	}
}
