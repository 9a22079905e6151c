package shard

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/routing"
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

// Clients that do not read at all are closed as slow, also when they are all there are, and the bus is not held up for long.
func TestPaceStopped(t *testing.T) {
	r := newRigStalling(t, waitMax, func(o *Options) {
		o.Limits.OutboundMax, o.Limits.CloseGrace = 128<<10, 200*time.Millisecond
	})
	for range 3 {
		require.NoError(t, r.dial("/ws?channel=a").conn.(*net.TCPConn).SetReadBuffer(4096))
	}
	value := strings.Repeat("v", 16<<10)
	for n := 0; r.shard.Stats().Slow[PolicyDisconnect].Load() < 3; n++ {
		require.Less(t, n, 10_000)
		r.publish("a", value)
	}
}

// A client that is behind alone, and takes bytes, has the bus held for it, within a budget of time.
func TestPaceAlone(t *testing.T) {
	ring, err := bus.New(bus.Options{Shards: 1, Slots: 2, BytesMax: 1, StallMax: 1, Wake: func(routing.ShardID) {}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	waiting := bus.NewBuilder(bus.BuilderOptions{RecordsMax: 1, BytesMax: 1})
	ch := routing.Channel{ID: 1, Name: "a"}
	ch.Shards.Add(0)
	waiting.Add(ch, bus.Record{Value: make([]byte, 600)}, time.Now())
	require.NoError(t, ring.Publish(t.Context(), waiting.Seal()))
	s := &Shard{limits: Limits{OutboundMax: 1000}, stats: newStats(), cursor: ring.Cursor(0)}
	s.pacing.moment, s.pacing.blocked = 1, 1
	s.stats.Clients.Store(100)
	c := &conn{}
	queue := func(n int) {
		c.outLen = n
		s.noteQueue(c)
	}
	queue(400)
	require.False(t, s.pace())
	queue(600)
	for range 2 {
		for range paceMax {
			require.True(t, s.pace())
			s.tick++
			s.pacing.drained++
		}
		require.False(t, s.pace(), "a gather goes through")
	}
	queue(0)
	require.False(t, s.pace(), "nobody is behind")
	queue(600)
	s.limits.OutboundMax = 1200
	require.False(t, s.pace(), "a client in order could take what is on the bus")
	s.limits.OutboundMax = 1000
	require.True(t, s.pace())
	s.tick += paceIdle
	require.False(t, s.pace(), "it takes nothing")
	require.False(t, s.pace(), "it is not held for again")

	held := 0                                                      // Whoever catches up and falls behind all the time.
	for began := s.tick; s.tick-began < 100*paceRefill; s.tick++ { // Earns 100 ticks.
		queue(0)
		queue(600)
		s.pacing.drained++
		if s.pace() {
			held++
		}
	}
	require.GreaterOrEqual(t, held, paceBudget)
	require.LessOrEqual(t, held, paceBudget+100+2*paceMax)
}
