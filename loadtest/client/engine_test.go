package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// start starts an engine of clients for s; the changes are made to its options.
func start(t *testing.T, s *server, protocol Protocol, clients int, changes ...func(*Options)) *Engine {
	t.Helper()
	o := Options{
		Server: s.addr, Host: s.addr.String(), Protocol: protocol, Clients: clients, Loops: 1, Dials: 8,
		Channels:       []Channel{{Name: "loadtest", Format: s.format, Produced: func() uint64 { return 0 }}},
		AttemptTimeout: 10 * time.Second, Now: func() int64 { return time.Now().UnixNano() },
	}
	for _, change := range changes {
		change(&o)
	}
	e, err := New(o)
	require.NoError(t, err)
	e.Start()
	return e
}

func eventually(t *testing.T, e *Engine, what func(n Counters, drained bool) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return what(e.Snapshot()) }, 8*time.Second, 5*time.Millisecond)
}

// finish ends an engine whose clients were to get the records up to last.
func finish(t *testing.T, e *Engine, last uint64) Counters {
	t.Helper()
	e.Drain([]uint64{last})
	eventually(t, e, func(_ Counters, drained bool) bool { return drained })
	n, times := e.Close(5 * time.Second)
	require.Equal(t, n.Held, times.Connect.TotalCount())
	require.Equal(t, n.Rejoined, times.Rejoin.TotalCount())
	require.Equal(t, n.Deliveries, times.Latency.TotalCount())
	require.GreaterOrEqual(t, n.WireBytes, n.DeliveryBytes)
	n.WireBytes = 0 // How long heads and frames are is not compared.
	return n
}

// What can happen to the records of a client that is subscribed. Each script ends with record 4, so that its end is known, or with the
// connection.
func TestDelivery(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script func(p *peer)
		last   uint64
		ended  bool // The server ends the connection.
		want   Counters
		closes map[string]int64
	}{
		{name: "in order", script: func(p *peer) { p.records(1, 2, 3, 4) }, last: 4, want: Counters{Open: 1, Deliveries: 4}},
		{name: "nothing", script: func(*peer) {}, last: 0, want: Counters{Open: 1}},
		{name: "gap", script: func(p *peer) { p.records(1, 2, 4) }, last: 4, want: Counters{Open: 1, Deliveries: 3, Gaps: 1, Lost: 1}},
		{name: "dropped at the end", script: func(p *peer) { p.records(1, 2, 3) }, last: 4, want: Counters{Open: 1, Deliveries: 3, Lost: 1, Behind: 1}},
		{name: "duplicate", script: func(p *peer) { p.records(1, 2, 2, 3, 4) }, last: 4, want: Counters{Open: 1, Deliveries: 5, Duplicates: 1}},
		{name: "reordered", script: func(p *peer) { p.records(1, 3, 2, 4) }, last: 4,
			want: Counters{Open: 1, Deliveries: 4, Gaps: 1, Reordered: 1}},
		{name: "fragments", script: func(p *peer) { p.fragmented(1); p.records(2, 3, 4) }, last: 4, want: Counters{Open: 1, Deliveries: 4}},
		{name: "byte by byte", script: func(p *peer) { p.trickle(1); p.records(2, 3, 4) }, last: 4, want: Counters{Open: 1, Deliveries: 4}},
		{name: "many at once", script: func(p *peer) { p.joined(1, 2, 3, 4) }, last: 4, want: Counters{Open: 1, Deliveries: 4}},
		{name: "native pings", script: func(p *peer) { p.records(1); p.ping("a"); p.ping(""); p.records(2, 3, 4) }, last: 4,
			want: Counters{Open: 1, Deliveries: 4, Pings: 2}},
		{name: "another run", script: func(p *peer) { p.foreign(9); p.records(1, 2, 3, 4) }, last: 4,
			want: Counters{Open: 1, Deliveries: 4, Foreign: 1}},
		{name: "other bytes", script: func(p *peer) { p.corrupt(1); p.records(2, 3, 4) }, last: 4,
			want: Counters{Open: 1, Deliveries: 3, Gaps: 1, Lost: 1, Corrupt: 1}},
		{name: "closed", script: func(p *peer) { p.records(1, 2); p.close(3008, "slow") }, last: 4, ended: true,
			want: Counters{Closed: 1, Deliveries: 2, LostClosed: 2}, closes: map[string]int64{"3008 slow": 1}},
		{name: "cut", script: func(p *peer) { p.records(1, 2, 3); p.cut() }, last: 4, ended: true,
			want: Counters{Closed: 1, Deliveries: 3, LostClosed: 1}, closes: map[string]int64{"1006 end of the stream": 1}},
		{name: "broken frame", script: func(p *peer) { p.records(1); p.write([]byte{0xf1, 0}) }, last: 1, ended: true,
			want: Counters{Closed: 1, Deliveries: 1}, closes: map[string]int64{"broken frame: non-zero rsv bits with no extension negotiated": 1}},
	} {
		for _, protocol := range []Protocol{Raw, JSON, Protobuf} {
			t.Run(tc.name+" "+string(protocol), func(t *testing.T) {
				s := newServer(t, protocol, 128, tc.script)
				e := start(t, s, protocol, 1)
				eventually(t, e, func(n Counters, _ bool) bool {
					return n.Held == 1 && n.Deliveries+n.Corrupt+n.Foreign >= tc.want.Deliveries+tc.want.Corrupt+tc.want.Foreign &&
						(!tc.ended || n.Closed == 1)
				})
				n := finish(t, e, tc.last)
				want := tc.want
				want.Held, want.Attempts, want.Connected, want.Left = 1, 1, 1, want.Open
				want.DeliveryBytes, want.Closes = 128*want.Deliveries, tc.closes
				require.Equal(t, want, n)
			})
		}
	}
}

func TestInBandPings(t *testing.T) {
	s := newServer(t, JSON, 128, func(p *peer) {
		p.text("{}")
		require.Equal(t, "{}", p.message())
		p.text("{}\n" + p.envelope(1) + "\n" + p.envelope(2) + "\n")
		require.Equal(t, "{}", p.message())
		p.text(`{"push":{"channel":"loadtest","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`)
		p.records(3)
	})
	e := start(t, s, JSON, 1)
	eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 3 })
	require.Equal(t, Counters{Attempts: 1, Connected: 1, Held: 1, Open: 1, Left: 1, Deliveries: 3, DeliveryBytes: 3 * 128, Pings: 2, Unexpected: 1}, finish(t, e, 3))
}

func TestLargeRecords(t *testing.T) {
	for _, protocol := range []Protocol{Raw, JSON} {
		s := newServer(t, protocol, 3*bufferBytes, func(p *peer) { p.records(1, 2, 3) })
		e := start(t, s, protocol, 2)
		eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 6 })
		n := finish(t, e, 3)
		require.Zero(t, n.Corrupt+n.Gaps+n.Lost)
	}
}

// TLS, with records larger than a TLS record and many at once, and a token.
func TestTLS(t *testing.T) {
	for _, size := range []int{128, 100_000} {
		s := newServer(t, Raw, size, func(p *peer) { p.joined(1, 2, 3, 4) }, func(s *server) { s.tls = true })
		roots := x509.NewCertPool()
		roots.AddCert(s.http.Certificate())
		e := start(t, s, Raw, 20, func(o *Options) {
			o.TLS, o.Tokens = &tls.Config{RootCAs: roots, ServerName: "example.com"}, []string{"secret"}
		})
		eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 80 })
		require.Equal(t, "Bearer secret", s.header.Load().Get("Authorization"))
		n := finish(t, e, 4)
		require.Zero(t, n.Corrupt+n.Gaps+n.Lost+n.Closed+n.Failed)
	}
}

// A server whose certificate is not trusted, and one that does not speak TLS.
func TestTLSFails(t *testing.T) {
	for _, secure := range []bool{true, false} {
		s := newServer(t, Raw, 128, nil, func(s *server) { s.tls = secure })
		e := start(t, s, Raw, 1, func(o *Options) { o.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com"} })
		eventually(t, e, func(n Counters, _ bool) bool { return n.Failed >= 1 })
		n, _ := e.Close(time.Second)
		require.Contains(t, slices.Collect(maps.Keys(n.Failures))[0], "TLS handshake")
	}
}

// Clients that are disconnected on purpose come back, and are owed only what comes after.
func TestReconnect(t *testing.T) {
	for _, abrupt := range []bool{true, false} {
		s := newServer(t, Raw, 128, func(p *peer) { p.records(1, 2) })
		e := start(t, s, Raw, 3)
		eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 6 })
		e.Reconnect(abrupt)
		eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 12 })
		n := finish(t, e, 2)
		require.Equal(t, []int64{3, 3, 3, 3, 0}, []int64{n.Held, n.Open, n.Moved, n.Rejoined, n.Closed + n.Lost + n.Duplicates})
	}
}

func TestChurn(t *testing.T) {
	s := newServer(t, Raw, 128, func(*peer) {})
	e := start(t, s, Raw, 3)
	eventually(t, e, func(n Counters, _ bool) bool { return n.Held == 3 })
	e.Churn(200)
	eventually(t, e, func(n Counters, _ bool) bool { return n.Rejoined > 10 })
	e.Churn(0)
	eventually(t, e, func(n Counters, _ bool) bool { return n.Open == 3 })
	require.Zero(t, finish(t, e, 0).Closed)
}

// A client that comes back tells where it was. All that it has missed must come, also in the reply.
func TestRecover(t *testing.T) {
	for _, protocol := range []Protocol{JSON, Protobuf} {
		for _, recovered := range []bool{true, false} {
			var s *server
			var subscribed atomic.Int32
			s = newServer(t, protocol, 128, func(p *peer) {
				if subscribed.Add(1) == 1 {
					p.records(1, 2) // The offset of each is 7.
					value, err := json.Marshal(json.RawMessage(s.format.Append(nil, 3, testTime)))
					assert.NoError(t, err)
					s.subscribeReply = fmt.Sprintf(`{"id":2,"subscribe":{"epoch":"e","recovered":%t,"publications":[{"data":%s,"offset":8}]}}`, recovered, value)
					return
				}
				p.records(4)
			}, subscribeReply(`{"id":2,"subscribe":{"epoch":"e"}}`))
			e := start(t, s, protocol, 1, func(o *Options) { o.Recover = true })
			eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 2 })
			e.Reconnect(false)
			eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 4 })
			n := finish(t, e, 4)
			require.Equal(t, recovered, n.Recovered == 1)
			require.True(t, !recovered || n.Lost+n.Duplicates+n.Gaps == 0, "%+v", n)
			if protocol == JSON {
				require.Contains(t, *s.commands.Load(), `"recover":true,"epoch":"e","offset":7`)
			}
		}
	}
}

// How late a loop is shows.
func TestLag(t *testing.T) {
	s := newServer(t, Raw, 128, func(*peer) {})
	var busy atomic.Bool
	e := start(t, s, Raw, 1, func(o *Options) {
		o.Now = func() int64 {
			if busy.Swap(false) {
				time.Sleep(300 * time.Millisecond)
			}
			return time.Now().UnixNano()
		}
	})
	eventually(t, e, func(n Counters, _ bool) bool { return n.Held == 1 })
	busy.Store(true)
	require.Eventually(t, func() bool { w := e.Window(); return w.Lag.Max() > 200_000 }, 8*time.Second, 5*time.Millisecond)
	_ = finish(t, e, 0)
}

// Records that only warm up are checked and counted, but in no latency.
func TestUnmeasured(t *testing.T) {
	s := newServer(t, Raw, 128, func(p *peer) { p.records(1, 2, 3) })
	e := start(t, s, Raw, 2, func(o *Options) { o.Unmeasured = 2 })
	eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 6 })
	_, times := e.Close(5 * time.Second)
	require.Equal(t, int64(2), times.Latency.TotalCount())
}

func TestManyClients(t *testing.T) {
	const clients = 200
	for _, protocol := range []Protocol{Raw, JSON} {
		s := newServer(t, protocol, SizeMin, func(p *peer) { p.records(1, 2, 3) })
		e := start(t, s, protocol, clients, func(o *Options) {
			o.Loops, o.Dials = 3, 32
			o.Sources = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
		})
		eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 3*clients })
		n := finish(t, e, 3)
		require.Equal(t, Counters{Attempts: clients, Connected: clients, Held: clients, Open: clients, Left: clients, Deliveries: 3 * clients,
			DeliveryBytes: 3 * clients * int64(SizeMin)}, n)
		require.Equal(t, []string{"127.0.0.1", "127.0.0.2"}, s.sources())
	}
}

func refuse(f func(w http.ResponseWriter) bool) func(*server) {
	return func(s *server) { s.refuse = f }
}

func subscribeReply(text string) func(*server) { return func(s *server) { s.subscribeReply = text } }

func TestRefusals(t *testing.T) {
	t.Run("for a while", func(t *testing.T) {
		var asked atomic.Int32
		s := newServer(t, Raw, 128, func(p *peer) { p.records(1) }, refuse(func(w http.ResponseWriter) bool {
			if asked.Add(1) > 2 {
				return false
			}
			http.Error(w, "come back", http.StatusServiceUnavailable)
			return true
		}))
		e := start(t, s, Raw, 1)
		eventually(t, e, func(n Counters, _ bool) bool { return n.Deliveries == 1 })
		require.Equal(t, Counters{Attempts: 3, Connected: 3, Refused: 2, Held: 1, Open: 1, Left: 1, Deliveries: 1, DeliveryBytes: 128,
			Refusals: map[string]int64{"HTTP 503 Service Unavailable": 2}}, finish(t, e, 1))
	})
	t.Run("for good", func(t *testing.T) {
		s := newServer(t, Raw, 128, nil, refuse(func(w http.ResponseWriter) bool { http.NotFound(w, nil); return true }))
		e := start(t, s, Raw, 2)
		eventually(t, e, func(n Counters, _ bool) bool { return n.GivenUp == 2 })
		n := finish(t, e, 0)
		require.Equal(t, map[string]int64{"HTTP 404 Not Found": 2}, n.Refusals)
		require.Zero(t, n.Held)
	})
	t.Run("nobody listens", func(t *testing.T) {
		s := newServer(t, Raw, 128, nil)
		s.http.Close()
		e := start(t, s, Raw, 1)
		eventually(t, e, func(n Counters, _ bool) bool { return n.Refused >= 2 })
		n := finish(t, e, 0)
		require.Equal(t, n.Refused, n.Refusals["connect: connection refused"])
	})
	t.Run("by the protocol", func(t *testing.T) {
		s := newServer(t, JSON, 128, nil, subscribeReply(`{"id":2,"error":{"code":103,"message":"permission denied"}}`))
		e := start(t, s, JSON, 1)
		eventually(t, e, func(n Counters, _ bool) bool { return n.GivenUp == 1 })
		require.Equal(t, map[string]int64{"error 103 permission denied": 1}, finish(t, e, 0).Refusals)
	})
	t.Run("no answer", func(t *testing.T) {
		s := newServer(t, JSON, 128, nil, subscribeReply("\n"))
		e := start(t, s, JSON, 1, func(o *Options) { o.AttemptTimeout = 50 * time.Millisecond })
		eventually(t, e, func(n Counters, _ bool) bool { return n.Failed >= 1 })
		n := finish(t, e, 0)
		require.Zero(t, n.Held)
		require.Positive(t, n.Failures["timeout while waiting for the subscription"])
	})
}

// A ramp that ends drops the attempts under way, so that nobody is subscribed later unnoticed.
func TestHoldEndsAttempts(t *testing.T) {
	s := newServer(t, JSON, 128, nil, subscribeReply("\n"))
	e := start(t, s, JSON, 3)
	eventually(t, e, func(n Counters, _ bool) bool { return n.Attempts == 3 })
	e.Hold()
	eventually(t, e, func(n Counters, _ bool) bool { return n.Failed == 3 })
	n := finish(t, e, 0)
	require.Equal(t, map[string]int64{"not subscribed when the ramp ended": 3}, n.Failures)
	require.Equal(t, int64(3), n.Attempts)
}

func TestConnectRate(t *testing.T) {
	const rate = 40
	s := newServer(t, Raw, 128, func(*peer) {})
	begin := time.Now()
	e := start(t, s, Raw, 10, func(o *Options) { o.ConnectRate = rate })
	eventually(t, e, func(n Counters, _ bool) bool {
		// Looked at after n was taken, so that a slow machine only allows more.
		require.LessOrEqual(t, float64(n.Attempts), rate*time.Since(begin).Seconds())
		return n.Held == 10
	})
	_ = finish(t, e, 0)
}

func TestOptions(t *testing.T) {
	good := Options{Clients: 1, Loops: 1, Dials: 1, AttemptTimeout: 1, Protocol: Raw, Channels: make([]Channel, 1)}
	require.NoError(t, good.check())
	for _, tc := range []struct {
		want   string
		change func(o *Options)
	}{
		{"clients 0", func(o *Options) { o.Clients = 0 }},
		{"loops 2", func(o *Options) { o.Loops = 2 }},
		{"dials 0", func(o *Options) { o.Dials = 0 }},
		{"timeout", func(o *Options) { o.AttemptTimeout = 0 }},
		{"neither raw nor json nor protobuf", func(o *Options) { o.Protocol = "http" }},
		{"no channel", func(o *Options) { o.Channels = nil }},
	} {
		o := good
		tc.change(&o)
		_, err := New(o)
		require.ErrorContains(t, err, tc.want)
	}
}

// The first command that goes to the server is what the protocol wants.
func TestCommands(t *testing.T) {
	s := newServer(t, JSON, 128, func(*peer) {})
	e := start(t, s, JSON, 1)
	eventually(t, e, func(n Counters, _ bool) bool { return n.Held == 1 })
	_ = finish(t, e, 0)
	require.Equal(t, []string{`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"loadtest"}}`}, strings.Split(*s.commands.Load(), "\n"))
}
