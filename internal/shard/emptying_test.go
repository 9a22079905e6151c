package shard

import (
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"golang.org/x/sys/unix"

	"wsd/internal/wire"
)

// slowReader is a raw client for which more waits than the kernel takes, and which the test lets read.
type slowReader struct {
	*rig
	client *client
	conn   *conn
	buf    []byte
}

func newSlowReader(t *testing.T, change func(*Options)) *slowReader {
	t.Helper()
	r := newStepped(t, func(o *Options) {
		o.Limits.OutboundMax, o.Limits.PingInterval, o.Limits.PongTimeout = 4<<20, 100*time.Second, 10*time.Second
		o.Limits.CloseGrace = 5 * time.Second
		change(o)
	})
	s := &slowReader{rig: r, buf: make([]byte, 1<<20)}
	r.during(func() {
		s.client = r.dial("/ws?channel=a")
		for range 3 { // So that one client is no reason to brake.
			r.dial("/ws?channel=b")
		}
	})
	require.NoError(t, tcp(s.client.conn).SetReadBuffer(4096))
	s.conn = r.shard.slab.get(0)
	for s.conn.out.cost < 1<<20 {
		r.publish("a", strings.Repeat("1", 16<<10))
		r.step()
	}
	return s
}

// after lets time pass.
func (s *slowReader) after(d time.Duration) {
	s.shard.start = s.shard.start.Add(-d)
	s.step()
}

// read lets the client read until the peer's kernel has acknowledged more, and steps until the shard has written again.
func (s *slowReader) read() {
	before, _ := s.conn.acked()
	eventually(s.t, "bytes leave", func() bool {
		n, _ := s.client.readNow(s.buf)
		s.client.buf = append(s.client.buf, s.buf[:max(n, 0)]...)
		s.step()
		acked, _ := s.conn.acked()
		return acked > before
	})
}

// A client that takes bytes is not closed for a pong that it cannot have been asked for yet; one that takes nothing is.
func TestPongAfterBacklog(t *testing.T) {
	s := newSlowReader(t, func(*Options) {})
	s.after(100 * time.Second)
	require.Positive(t, s.conn.pings)
	for range 10 {
		s.read()
		s.after(11 * time.Second)
		require.True(t, s.conn.isClient(), "it takes bytes")
	}
	s.after(11 * time.Second)
	require.False(t, s.conn.isClient(), "it takes nothing")
	require.Equal(t, ReasonNoPong, s.conn.reason)
}

// The ping overtakes what waits in wsd: it comes after what the kernel has, and its pong ends the matter.
func TestPingOvertakesBacklog(t *testing.T) {
	s := newSlowReader(t, func(*Options) {})
	waiting := s.conn.out.cost
	s.after(100 * time.Second)
	var event wire.Event
	before := 0
	s.during(func() {
		for event != wire.EventPing {
			var payload string
			event, payload, _ = s.client.next()
			before += len(payload)
		}
	})
	require.Less(t, before, waiting/2, "bytes before the ping")
	s.client.send(ws.OpPong, "")
	eventually(t, "the pong is seen", func() bool { s.step(); return s.conn.pings == 0 })
	require.False(t, s.conn.emptying)
	require.NotContains(t, s.shard.emptying, s.conn.slot)
}

// The close frame reaches a client that reads slowly; one that reads nothing is reset after CloseGrace, and none goes
// on for longer than closingMax.
func TestCloseFrameAfterBacklog(t *testing.T) {
	t.Run("reads", func(t *testing.T) {
		s := newSlowReader(t, func(*Options) {})
		s.shard.end(s.conn, ReasonSlow)
		for range 3 {
			s.read()
			s.after(6 * time.Second)
			require.Equal(t, stateClosing, s.conn.state)
		}
		s.during(func() {
			for {
				event, payload, err := s.client.next()
				if err != nil {
					t.Error(err)
					return
				}
				if event == wire.EventClose {
					code, _, _ := wire.CloseCode([]byte(payload))
					require.EqualValues(t, 1008, code)
					return
				}
			}
		})
	})
	t.Run("reads nothing", func(t *testing.T) {
		s := newSlowReader(t, func(*Options) {})
		s.shard.end(s.conn, ReasonSlow)
		s.after(6 * time.Second)
		require.Equal(t, stateClosing, s.conn.state, "whether bytes leave is not known yet")
		s.after(6 * time.Second)
		require.Equal(t, stateFree, s.conn.state)
	})
	t.Run("for too long", func(t *testing.T) {
		s := newSlowReader(t, func(*Options) {})
		s.shard.end(s.conn, ReasonShutdown)
		for n := 0; s.conn.state == stateClosing; n++ {
			require.Less(t, n, 8)
			s.read()
			s.after(6 * time.Second)
		}
	})
}

// A client that takes nothing is closed by the kernel's timeout, whatever pongs it sends.
func TestNoProgress(t *testing.T) {
	s := newSlowReader(t, func(o *Options) {
		require.NoError(t, unix.SetsockoptInt(o.Listeners[0], unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1000))
	})
	pong := wire.AppendMasked(nil, ws.OpPong, nil, [4]byte{1, 2, 3, 4})
	eventually(t, "closed", func() bool {
		_, _ = s.client.conn.Write(pong) // Fails in the end.
		s.step()
		return s.conn.state == stateFree
	})
	require.EqualValues(t, 1, s.reason(ReasonNoProgress))
}
