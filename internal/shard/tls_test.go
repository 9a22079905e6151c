package shard

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/tlshandshake"
	"wsd/internal/tlsrecord"
	"wsd/internal/wire"
)

// tlsConfigs are clients of each version and suite.
func tlsConfigs() map[string]*tls.Config {
	configs := map[string]*tls.Config{"TLS 1.3": {MinVersion: tls.VersionTLS13}}
	for _, suite := range []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	} {
		configs[tls.CipherSuiteName(suite)] = &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}
	}
	return configs
}

func (c *client) upgrade(r *rig, path string) {
	c.t.Helper()
	c.write(wire.AppendClientHandshake(nil, r.address, path, "", testKey))
	status, body := c.response()
	require.Equal(c.t, 101, status, body)
}

// Clients of each version get their records, also when they come back with a ticket, and what they send arrives.
func TestTLS(t *testing.T) {
	r := newTLSRig(t, nil)
	for name, config := range tlsConfigs() {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for round := range 2 {
			c := r.openTLS(config.Clone())
			require.Equal(t, round == 1, c.conn.(*tls.Conn).ConnectionState().DidResume, name)
			c.upgrade(r, "/ws?channel=a")
			for n := range 20 {
				text := fmt.Sprint(n, strings.Repeat("x", n*n*n*10))
				r.publish("a", text)
				require.Equal(t, text, c.message(wire.EventText))
			}
			c.send(ws.OpPing, "payload")
			require.Equal(t, "payload", c.message(wire.EventPong))
			c.send(ws.OpClose, "\x03\xe8")
			code, _ := c.closed()
			require.EqualValues(t, 1000, code)
		}
	}
	results := r.shard.opts.TLS.Handshakes.Stats()
	require.EqualValues(t, 4, results.Results[tlshandshake.ResultFull].Load())
	require.EqualValues(t, 4, results.Results[tlshandshake.ResultResumed].Load())
	require.EqualValues(t, 6, results.TLS12.Load())
	require.Zero(t, results.Pending.Load())
	eventually(t, "the connections end", func() bool { return r.reason(ReasonClient) == 8 })
}

// corked is a connection whose writes wait for the next read, or uncork: so that they come in one packet.
type corked struct {
	net.Conn
	mu   sync.Mutex
	held []byte
}

func (c *corked) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = append(c.held, b...)
	return len(b), nil
}

func (c *corked) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Conn.Write(c.held)
	c.held = nil
	return err
}

func (c *corked) Read(b []byte) (int, error) {
	if err := c.uncork(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// What a client sends right behind its last message of the handshake is not lost, however long it is.
func TestTLSBehindTheHandshake(t *testing.T) {
	for _, length := range []int{0, 10 << 10, 60 << 10} {
		r := newTLSRig(t, func(o *Options) { o.Limits.HeadMax = 100 << 10 })
		c := r.openPlain()
		c.conn = &corked{Conn: c.conn}
		require.NoError(t, startTLS(c, &tls.Config{MinVersion: tls.VersionTLS13}).Handshake()) // Its Finished is held.
		c.upgrade(r, "/ws?channel=a&"+strings.Repeat("x", length))
		r.publish("a", "text")
		require.Equal(t, "text", c.message(wire.EventText))
	}
}

// Clients that halt in any moment of their handshake keep nobody out.
func TestTLSHalted(t *testing.T) {
	const pendingMax = 64 // More than compute at once: of 120 clients 80 halt behind their ClientHello.
	r := newRig(t, func(o *Options) { o.TLS.Handshakes = newHandshakesFor(t, pendingMax) })
	r.tls = true
	hello := clientHello(t)
	stats := r.shard.opts.TLS.Handshakes.Stats()
	for n := range 120 {
		c := r.openPlain()
		if n%3 == 0 {
			c.write(hello[:n%len(hello)])
		} else {
			c.write(hello)
		}
	}
	for range 3 {
		c := r.dial("/ws?channel=a")
		r.publish("a", "text")
		require.Equal(t, "text", c.message(wire.EventText))
	}
	eventually(t, "the first have given way", func() bool {
		return stats.Results[tlshandshake.ResultEvicted].Load() >= 80-pendingMax && stats.Pending.Load() <= pendingMax
	})
	require.Zero(t, stats.Results[tlshandshake.ResultRefused].Load())
}

// clientHello returns the first record of a client.
func clientHello(t *testing.T) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() { _ = tls.Client(a, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	buf := make([]byte, 16<<10)
	n, err := b.Read(buf)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	return buf[:n]
}

// A client that does not finish its handshake in time is closed.
func TestTLSHandshakeTimeout(t *testing.T) {
	r := newTLSRig(t, func(o *Options) { o.Limits.HandshakeTimeout = 100 * time.Millisecond })
	silent, halted := r.openPlain(), r.openPlain()
	halted.write(clientHello(t))
	for _, c := range []*client{silent, halted} {
		_, err := io.Copy(io.Discard, c.conn)
		require.ErrorContains(t, err, "reset")
	}
	eventually(t, "both are closed", func() bool { return r.reason(ReasonHandshakeTimeout) == 2 })
	stats := r.shard.opts.TLS.Handshakes.Stats()
	eventually(t, "the handshake ends", func() bool { return stats.Results[tlshandshake.ResultGone].Load() == 1 })
	require.Zero(t, stats.Pending.Load())
}

// Who speaks HTTP to a TLS port is told so; who speaks something else is closed.
func TestNotTLS(t *testing.T) {
	r := newTLSRig(t, nil)
	c := r.openPlain()
	c.write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	status, body := c.response()
	require.Equal(t, 400, status)
	require.Contains(t, body, "wss://")
	eventually(t, "it is counted", func() bool { return r.shard.Stats().Refused[causeIndex(causeNotTLS)].Load() == 1 })
	for n, garbage := range []string{"\x00\x01\x02", "\x16\x02\x00\x00\x05hello", "\x16\x03\x01\xff\xff"} {
		c = r.openPlain()
		c.write([]byte(garbage))
		_, _ = io.Copy(io.Discard, c.conn)
		eventually(t, "it is closed", func() bool { return r.reason(ReasonTLS) == uint64(n+1) })
	}
	c = r.openPlain()
	c.write([]byte("\x16\x03\x01\x00\x05hello")) // A record that crypto/tls refuses.
	answer, err := io.ReadAll(c.conn)
	require.NoError(t, err)
	require.Equal(t, "\x15\x03", string(answer[:2]), "an alert")
	eventually(t, "it is closed", func() bool { return r.reason(ReasonTLS) == 4 })
}

// The end of a client by close_notify and without it, and what comes right before it.
func TestTLSEndOfClient(t *testing.T) {
	r := newTLSRig(t, nil)
	for name, config := range tlsConfigs() {
		gone, truncated := r.reason(ReasonGone), r.shard.Stats().TLSTruncated.Load()
		c := r.openTLS(config.Clone())
		c.upgrade(r, "/ws?channel=a")
		require.NoError(t, c.conn.(*tls.Conn).CloseWrite()) // close_notify alone: the socket stays open.
		_, err := io.Copy(io.Discard, c.in)
		require.NoError(t, err, name)
		eventually(t, "it is closed", func() bool { return r.reason(ReasonGone) == gone+1 })
		require.Equal(t, truncated, r.shard.Stats().TLSTruncated.Load())

		c = r.openTLS(config.Clone())
		c.upgrade(r, "/ws?channel=a")
		require.NoError(t, tcp(c.conn).CloseWrite())
		_, err = io.Copy(io.Discard, c.in)
		require.NoError(t, err, name)
		eventually(t, "it is closed", func() bool { return r.reason(ReasonGone) == gone+2 })
		require.Equal(t, truncated+1, r.shard.Stats().TLSTruncated.Load())

		// A close frame and close_notify in one packet: the frame counts.
		closed := r.reason(ReasonClient)
		c = r.openPlain()
		cork := &corked{Conn: c.conn}
		c.conn = cork
		conn := startTLS(c, config.Clone())
		c.upgrade(r, "/ws?channel=a")
		c.send(ws.OpClose, "\x03\xe8")
		require.NoError(t, conn.CloseWrite())
		require.NoError(t, cork.SetDeadline(time.Now().Add(waitMax))) // CloseWrite has set another one.
		require.NoError(t, cork.uncork())
		eventually(t, "it is closed", func() bool { return r.reason(ReasonClient) == closed+1 })
	}
}

// tapped keeps what is read from a connection.
type tapped struct {
	net.Conn
	read bytes.Buffer
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Write(b[:n])
	return n, err
}

// The last record that a client gets is an alert, whoever ends the connection. With TLS 1.2 one can see it.
func TestTLSSaysGoodbye(t *testing.T) {
	for name, end := range map[string]func(*rig, *client){
		"close frame":  func(_ *rig, c *client) { c.send(ws.OpClose, "\x03\xe8") },
		"shutdown":     func(r *rig, _ *client) { r.shard.PostShutdown(time.Now().Add(waitMax)) },
		"close_notify": func(_ *rig, c *client) { _ = c.conn.(*tls.Conn).CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newTLSRig(t, nil)
			c := r.openPlain()
			tap := &tapped{Conn: c.conn}
			c.conn = tap
			startTLS(c, &tls.Config{MaxVersion: tls.VersionTLS12})
			c.upgrade(r, "/ws?channel=a")
			end(r, c)
			_, err := io.Copy(io.Discard, c.in)
			require.NoError(t, err)
			_ = tap.Conn.Close()
			var types []byte
			for b := tap.read.Bytes(); len(b) > 0; {
				types = append(types, b[0])
				b = b[tlsrecord.HeaderLen+int(b[3])<<8+int(b[4]):]
			}
			require.EqualValues(t, 21, types[len(types)-1], types)
			require.Equal(t, 1, bytes.Count(types, []byte{21}), "one")
		})
	}
}

// A record that was changed on its way ends the connection with an alert; nothing that follows is acted on.
func TestTLSViolation(t *testing.T) {
	r := newTLSRig(t, nil)
	for name, config := range tlsConfigs() {
		before := r.reason(ReasonTLS)
		c := r.openTLS(config.Clone())
		c.upgrade(r, "/ws?channel=a")
		_, err := tcp(c.conn).Write(append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...))
		require.NoError(t, err)
		_, err = c.in.ReadByte()
		require.ErrorContains(t, err, "bad record MAC", name)
		eventually(t, "it is counted", func() bool { return r.reason(ReasonTLS) == before+1 })
	}
}

// A client that reads slowly gets every byte in order, and whatever waits is accounted for after each turn.
func TestTLSSlowClient(t *testing.T) {
	r := newStepped(t, func(o *Options) {
		o.TLS.Handshakes = newHandshakes(t)
		o.Limits.OutboundMax = 64 << 20
	})
	for _, config := range []*tls.Config{{MinVersion: tls.VersionTLS13}, {MaxVersion: tls.VersionTLS12}} {
		var c *client
		r.during(func() {
			c = r.openPlain()
			require.NoError(t, tcp(c.conn).SetReadBuffer(4096))
			startTLS(c, config)
			c.upgrade(r, "/ws?channel=a")
		})
		const messages = 60
		text := func(n int) string { return fmt.Sprint(n, strings.Repeat("y", n*n*40)) }
		for n := range messages {
			r.publish("a", text(n))
			r.step()
			if n%7 == 0 {
				c.send(ws.OpPing, "p") // Its pong overtakes what waits.
				r.step()
			}
		}
		require.True(t, r.shard.slab.get(0).out.blocked, "it is behind")
		require.NotZero(t, r.shard.secured.bytes)
		require.NoError(t, tcp(c.conn).SetReadBuffer(1<<20))
		r.during(func() {
			for n := 0; n < messages; {
				event, payload, err := c.next()
				require.NoError(t, err)
				if event == wire.EventPong {
					continue
				}
				require.Equal(t, text(n), payload)
				n++
			}
		})
		require.Zero(t, r.shard.secured.bytes)
		r.during(func() {
			c.send(ws.OpClose, "\x03\xe8")
			_, _ = io.Copy(io.Discard, c.in)
		})
		r.during(func() { eventually(t, "it is gone", func() bool { return r.shard.Stats().Connections.Load() == 0 }) })
	}
}

// BenchmarkFanoutTLS compares a delivery by TLS with a plain one, in CPU of the process. Nobody opens the records.
func BenchmarkFanoutTLS(b *testing.B) {
	const clients = 1000
	for _, records := range []int{1, 10} {
		b.Run(fmt.Sprintf("records=%d", records), func(b *testing.B) {
			values := make([]string, records)
			for i := range values {
				values[i] = fmt.Sprintf(`{"n":"%0118d"}`, i)
			}
			var rigs [2]*rig
			var fds [2][]int
			for kind := range rigs {
				rigs[kind] = newRigStalling(b, waitMax, func(o *Options) {
					if kind == 1 {
						o.TLS.Handshakes = newHandshakes(b)
					}
				})
				rigs[kind].tls = kind == 1
				for range clients {
					fds[kind] = append(fds[kind], rawFD(b, rigs[kind].dial("/ws?channel=a").conn))
				}
			}
			buf := make([]byte, 1<<16)
			var spent [2]time.Duration
			for b.Loop() {
				for kind, r := range rigs {
					stats := r.shard.Stats()
					target := stats.Deliveries.Load() + uint64(clients*records)
					before := cpu(b)
					r.publish("a", values...)
					for stats.Deliveries.Load() < target {
						time.Sleep(100 * time.Microsecond)
					}
					spent[kind] += cpu(b) - before
					drainAll(fds[kind], buf)
				}
			}
			b.ReportMetric(float64(spent[0].Nanoseconds())/float64(b.N*clients), "plain-ns/write")
			b.ReportMetric(float64(spent[1].Nanoseconds())/float64(b.N*clients), "tls-ns/write")
			b.ReportMetric(float64(spent[1])/float64(spent[0]), "ratio")
		})
	}
}

// Records cost work however short they are: a read that opens thousands of them counts as such, also if what they hold
// is no complete frame.
func TestTLSShortRecords(t *testing.T) {
	const records = 1000
	r := newStepped(t, func(o *Options) { o.TLS.Handshakes = newHandshakes(t) })
	var c *client
	r.during(func() {
		c = r.openTLS(&tls.Config{MinVersion: tls.VersionTLS13})
		c.upgrade(r, "/ws?channel=a")
	})
	r.step()
	before := r.shard.Stats().BytesIn.Load()
	head := masked(strings.Repeat("x", 4*records))
	for i := range records {
		c.write(head[i : i+1])
	}
	spent := 0
	eventually(t, "read", func() bool {
		r.shard.work.share = workShare
		r.step()
		spent += workShare - r.shard.work.share
		return r.shard.Stats().BytesIn.Load() == before+records
	})
	require.GreaterOrEqual(t, spent, records/recordsUnit/2)
}

// A client that sends while its handshake computes, as all do that send their request behind their Finished, stays also
// when the turn has done enough: its socket is readable in the next turn as well.
func TestTLSReadableInLongTurn(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.TLS.Handshakes = newHandshakes(t) })
	client := r.openPlain()
	secure := startTLS(client, &tls.Config{MinVersion: tls.VersionTLS13})
	done := make(chan error, 1)
	go func() { done <- secure.Handshake() }()
	var c *conn
	s := r.shard
	eventually(t, "the client's turn", func() bool {
		r.step()
		s.slab.each(func(each *conn) { c = each })
		return c != nil && c.secure && !s.secured.of(&c.transport).computing
	})
	require.NoError(t, <-done) // Its Finished is in the socket.
	sc := s.secured.of(&c.transport)
	sc.computing, s.work.over = true, true
	s.readable(c)
	r.step()
	require.Equal(t, stateTLS, c.state)
	require.True(t, sc.paused)
	sc.computing, sc.paused = false, false
	s.watch(c)
	r.during(func() { client.upgrade(r, "/ws?channel=a") })
}

// What comes behind the goodbye is bounded as it comes over the wire: a byte in each record is no way to have millions
// of them opened.
func TestTLSDiscardIsBounded(t *testing.T) {
	r := newStepped(t, func(o *Options) {
		o.TLS.Handshakes, o.Limits.CloseGrace = newHandshakes(t), time.Hour
	})
	var c *client
	r.during(func() {
		c = r.openTLS(&tls.Config{MinVersion: tls.VersionTLS13})
		c.upgrade(r, "/ws?channel=a")
	})
	r.step()
	conn := r.shard.slab.get(0)
	c.write([]byte{0xff, 0x80, 0, 0, 0, 0}) // Of no opcode.
	eventually(t, "closing", func() bool { r.step(); return conn.state == stateClosing })
	for n := 0; conn.state == stateClosing; n++ {
		require.Less(t, n, discardMax/8)
		_, _ = c.conn.Write([]byte{0}) // It is reset in the end.
		if n%200 == 0 {
			r.step()
		}
	}
	require.Equal(t, uint64(1), r.reason(ReasonProtocolError))
}
