package client

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// feed is what is produced and what others have got.
type feed struct{ produced, seen atomic.Uint64 }

func (f *feed) options(s *server) DisturberOptions {
	return DisturberOptions{
		Server: s.addr, Host: s.addr.String(), Channel: Channel{Name: "loadtest", Format: s.format, Produced: f.produced.Load}, Seen: f.seen.Load,
		Now: func() int64 { return testTime }, Count: 10, Seed: 7, OutboundMax: 1 << 20, StopMax: 300 * time.Millisecond,
	}
}

// connect makes one connection to s, not upgraded yet.
func (f *feed) connect(t *testing.T, s *server, changes ...func(*DisturberOptions)) *victim {
	t.Helper()
	o := f.options(s)
	for _, change := range changes {
		change(&o)
	}
	d, err := NewDisturbers(o)
	require.NoError(t, err)
	conn, err := d.dial(t.Context(), false)
	require.NoError(t, err)
	return &victim{d: d, conn: conn, floor: o.Seen(), upTo: testTime, n: Disturbed{Connected: 1}}
}

// What can happen to a connection that reads everything up to record 3 and leaves.
func TestVictimReads(t *testing.T) {
	for _, tc := range []struct {
		name   string
		seen   uint64 // Before it is connected.
		limit  int    // OutboundMax; 0: so much that nothing is slow.
		script func(p *peer)
		want   Disturbed
	}{
		{name: "in order", script: func(p *peer) { p.records(1, 2, 3) }, want: Disturbed{Deliveries: 3, Left: 1}},
		{name: "at once", script: func(p *peer) { p.joined(1, 2, 3) }, want: Disturbed{Deliveries: 3, Left: 1}},
		{name: "with pings", script: func(p *peer) { p.records(1); p.ping("a"); p.records(2, 3) }, want: Disturbed{Deliveries: 3, Left: 1}},
		{name: "gap", script: func(p *peer) { p.records(1, 3) }, want: Disturbed{Deliveries: 2, Left: 1, Lost: 1}},
		{name: "the beginning is missing", script: func(p *peer) { p.records(3) }, want: Disturbed{Deliveries: 1, Left: 1, Lost: 2}},
		{name: "duplicate", script: func(p *peer) { p.records(1, 2, 2, 3) }, want: Disturbed{Deliveries: 4, Left: 1, Duplicates: 1}},
		{name: "from before", seen: 1, script: func(p *peer) { p.records(1, 2, 3) }, want: Disturbed{Deliveries: 3, Left: 1, Duplicates: 1}},
		{name: "later", seen: 2, script: func(p *peer) { p.records(3) }, want: Disturbed{Deliveries: 1, Left: 1, Lost: 2}},
		{name: "other bytes", script: func(p *peer) { p.corrupt(1); p.records(1, 2, 3) }, want: Disturbed{Deliveries: 3, Left: 1, Corrupt: 1}},
		{name: "another run", script: func(p *peer) { p.foreign(1); p.records(1, 2, 3) }, want: Disturbed{Deliveries: 3, Left: 1, Foreign: 1}},
		{name: "broken frame", script: func(p *peer) { p.records(1, 2); p.write([]byte{0xf1, 0}) },
			want: Disturbed{Deliveries: 2, Corrupt: 1, Cut: 1, Unexplained: 1, Unread: 1, UnreadMax: 1, InKernel: 1, InKernelMax: 1, PartialMax: 2}},
		{name: "slow with one missing", script: func(p *peer) { p.records(1, 2); p.close(1008, "slow") },
			want: Disturbed{Deliveries: 2, TooEarly: 1, Unread: 1, UnreadMax: 1, Frames: map[string]int64{"1008 slow": 1}}},
		{name: "slow above the limit", limit: 1000, script: func(p *peer) { p.records(1, 2); p.close(1008, "slow") },
			want: Disturbed{Deliveries: 2, Unread: 1, UnreadMax: 1, Frames: map[string]int64{"1008 slow": 1}}},
		{name: "cut", script: func(p *peer) { p.records(1, 2); p.cut() },
			want: Disturbed{Deliveries: 2, Cut: 1, Unexplained: 1, Unread: 1, UnreadMax: 1, InKernel: 1, InKernelMax: 1, PartialMax: 2}},
		{name: "cut with a reason", limit: 1000, script: func(p *peer) { p.records(1, 2); p.cut() },
			want: Disturbed{Deliveries: 2, Cut: 1, MayBeSlow: 1, Unread: 1, UnreadMax: 1, InKernel: 1, InKernelMax: 1, PartialMax: 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			begin := make(chan struct{})
			s := newServer(t, Raw, 128, func(p *peer) { <-begin; tc.script(p) })
			var f feed
			f.seen.Store(tc.seen)
			v := f.connect(t, s, func(o *DisturberOptions) {
				if tc.limit > 0 {
					o.OutboundMax = tc.limit
				}
			})
			require.True(t, v.upgrade())
			f.produced.Store(3)
			close(begin)
			if v.catchUp() {
				v.leave()
			}
			v.account()
			want := tc.want
			want.Connected, want.Upgraded = 1, 1
			require.Equal(t, want.Lost+uint64(want.Duplicates+want.TooEarly+want.Unexplained) > 0, len(v.n.Faults) == 1, "%v", v.n.Faults)
			v.n.Faults = nil
			require.Equal(t, want, v.n)
		})
	}
}

func TestVictimRefused(t *testing.T) {
	s := newServer(t, Raw, 128, nil, refuse(func(w http.ResponseWriter) bool { http.NotFound(w, nil); return true }))
	v := new(feed).connect(t, s)
	require.False(t, v.upgrade())
	v.account()
	require.Equal(t, Disturbed{Connected: 1, Refused: 1, NotUpgraded: map[string]int64{"HTTP 404": 1}}, v.n)
}

// A reset is clear while the server has no reason to end the connection.
func TestVictimResets(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit int
		late  time.Duration // Since the newest record that came was made.
		want  Disturbed
	}{
		{"up to date", 1 << 20, 0, Disturbed{ResetClear: 1}},
		{"much waits", 1000, 0, Disturbed{ResetBehind: 1, MayBeSlow: 1}},
		{"a pong may be late", 1 << 20, time.Minute, Disturbed{ResetBehind: 1, MayBeLate: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, Raw, 128, nil)
			var f feed
			v := f.connect(t, s, func(o *DisturberOptions) { o.OutboundMax = tc.limit })
			require.True(t, v.upgrade())
			f.produced.Store(5)
			v.upTo -= int64(tc.late)
			v.reset(rand.New(rand.NewPCG(1, 1)))
			v.account()
			want := tc.want
			want.Connected, want.Upgraded, want.HalfFrames = 1, 1, v.n.HalfFrames
			want.Unread, want.UnreadMax, want.InKernel, want.InKernelMax = 1, 5, 1, 5
			require.Equal(t, want, v.n)
		})
	}
}

// A server that lets more wait than its limit and what the sockets hold is found out.
func TestVictimTooLate(t *testing.T) {
	s := newServer(t, Raw, 1<<10, func(p *peer) { p.records(1) })
	var f feed
	v := f.connect(t, s)
	require.True(t, v.upgrade())
	v.due = 100_000
	f.produced.Store(1)
	require.True(t, v.catchUp())
	require.Equal(t, int64(1), v.n.TooLate)
	v.leave()
	v.account()
}

// Every connection ends in exactly one way, and all leave in the end.
func TestDisturbers(t *testing.T) {
	s := newServer(t, Raw, 128, nil)
	// It says nothing to those that reset before they have sent their request.
	s.http.Config.ErrorLog = nil
	var f feed
	o := f.options(s)
	d, err := NewDisturbers(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.Start(ctx)
	require.Eventually(t, func() bool {
		n := d.Snapshot()
		return n.ResetUpgrade > 2 && n.ResetClear > 2 && n.Left > 0 && n.Stops > 2 && n.Slows > 2 && n.HalfFrames > 0
	}, 30*time.Second, 10*time.Millisecond)
	cancel()
	n := d.Wait()
	require.Equal(t, n.Connected, n.ResetUpgrade+n.ResetClear+n.Left, "%+v", n)
	require.Zero(t, n.Stuck+n.Unexplained+n.TooEarly+n.TooLate+n.ResetBehind+n.Cut)
	require.Empty(t, n.NotDialed)
}

func TestDisturberOptions(t *testing.T) {
	o := new(feed).options(&server{format: mustFormat(t, 1, 128)})
	for _, change := range []func(o *DisturberOptions){
		func(o *DisturberOptions) { o.StopMax = shortestStop }, func(o *DisturberOptions) { o.OutboundMax = 0 },
		func(o *DisturberOptions) { o.Seen = nil }, func(o *DisturberOptions) { o.Channel.Format = nil },
	} {
		bad := o
		change(&bad)
		_, err := NewDisturbers(bad)
		require.ErrorContains(t, err, "disturbers need")
	}
}

func TestDisturbedAdds(t *testing.T) {
	n := Disturbed{Connected: 1, Lost: 2, Frames: map[string]int64{"1008 slow": 1}}
	c := n.clone()
	n.add(&Disturbed{Connected: 2, Lost: 3, UnreadMax: 4, Frames: map[string]int64{"1008 slow": 2, "1008 no pong": 1}})
	require.Equal(t, Disturbed{Connected: 3, Lost: 5, UnreadMax: 4, Frames: map[string]int64{"1008 slow": 3, "1008 no pong": 1}}, n)
	require.Equal(t, map[string]int64{"1008 slow": 1}, c.Frames)
}
