package shard

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/wire"
)

const upgradeLines = " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

func TestHTTPAnswers(t *testing.T) {
	r := newRig(t, nil)
	for _, test := range []struct {
		request string
		status  int
		body    string
	}{
		{"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ok"},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426, helpLine},
		{"GET /ws?channel=a HTTP/1.1\r\nHost: x\r\n\r\n", 426, helpLine},
		{"GET /nowhere" + upgradeLines + "\r\n", 404, "No such path. " + helpLine},
		{"GET /ws" + upgradeLines + "\r\n", 400, "Name at least one channel: /ws?channel=NAME."},
		{"GET /ws?channel=" + upgradeLines + "\r\n", 400, "A channel name must be non-empty UTF-8."},
		{"GET /ws?channel=%ff" + upgradeLines + "\r\n", 400, "A channel name must be non-empty UTF-8."},
		{"GET /ws?channel=%" + upgradeLines + "\r\n", 400, "The query parameter channel is malformed: percent-encode special characters."},
		{"GET /ws?channel=a&channel=a" + upgradeLines + "\r\n", 400, "A channel is named twice."},
		{"GET /ws?channel=" + strings.Repeat("x", 65) + upgradeLines + "\r\n", 400, "A channel name has 65 bytes, at most 64 allowed (client.channel_length_max)."},
		{"GET /ws?channel=1&channel=2&channel=3&channel=4&channel=5&channel=6&channel=7&channel=8&channel=9" + upgradeLines + "\r\n", 400, "9 channels named, at most 8 allowed (client.channels_max)."},
		{"GET /ws?channel=" + strings.Repeat("x", 9000) + upgradeLines + "\r\n", 431, "The upgrade request is longer than client.head_max allows."},
	} {
		c := r.open()
		c.write([]byte(test.request))
		status, body := c.response()
		require.Equal(t, test.status, status, test.request)
		require.Equal(t, test.body, body)
		_ = c.conn.Close()
	}
	r.serving.Store(false)
	c := r.open()
	c.write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
	status, body := c.response()
	require.Equal(t, 503, status)
	require.Equal(t, "not serving", body)
	_ = c.conn.Close()
	stats := r.shard.Stats()
	eventually(t, "counted", func() bool { return stats.Connections.Load() == 0 })
	require.EqualValues(t, 4, r.reason(ReasonHTTP))
	require.EqualValues(t, 9, r.reason(ReasonHandshakeRejected))
	require.Equal(t, map[wire.Cause]uint64{causePath: 1, causeChannel: 5, causeQuery: 1, causeChannelsMax: 1, causeHeadMax: 1}, r.refused())
}

func TestShardHeader(t *testing.T) {
	r := newRig(t, func(o *Options) { o.ShardHeader = true })
	c := r.dial("/ws?channel=a")
	require.Equal(t, "0", c.header.Get("X-Wsd-Shard"))
}

// A request may come byte by byte, with frames right behind it, but not for ever.
func TestSlowHandshake(t *testing.T) {
	r := newRig(t, nil)
	c := r.open()
	request := append(wire.AppendClientHandshake(nil, r.address, pathProtocol, "", testKey), wire.AppendMasked(nil, ws.OpText, []byte(`{"id":1,"connect":{}}`), [4]byte{})...)
	for i := range request {
		c.write(request[i : i+1])
	}
	status, _ := c.response()
	require.Equal(t, http.StatusSwitchingProtocols, status)
	require.Contains(t, c.message(wire.EventText), `{"id":1,"connect":{`)
}

func TestHandshakeTimeout(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.HandshakeTimeout = 150 * time.Millisecond })
	silent, partial := r.open(), r.open()
	partial.write([]byte("GET /ws?channel=a HTTP/1.1\r\n"))
	for _, c := range []*client{silent, partial} {
		status, _ := c.response()
		require.Equal(t, http.StatusRequestTimeout, status)
		_ = c.conn.Close()
	}
	eventually(t, "counted", func() bool { return r.reason(ReasonHandshakeTimeout) == 2 })
}

func TestFrames(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.MessageMax = 1000 })
	mask := [4]byte{9, 8, 7, 6}
	for _, test := range []struct {
		name   string
		send   []byte
		code   uint16
		reason Reason
	}{
		{"unmasked", wire.AppendFrame(nil, ws.OpText, []byte("x")), 1002, ReasonProtocolError},
		{"reserved opcode", wire.AppendMasked(nil, 3, nil, mask), 1002, ReasonProtocolError},
		{"bad UTF-8", wire.AppendMasked(nil, ws.OpText, []byte("\xff"), mask), 1007, ReasonProtocolError},
		{"too big, from the header alone", wire.AppendMasked(nil, ws.OpText, make([]byte, 1001), mask)[:8], 1009, ReasonTooBig},
		{"close", wire.AppendMasked(nil, ws.OpClose, []byte("\x03\xe8bye"), mask), 1000, ReasonClient},
		{"close without code", wire.AppendMasked(nil, ws.OpClose, nil, mask), 1000, ReasonClient},
		{"close with half a code", wire.AppendMasked(nil, ws.OpClose, []byte{3}, mask), 1002, ReasonProtocolError},
		{"close with a code of its own", wire.AppendMasked(nil, ws.OpClose, []byte{0x0f, 0xa1}, mask), 4001, ReasonClient},
	} {
		before := r.reason(test.reason)
		c := r.dial("/ws?channel=a")
		c.write(test.send)
		code, _ := c.closed()
		require.Equal(t, test.code, code, test.name)
		_ = c.conn.Close()
		eventually(t, test.name, func() bool { return r.reason(test.reason) == before+1 })
	}
	// A raw client may say what it likes, in fragments too; nobody listens.
	c := r.dial("/ws?channel=a")
	c.send(ws.OpText, strings.Repeat("x", 1000))
	fragment := wire.AppendMasked(nil, ws.OpText, []byte("part"), mask)
	fragment[0] &^= 0x80
	c.write(fragment)
	c.send(ws.OpPing, "between")
	require.Equal(t, "between", c.message(wire.EventPong))
	c.send(ws.OpContinuation, "end")
	r.publish("a", "1")
	require.Equal(t, "1", c.message(wire.EventText))
}

// A message of the largest size arrives whole; an incomplete one is not waited for.
func TestMessageTiming(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.FrameTimeout = 300 * time.Millisecond })
	c := r.join()
	command := `{"id":2,"subscribe":{"channel":"a","data":"` + strings.Repeat("x", 64<<10)
	command = command[:64<<10-3] + `"}}`
	frame := wire.AppendMasked(nil, ws.OpText, []byte(command), [4]byte{1})
	for len(frame) > 0 {
		n := min(len(frame), 3000)
		c.write(frame[:n])
		frame = frame[n:]
	}
	require.Equal(t, `{"id":2,"subscribe":{}}`, c.message(wire.EventText))

	c.write(wire.AppendMasked(nil, ws.OpText, []byte("{}"), [4]byte{1})[:5])
	code, _ := c.closed()
	require.Equal(t, uint16(3502), code)
	_ = c.conn.Close()
	eventually(t, "counted", func() bool { return r.reason(ReasonFrameTimeout) == 1 })
}

// Without a free descriptor clients wait in the backlog, the loop does not spin, and it goes on when there is one
// again.
func TestDescriptorsExhausted(t *testing.T) {
	r := newRig(t, nil)
	stats := r.shard.Stats()
	address, err := net.ResolveTCPAddr("tcp", r.address)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fd), "client")
	restore := limitFiles(t, 3) // Every descriptor below it is taken.
	require.NoError(t, unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: address.Port}))
	eventually(t, "tried several times", func() bool { return stats.AcceptErrors.Load() >= 3 })
	require.EqualValues(t, 1, stats.PauseAccepts.Load())
	require.Less(t, stats.Turns.Load(), uint64(100), "the loop spins")
	restore()
	eventually(t, "accepted", func() bool { return stats.Connections.Load() == 1 })
	require.Zero(t, stats.PauseAccepts.Load())
	require.NoError(t, file.Close())
}

// Some descriptors are kept for other uses: clients beyond them wait in the backlog, too.
func TestDescriptorsKept(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Descriptors = &Descriptors{Max: 2} })
	stats := r.shard.Stats()
	first, second := r.open(), r.open()
	eventually(t, "accepted", func() bool { return stats.Connections.Load() == 2 })
	third := r.open()
	eventually(t, "paused", func() bool { return stats.PauseAccepts.Load() == 1 && stats.AcceptErrors.Load() >= 2 })
	require.EqualValues(t, 2, stats.Connections.Load())
	require.NoError(t, first.conn.Close())
	eventually(t, "the third takes the place", func() bool { return stats.Accepted.Load() == 3 && stats.Connections.Load() == 2 })
	require.NoError(t, second.conn.Close())
	require.NoError(t, third.conn.Close())
	eventually(t, "accepting again", func() bool { return stats.PauseAccepts.Load() == 0 })
}

// Of many pings one pong may be the answer, and pongs that nobody reads do not pile up.
func TestPingFlood(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	c := r.dial("/ws?channel=a")
	stats := r.shard.Stats()
	const pings = 200_000
	flood := bytes.Repeat(wire.AppendMasked(nil, ws.OpPing, nil, [4]byte{1}), 1000)
	for range pings / 1000 {
		c.write(flood)
	}
	c.send(ws.OpPing, "last")
	eventually(t, "all read", func() bool { return stats.FramesIn.Load() == pings+1 })
	require.Less(t, stats.OutboundBytes.Load(), int64(64<<10))
	pongs := 0
	for last := ""; last != "last"; pongs++ {
		last = c.message(wire.EventPong)
	}
	require.LessOrEqual(t, pongs, pings+1)
	require.EqualValues(t, 1, stats.Clients.Load())
}

// A client whose frames all come in time is not closed, however the segments cut them.
func TestFrameTimingPerMessage(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.FrameTimeout = 2 * time.Second })
	c := r.dial("/ws?channel=a")
	pong := wire.AppendMasked(nil, ws.OpPong, []byte("12345678"), [4]byte{1})
	c.write(pong[:5])
	for range 25 {
		time.Sleep(100 * time.Millisecond) // Longer than the limit in all, and never idle between two messages.
		c.write(append(pong[5:len(pong):len(pong)], pong[:5]...))
	}
	require.EqualValues(t, 1, r.shard.Stats().Clients.Load())
	eventually(t, "an incomplete one is still timed", func() bool { return r.reason(ReasonFrameTimeout) == 1 })
}

type positionsFunc func()

func (f positionsFunc) Position(string) (uint64, string, bool) {
	f()
	return 0, "", false
}

func (positionsFunc) Settled(string) bool { return true }

// Whoever has seen the 101 misses nothing from then on: it is written after the subscription.
func TestSubscribedBeforeAnswer(t *testing.T) {
	var r *rig
	asked := 0
	r = newStepped(t, func(o *Options) {
		o.Positions = positionsFunc(func() {
			asked++
			require.Zero(t, r.shard.sender.counts.writes)
		})
	})
	r.during(func() { r.dial("/ws?channel=a&channel=b") })
	require.Equal(t, 2, asked)
}
