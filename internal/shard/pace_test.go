package shard

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A backlog of many times the outbound limit reaches every client that reads, however fast it is published.
func TestPace(t *testing.T) {
	const clients, batches = 12, 120
	value := strings.Repeat("v", 32<<10)
	r := newRigStalling(t, waitMax, func(o *Options) { o.Limits.OutboundMax = 256 << 10 })
	var running sync.WaitGroup
	for range clients {
		c := r.dial("/ws?channel=a")
		running.Go(func() {
			for n := range batches {
				event, got, err := c.next()
				if err != nil || event != wire.EventText || got != fmt.Sprint(n)+value {
					t.Errorf("message %d: event %v, %d bytes, error %v", n, event, len(got), err)
					return
				}
			}
		})
	}
	for n := range batches {
		r.publish("a", fmt.Sprint(n)+value)
	}
	running.Wait()
	require.Zero(t, r.shard.Stats().Slow[PolicyDisconnect].Load())
	require.Positive(t, r.shard.Stats().Paced.Load())
}

// Clients that do not read at all are closed as slow, also when they are all there are, and the bus is not held up
// for long.
func TestPaceStopped(t *testing.T) {
	r := newRigStalling(t, waitMax, func(o *Options) {
		o.Limits.OutboundMax, o.Limits.CloseGrace = 128<<10, 200*time.Millisecond
	})
	for range 3 {
		require.NoError(t, tcp(r.dial("/ws?channel=a").conn).SetReadBuffer(4096))
	}
	value := strings.Repeat("v", 16<<10)
	for n := 0; r.shard.Stats().Slow[PolicyDisconnect].Load() < 3; n++ {
		require.Less(t, n, 10_000)
		r.publish("a", value)
	}
}

// The brake by a table of what happens from one decision to the next.
func TestPaceDecide(t *testing.T) {
	const limit = 1000 // OutboundMax.
	calm := paceInput{outboundMax: limit, clients: 100, ready: true, backlog: 600}
	type step struct {
		what     string
		ticks    uint32 // That pass before.
		progress uint64 // Bytes taken before.
		change   func(p *pacing, in *paceInput)
		hold     bool
	}
	blocked := func(n, bytes int64) func(*pacing, *paceInput) {
		return func(p *pacing, in *paceInput) { p.blocked, in.bytes = n, bytes }
	}
	for name, steps := range map[string][]step{
		"nobody is blocked": {
			{what: "whatever waits", change: func(_ *pacing, in *paceInput) { in.bytes = 1 << 30 }},
		},
		"most are blocked": {
			{what: "with little waiting", change: blocked(51, 51*limit/pacePart)},
			{what: "with more", change: blocked(51, 51*limit/pacePart+1), hold: true},
			{what: "and taking bytes", ticks: 1, progress: 1, hold: true},
			{what: "until little is left", ticks: 1, progress: 1, change: blocked(51, 100*(limit/paceDone))},
		},
		"most are blocked, and the bus is empty": {
			{change: func(p *pacing, in *paceInput) { p.blocked, in.bytes, in.ready = 100, 1<<30, false }},
		},
		"most are blocked, and little is on the bus": {
			{change: func(p *pacing, in *paceInput) { p.blocked, in.bytes, in.backlog = 100, 1<<30, 1 }, hold: true},
		},
		"half are blocked": {
			{what: "many, not most", change: blocked(50, 50*limit), hold: true},
			{what: "but no longer than paceTicks", ticks: paceTicks, progress: 1},
			{what: "and then again", progress: 1, hold: true},
		},
		"half are blocked, and little is on the bus": {
			{change: func(p *pacing, in *paceInput) { p.blocked, in.bytes, in.backlog = 50, 50*limit, limit/2 }},
		},
		"few are blocked": {
			{what: "less than paceMany", change: func(p *pacing, in *paceInput) { p.blocked, in.clients, in.bytes = 3, 20, 1<<20 }},
			{what: "less than one in paceShare", change: func(p *pacing, in *paceInput) { p.blocked, in.clients, in.bytes = 12, 100, 1<<20 }},
			{what: "one in paceShare", change: func(p *pacing, in *paceInput) { p.blocked, in.clients, in.bytes = 13, 100, 1<<20 }, hold: true},
		},
		"nobody takes a byte": {
			{change: blocked(100, 100*limit), hold: true},
			{what: "for paceIdle", ticks: paceIdle},
			{what: "it holds no longer", ticks: 1},
			{what: "until bytes are taken", progress: 1, hold: true},
		},
		"those who conflate do not count": {
			{change: func(p *pacing, in *paceInput) {
				p.blocked, p.conflating, p.conflatingBytes, in.bytes = 11, 80, 90*limit, 90*limit+11*limit
			}, hold: true},
			{what: "nor what waits for them", ticks: 1, progress: 1, change: func(_ *pacing, in *paceInput) {
				in.bytes = 90*limit + 20*(limit/paceDone)
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, in := pacing{round: 1}, calm
			in.tick = 10
			for _, st := range steps {
				in.tick += st.ticks
				p.progress += st.progress
				if st.change != nil {
					st.change(&p, &in)
				}
				require.Equal(t, st.hold, p.decide(in), st.what)
				require.Equal(t, st.hold, p.wakeAt() != 0, "%s: a wake-up", st.what)
			}
		})
	}
}

// A client that is behind alone, and takes bytes, has the bus left alone, within a budget of time.
func TestPaceAlone(t *testing.T) {
	s := newSender(1000)
	p, o := &s.pacing, &outbox{}
	p.blocked = 1
	in := paceInput{outboundMax: 1000, clients: 100, ready: true, backlog: 600}
	queue := func(n int) { s.add(o, n-o.cost) }
	queue(400)
	require.False(t, p.decide(in))
	queue(600)
	for range 2 {
		for range paceTicks {
			require.True(t, p.decide(in))
			in.tick++
			p.progress++
		}
		require.False(t, p.decide(in), "a gather goes through")
	}
	queue(0)
	require.False(t, p.decide(in), "nobody is behind")
	queue(600)
	in.backlog = 500
	require.False(t, p.decide(in), "a client that keeps up could take what is on the bus")
	in.backlog = 600
	require.True(t, p.decide(in))
	in.tick += paceIdle
	require.False(t, p.decide(in), "it takes nothing")
	require.False(t, p.decide(in), "it is not held for again")

	held := 0                                                         // For one that catches up and falls behind all the time.
	for began := in.tick; in.tick-began < 100*paceRefill; in.tick++ { // Earns 100 ticks.
		queue(0)
		queue(600)
		p.progress++
		if p.decide(in) {
			held++
		}
	}
	require.GreaterOrEqual(t, held, paceBudget)
	require.LessOrEqual(t, held, paceBudget+100+2*paceTicks)
}
