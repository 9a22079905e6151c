package tlsrecord_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
	"wsd/internal/tlsrecord"
)

// mirrored returns both sides of a connection, of which the client is a Conn as well.
func mirrored(t testing.TB, c choice) (server, client *tlsrecord.Conn) {
	t.Helper()
	secretLen := 32
	if c.suite == tls.TLS_AES_256_GCM_SHA384 {
		secretLen = 48
	}
	a, b := bytes.Repeat([]byte{1}, secretLen), bytes.Repeat([]byte{2}, secretLen)
	state := tlsrecord.From13(c.suite, a, b, 0)
	if c.version == tls.VersionTLS12 {
		var err error
		state, err = tlsrecord.From12(c.suite, a[:32], make([]byte, 32), make([]byte, 32))
		require.NoError(t, err)
	}
	server, err := tlsrecord.New(state)
	require.NoError(t, err)
	other := server.State()
	other.In, other.Out = other.Out, other.In
	client, err = tlsrecord.New(other)
	require.NoError(t, err)
	return server, client
}

// Bytes go both ways between crypto/tls and a Conn, in writes and reads of any size, with key updates of both sides, and
// with the Conn made anew from its state in the middle.
func TestAgainstCryptoTLS(t *testing.T) {
	for _, c := range choices {
		for _, resumed := range []bool{false, true} {
			name := c.String()
			if resumed {
				name += "/resumed"
			}
			t.Run(name, func(t *testing.T) {
				var cache tls.ClientSessionCache
				if resumed {
					cache = tls.NewLRUClientSessionCache(1)
					first := newPeer(t, c, cache)
					first.write(first.conn.Seal(nil, []byte("x"))) // The ticket comes before it.
					_, err := io.ReadFull(first.client, make([]byte, 1))
					require.NoError(t, err)
				}
				p := newPeer(t, c, cache)
				require.Equal(t, resumed, p.info.Resumed)
				exchange(t, p, c.version == tls.VersionTLS13)
			})
		}
	}
}

func exchange(t *testing.T, p *peer, updates bool) {
	t.Helper()
	const total = 400 << 10
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, total)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	// The client sends, and echoes nothing: its reader runs beside, so that neither side blocks.
	received := make(chan []byte, 1)
	go func() {
		b := make([]byte, total)
		_, err := io.ReadFull(p.client, b)
		if err != nil {
			t.Error(err)
		}
		received <- b
	}()
	go func() {
		sizes := rand.New(rand.NewPCG(3, 4))
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+int(sizes.ExpFloat64()*3000))
			if _, err := p.client.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
	}()
	var got []byte
	for sent := 0; len(got) < total || sent < total; {
		if sent < total {
			n := min(total-sent, 1+random.IntN(tlsrecord.ContentMax), 1+int(random.ExpFloat64()*2000))
			var out []byte
			if cut := random.IntN(n + 1); cut%2 == 0 {
				out = p.conn.Seal([]byte("before"), data[sent:sent+n])
			} else {
				out = p.conn.SealParts([]byte("before"), [][]byte{data[sent : sent+cut], nil, data[sent+cut : sent+n]})
			}
			sent += n
			if updates && random.IntN(20) == 0 {
				out = p.conn.SealUpdate(out, byte(random.IntN(2))) // crypto/tls answers with one of its own.
			}
			require.Equal(t, "before", string(out[:6]))
			p.write(out[6:])
		}
		if random.IntN(5) == 0 {
			p.conn.Rest()
		}
		if random.IntN(10) == 0 {
			state := p.conn.State()
			var err error
			p.conn, err = tlsrecord.New(state)
			require.NoError(t, err)
			require.Equal(t, state, p.conn.State())
		}
		if len(got) < total {
			b := make([]byte, len(p.in)+1+random.IntN(40<<10))
			n, err := p.server.Read(b[copy(b, p.in):])
			require.NoError(t, err)
			plain, rest, err := p.conn.Open(b[:len(p.in)+n])
			require.NoError(t, err)
			got = append(got, plain...)
			p.in = append([]byte(nil), rest...)
		}
	}
	require.True(t, bytes.Equal(data, got), "from the client")
	require.True(t, bytes.Equal(data, <-received), "to the client")
}

// Our key changes before its limit, and crypto/tls follows.
func TestKeyChangesBeforeItsLimit(t *testing.T) {
	p := newPeer(t, choices[0], nil)
	p.conn.LimitKey(10)
	for i := range 100 {
		p.write(p.conn.Seal(nil, []byte{byte(i)}))
		require.LessOrEqual(t, p.conn.Number(), uint64(10))
	}
	b := make([]byte, 100)
	_, err := io.ReadFull(p.client, b)
	require.NoError(t, err)
	for i := range b {
		require.EqualValues(t, i, b[i])
	}
}

// close_notify of both sides, and the lack of one.
func TestEnds(t *testing.T) {
	for _, c := range choices {
		t.Run(c.String(), func(t *testing.T) {
			p := newPeer(t, c, nil)
			p.write(p.conn.SealAlert(p.conn.Seal(nil, []byte("bye")), tlsrecord.AlertCloseNotify))
			require.Empty(t, p.conn.SealAlert(nil, tlsrecord.AlertCloseNotify), "once")
			b, err := io.ReadAll(p.client) // EOF without an error is close_notify.
			require.NoError(t, err)
			require.Equal(t, "bye", string(b))

			_, err = p.client.Write([]byte("hello"))
			require.NoError(t, err)
			require.NoError(t, p.client.CloseWrite())
			all, err := io.ReadAll(readerOf(p))
			require.NoError(t, err)
			plain, rest, err := p.conn.Open(append(p.in, all...))
			require.Equal(t, "hello", string(plain))
			require.ErrorIs(t, err, tlsrecord.ErrEnded)
			require.Empty(t, rest)
			_, _, err = p.conn.Open(nil)
			require.ErrorIs(t, err, tlsrecord.ErrEnded, "it stays")
		})
	}
}

// readerOf reads until the client has closed its side.
func readerOf(p *peer) io.Reader {
	_ = p.client.NetConn().(*net.TCPConn).CloseWrite()
	return p.server
}

// crypto/tls understands our alerts.
func TestAlertsReachCryptoTLS(t *testing.T) {
	for _, c := range choices {
		p := newPeer(t, c, nil)
		p.write(p.conn.SealAlert(nil, tlsrecord.AlertBadRecordMAC))
		_, err := p.client.Read(make([]byte, 1))
		require.ErrorContains(t, err, "remote error: tls: bad record MAC", c)
	}
}

// What a client must not send ends the connection with the right alert, and what came before it is not lost.
func TestViolations(t *testing.T) {
	for _, c := range choices {
		is13 := c.version == tls.VersionTLS13
		for name, test := range map[string]struct {
			spoil func(client *tlsrecord.Conn) []byte
			alert tlsrecord.Alert
			skip  bool
		}{
			"changed": {func(c *tlsrecord.Conn) []byte {
				b := c.Seal(nil, []byte("x"))
				b[len(b)-1] ^= 1
				return b
			}, tlsrecord.AlertBadRecordMAC, false},
			"twice": {func(c *tlsrecord.Conn) []byte {
				b := c.Seal(nil, []byte{})
				return append(b, b...)
			}, tlsrecord.AlertBadRecordMAC, false},
			"no record": {func(*tlsrecord.Conn) []byte { return []byte("GET / HTTP/1.1\r\n") },
				tlsrecord.AlertUnexpectedMessage, false},
			"version": {func(*tlsrecord.Conn) []byte { return []byte{23, 3, 1, 0, 5} }, tlsrecord.AlertProtocolVersion, false},
			"too long": {func(*tlsrecord.Conn) []byte { return []byte{23, 3, 3, 0x48, 0x01} },
				tlsrecord.AlertRecordOverflow, false},
			"too short": {func(*tlsrecord.Conn) []byte { return []byte{23, 3, 3, 0, 1, 0} },
				tlsrecord.AlertBadRecordMAC, false},
			"not encrypted": {func(*tlsrecord.Conn) []byte { return []byte{21, 3, 3, 0, 2, 1, 0} },
				tlsrecord.AlertUnexpectedMessage, !is13},
			"change cipher spec": {func(c *tlsrecord.Conn) []byte {
				return c.SealRaw(nil, tlsrecord.TypeChangeCipherSpec, []byte{1})
			}, tlsrecord.AlertUnexpectedMessage, false},
			"renegotiation": {func(c *tlsrecord.Conn) []byte {
				return c.SealRaw(nil, tlsrecord.TypeHandshake, []byte{1, 0, 0, 0})
			}, tlsrecord.AlertNoRenegotiation, is13},
			"client hello": {func(c *tlsrecord.Conn) []byte {
				return c.SealRaw(nil, tlsrecord.TypeHandshake, []byte{1, 0, 0, 0})
			}, tlsrecord.AlertUnexpectedMessage, !is13},
			"unknown request": {func(c *tlsrecord.Conn) []byte { return c.SealUpdate(nil, 2) },
				tlsrecord.AlertIllegalParameter, !is13},
			"two messages": {func(c *tlsrecord.Conn) []byte {
				return c.SealRaw(nil, tlsrecord.TypeHandshake, []byte{24, 0, 0, 1, 0, 24, 0, 0, 1, 0})
			}, tlsrecord.AlertDecodeError, !is13},
			"empty records": {func(c *tlsrecord.Conn) (b []byte) {
				for range 17 {
					b = c.Seal(b, nil)
				}
				return b
			}, tlsrecord.AlertUnexpectedMessage, false},
			"many updates": {func(c *tlsrecord.Conn) (b []byte) {
				for range 17 {
					b = c.SealUpdate(b, 0)
					b = c.Seal(b, []byte("y"))
				}
				return b
			}, tlsrecord.AlertUnexpectedMessage, !is13},
			"short alert": {func(c *tlsrecord.Conn) []byte { return c.SealRaw(nil, tlsrecord.TypeAlert, []byte{1}) },
				tlsrecord.AlertUnexpectedMessage, false},
			"padding alone": {func(c *tlsrecord.Conn) []byte { return c.SealRaw(nil, 0, []byte{0, 0, 0}) },
				tlsrecord.AlertUnexpectedMessage, !is13},
		} {
			if test.skip {
				continue
			}
			t.Run(c.String()+"/"+name, func(t *testing.T) {
				server, client := mirrored(t, c)
				b := append(client.Seal(nil, []byte("before")), test.spoil(client)...)
				plain, _, err := server.Open(b)
				var v *tlsrecord.Violation
				require.ErrorAs(t, err, &v)
				require.Equal(t, test.alert, v.Alert, v)
				require.Contains(t, string(plain), "before")
				_, _, again := server.Open(nil)
				require.Equal(t, err, again)
				_, _, err = client.Open(server.SealAlert(nil, v.Alert))
				var told *tlsrecord.PeerAlert
				if c.version == tls.VersionTLS13 || v.Alert != tlsrecord.AlertNoRenegotiation {
					require.ErrorAs(t, err, &told)
					require.Equal(t, v.Alert, told.Alert)
				}
			})
		}
	}
}

// A client that asks for a KeyUpdate gets one, however often it asks before.
func TestUpdateIsAnswered(t *testing.T) {
	server, client := mirrored(t, choices[0])
	b := client.SealUpdate(client.SealUpdate(nil, 1), 1)
	_, _, err := server.Open(b)
	require.NoError(t, err)
	require.True(t, server.Due())
	state := server.State()
	server, err = tlsrecord.New(state)
	require.NoError(t, err)
	require.True(t, server.Due(), "it is part of the state")
	out := server.SealDue(nil, false)
	require.False(t, server.Due())
	plain, rest, err := client.Open(server.Seal(out, []byte("after")))
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, "after", string(plain))
}

// Records that are padded are as good as others (RFC 8446 §5.4).
func TestPadding(t *testing.T) {
	server, client := mirrored(t, choices[0])
	b := client.SealRaw(nil, 0, append([]byte("padded"), tlsrecord.TypeData, 0, 0, 0))
	plain, _, err := server.Open(b)
	require.NoError(t, err)
	require.Equal(t, "padded", string(plain))
}

// Sealing into a buffer with room allocates nothing.
func TestNoAllocation(t *testing.T) {
	for _, c := range choices {
		server, _ := mirrored(t, c)
		content, out := make([]byte, 128), make([]byte, 0, tlsrecord.SealMax)
		parts := [][]byte{content, content}
		require.Zero(t, testing.AllocsPerRun(100, func() { out = server.Seal(out[:0], content) }), c)
		require.Zero(t, testing.AllocsPerRun(100, func() { out = server.SealParts(out[:0], parts) }), c)
		fresh, client := mirrored(t, c)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if _, _, err := fresh.Open(client.Seal(out[:0], content)); err != nil {
				t.Fatal(err)
			}
		}), c)
	}
}

// FuzzOpen feeds the reader what nobody would send, behind a record that is right, in pieces of any size. It must never
// panic, and give nothing but what was sealed.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{23, 3, 3, 0, 1, 0}, uint8(0), uint8(3), false)
	f.Add([]byte{24, 0, 0, 1, 1}, uint8(4), uint8(22), true)
	f.Add([]byte{1, 0}, uint8(1), uint8(21), true)
	f.Fuzz(func(t *testing.T, b []byte, which, cut uint8, sealed bool) {
		c := choices[int(which)%len(choices)]
		server, client := mirrored(t, c)
		wire := client.Seal(nil, []byte("first"))
		if sealed && len(b) > 0 && len(b) <= tlsrecord.ContentMax {
			wire = client.SealRaw(wire, 20+b[0]%4, b[1:])
		} else {
			wire = append(wire, b...)
		}
		var got, kept []byte
		for len(wire) > 0 {
			n := min(len(wire), 1+int(cut))
			plain, rest, err := server.Open(append(kept, wire[:n]...))
			got = append(got, plain...)
			kept = append([]byte(nil), rest...)
			wire = wire[n:]
			if err != nil {
				break
			}
			require.LessOrEqual(t, len(kept), tlsrecord.RecordMax)
		}
		switch {
		case sealed && len(b) > 0 && b[0]%4 == 3:
			require.Equal(t, "first"+string(b[1:]), string(got))
		default:
			require.True(t, string(got) == "first" || string(got) == "", "%q", got)
		}
	})
}

// BenchmarkSeal compares sealing of 128 bytes, and of ten times that, with crypto/tls, both into memory.
func BenchmarkSeal(b *testing.B) {
	for _, c := range []choice{choices[0], choices[2]} {
		for _, n := range []int{128, 1280, 16 << 10} {
			content := make([]byte, n)
			b.Run(c.String()+"/own/"+sizeName(n), func(b *testing.B) {
				server, _ := mirrored(b, c)
				out := make([]byte, 0, tlsrecord.SealMax)
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for b.Loop() {
					out = server.Seal(out[:0], content)
				}
			})
			b.Run(c.String()+"/crypto-tls/"+sizeName(n), func(b *testing.B) {
				w := cryptoWriter(b)
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for b.Loop() {
					if _, err := w.Write(content); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func sizeName(n int) string {
	return map[int]string{128: "128B", 1280: "1280B", 16 << 10: "16KiB"}[n]
}

// discarding is a connection that drops what is written once it is told to.
type discarding struct {
	net.Conn
	on bool
}

func (d *discarding) Write(b []byte) (int, error) {
	if d.on {
		return len(b), nil
	}
	return d.Conn.Write(b)
}

// cryptoWriter is a server of crypto/tls after its handshake, whose records go nowhere.
func cryptoWriter(b *testing.B) *tls.Conn {
	client, server := socketPair(b)
	d := &discarding{Conn: server}
	s := tls.Server(d, &tls.Config{Certificates: []tls.Certificate{testutil.Certificate("wsd.test")}})
	failed := make(chan error, 1)
	go func() { failed <- tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	require.NoError(b, s.Handshake())
	require.NoError(b, <-failed)
	d.on = true
	return s
}
