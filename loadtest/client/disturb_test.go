package client

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// disturbing starts an engine with one good client, which the script may starve, and disturbing ones.
func disturbing(t *testing.T, s *server, produced, seen uint64, d Disturb) *Engine {
	t.Helper()
	if d.OutboundMax == 0 {
		d.OutboundMax = 1 << 20
	}
	d.Seed, d.StopMax = 7, 300*time.Millisecond
	e := start(t, s, Raw, 1, func(o *Options) {
		o.Disturb = d
		o.Channels[0].Produced = func() uint64 { return produced }
	})
	e.seen[0].Store(seen)
	return e
}

// What can happen to a connection of a disturbing client that reads everything and leaves.
func TestDisturberReads(t *testing.T) {
	for _, tc := range []struct {
		name     string
		seen     uint64 // Before the client connects.
		produced uint64 // Before it is upgraded.
		limit    int    // OutboundMax; 0: so much that nothing is slow.
		script   func(p *peer)
		want     func(n *Disturbed) bool
		faults   bool
	}{
		{name: "in order", script: func(p *peer) { p.records(1, 2, 3) }, want: func(n *Disturbed) bool { return n.Deliveries == 3 }},
		{name: "at once", script: func(p *peer) { p.joined(1, 2, 3) }, want: func(n *Disturbed) bool { return n.Deliveries == 3 }},
		{name: "gap", script: func(p *peer) { p.records(1, 3) }, want: func(n *Disturbed) bool { return n.Records.Lost == 1 }, faults: true},
		{name: "the beginning is missing", script: func(p *peer) { p.records(3) }, want: func(n *Disturbed) bool { return n.Records.Lost == 2 }, faults: true},
		{name: "duplicate", script: func(p *peer) { p.records(1, 2, 2) }, want: func(n *Disturbed) bool { return n.Records.Duplicates == 1 }, faults: true},
		{name: "from before", seen: 1, script: func(p *peer) { p.records(1, 2) }, want: func(n *Disturbed) bool { return n.Records.Duplicates == 1 }, faults: true},
		{name: "other bytes", script: func(p *peer) { p.corrupt(1); p.records(1) }, want: func(n *Disturbed) bool { return n.Records.Corrupt == 1 }},
		{name: "another run", script: func(p *peer) { p.foreign(1); p.records(1) }, want: func(n *Disturbed) bool { return n.Records.Foreign == 1 }},
		{name: "broken frame", script: func(p *peer) { p.records(1); p.write([]byte{0xf1, 0}) },
			want: func(n *Disturbed) bool { return n.Corrupt == 1 && n.Cut == 1 }, faults: true},
		{name: "slow with one missing", produced: 3, script: func(p *peer) { p.records(2); p.close(1008, "slow") },
			want: func(n *Disturbed) bool {
				return n.TooEarly == 1 && n.Frames["1008 slow"] == 1 && n.UnreadMax == 1 && n.InKernelMax == 0
			}, faults: true},
		{name: "slow above the limit", produced: 3, limit: 1000, script: func(p *peer) { p.records(2); p.close(1008, "slow") },
			want: func(n *Disturbed) bool { return n.TooEarly == 0 && n.Frames["1008 slow"] == 1 }},
		{name: "cut", produced: 3, script: func(p *peer) { p.records(2); p.cut() },
			want: func(n *Disturbed) bool {
				return n.Cut == 1 && n.Unexplained == 1 && n.InKernelMax == 1 && n.PartialMax == 1
			}, faults: true},
		{name: "cut with a reason", produced: 3, limit: 1000, script: func(p *peer) { p.records(2); p.cut() },
			want: func(n *Disturbed) bool { return n.Cut == 1 && n.MayBeSlow == 1 && n.Unexplained == 0 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var clients atomic.Int32
			s := newServer(t, Raw, 128, func(p *peer) {
				if clients.Add(1) == 2 { // The first is the good client, and no third comes back.
					tc.script(p)
				}
			})
			e := disturbing(t, s, tc.produced, tc.seen, Disturb{Count: 1, OutboundMax: tc.limit})
			eventually(t, e, func(n Counters, _ bool) bool { return n.Held == 1 })
			e.Disturb(true)
			var n Disturbed
			require.Eventually(t, func() bool { n, _ = e.Disturbed(); return tc.want(&n) }, 25*time.Second, 5*time.Millisecond)
			e.Disturb(false)
			require.Eventually(t, func() bool { _, active := e.Disturbed(); return active == 0 }, 25*time.Second, 5*time.Millisecond)
			n, _ = e.Disturbed()
			require.True(t, tc.want(&n) && n.Left+n.Cut+n.Frames["1008 slow"] > 0, "%+v", n)
			require.Equal(t, tc.faults, len(n.Faults) > 0, "%q", n.Faults)
			_, _ = e.Close(5 * time.Second)
		})
	}
}

// A server that lets more wait than its limit and what the sockets hold is found out.
func TestDisturberTooLate(t *testing.T) {
	s := newServer(t, Raw, 1<<10, func(p *peer) { p.records(1) })
	e := disturbing(t, s, 1, 0, Disturb{Count: 1, OutboundMax: 1 << 10, Stop: true})
	e.seen[0].Store(0)
	e.Disturb(true)
	require.Eventually(t, func() bool {
		n, _ := e.Disturbed()
		if n.Stops > 0 {
			e.seen[0].Store(100_000)
		}
		return n.TooLate > 0 || n.Stuck > 0
	}, 30*time.Second, 5*time.Millisecond)
	_, _ = e.Close(0)
}

// Every connection ends in exactly one way, and all leave in the end.
func TestDisturbersEnd(t *testing.T) {
	s := newServer(t, Raw, 128, nil)
	e := disturbing(t, s, 0, 0, Disturb{Count: 10, Slow: true, Stop: true, Reset: true})
	e.Disturb(true)
	require.Eventually(t, func() bool {
		n, _ := e.Disturbed()
		return n.ResetUpgrade > 2 && n.ResetClear > 2 && n.Left > 0 && n.Stops > 2 && n.Slows > 2 && n.HalfFrames > 0
	}, 30*time.Second, 10*time.Millisecond)
	e.Disturb(false)
	var n Disturbed
	require.Eventually(t, func() bool {
		var active int64
		n, active = e.Disturbed()
		return active == 0
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, n.Connected, n.ResetUpgrade+n.ResetClear+n.Left, "%+v", n)
	require.Zero(t, n.Stuck+n.Unexplained+n.TooEarly+n.TooLate+n.ResetBehind+n.Cut)
	require.Empty(t, n.NotDialed)
	_, _ = e.Close(5 * time.Second)
}

func TestAdd(t *testing.T) {
	n := Disturbed{Connected: 1, UnreadMax: 2, Frames: map[string]int64{"1008 slow": 1}, Records: Counters{Lost: 2}}
	var c Disturbed
	Add(&c, &n)
	Add(&n, &Disturbed{Connected: 2, UnreadMax: 4, Frames: map[string]int64{"1008 slow": 2, "x": 1}, Records: Counters{Lost: 3}, Faults: []string{"a"}})
	require.Equal(t, Disturbed{Connected: 3, UnreadMax: 6, Frames: map[string]int64{"1008 slow": 3, "x": 1}, Records: Counters{Lost: 5}, Faults: []string{"a"}}, n)
	require.Equal(t, map[string]int64{"1008 slow": 1}, c.Frames, "it is a copy")
}

// By TLS, disturbing clients too shake hands first, and reset after that.
func TestDisturberOverTLS(t *testing.T) {
	var plain atomic.Int32
	said := writerFunc(func(b []byte) {
		if strings.Contains(string(b), "does not look like a TLS handshake") || strings.Contains(string(b), "HTTP request to an HTTPS server") {
			plain.Add(1)
		}
	})
	s := newServer(t, Raw, 128, func(p *peer) { p.records(1) }, func(s *server) { s.tls, s.errors = true, said })
	roots := x509.NewCertPool()
	roots.AddCert(s.http.Certificate())
	e := start(t, s, Raw, 1, func(o *Options) {
		o.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com"}
		o.Disturb = Disturb{Count: 20, Reset: true, Seed: 7, OutboundMax: 1 << 20, StopMax: 300 * time.Millisecond}
	})
	t.Cleanup(func() { _, _ = e.Close(0) })
	e.Disturb(true)
	require.Eventually(t, func() bool { n, _ := e.Disturbed(); return n.ResetUpgrade >= 5 && n.Upgraded >= 5 }, 20*time.Second, 5*time.Millisecond)
	e.Disturb(false)
	require.Eventually(t, func() bool { _, active := e.Disturbed(); return active == 0 }, 8*time.Second, 5*time.Millisecond)
	n, _ := e.Disturbed()
	require.Zero(t, n.Refused+n.ResetSilent, "%+v", n)
	require.Zero(t, plain.Load(), "nothing is sent before the handshake")
}

// A client that has read slowly gets what TLS holds for it, also when nothing more comes.
func TestSlowOverTLS(t *testing.T) {
	s := newServer(t, Raw, 128, func(p *peer) {
		time.Sleep(150 * time.Millisecond) // Most clients have begun to read slowly, or not at all.
		p.joined(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
	}, func(s *server) { s.tls = true })
	roots := x509.NewCertPool()
	roots.AddCert(s.http.Certificate())
	e := start(t, s, Raw, 1, func(o *Options) {
		o.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com"}
		o.Disturb = Disturb{Count: 20, Slow: true, Seed: 7, OutboundMax: 1 << 20, StopMax: 300 * time.Millisecond}
		o.Channels[0].Produced = func() uint64 { return 20 }
	})
	t.Cleanup(func() { _, _ = e.Close(0) })
	e.Disturb(true)
	require.Eventually(t, func() bool { n, _ := e.Disturbed(); return n.CaughtUp >= 60 || n.Stuck > 0 }, 40*time.Second, 5*time.Millisecond)
	n, _ := e.Disturbed()
	require.Zero(t, n.Stuck, "%+v", n)
}

type writerFunc func(b []byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }
