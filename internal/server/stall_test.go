package server

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/epoll"
	"wsd/internal/routing"
	"wsd/internal/shard"
	"wsd/internal/testutil"
)

// gate is a hook that holds up the shard of whoever subscribes to the channel "stall".
type gate struct {
	shard.Positions
	open chan struct{} // Closed to let the shard go on.
}

func (g *gate) Position(channel string) (offset uint64, epoch string, ok bool) {
	if channel == "stall" {
		<-g.open
	}
	return g.Positions.Position(channel)
}

func gated(open chan struct{}) func(shard.Positions) shard.Positions {
	return func(p shard.Positions) shard.Positions { return &gate{p, open} }
}

// stalling is a wsd one of whose shards a test can hold up.
type stalling struct {
	*rig
	open   chan struct{}
	victim routing.ShardID
}

func newStalling(t testing.TB, mode string) *stalling {
	t.Helper()
	s := &stalling{open: make(chan struct{})}
	h := hooks{positions: gated(s.open)}
	s.rig = newRigWith(t, h, map[string]any{"shards": fmt.Sprint(stallShards), "steering.mode": mode, "steering.pin_dir": testutil.BPFFS(t)})
	t.Cleanup(s.release)
	return s
}

const stallShards = 7

// stall holds up the shard of a new client.
func (s *stalling) stall() {
	s.t.Helper()
	c := s.join()
	_, err := fmt.Sscan(c.shard, &s.victim)
	require.NoError(s.t, err)
	c.send(`{"id":9,"subscribe":{"channel":"stall"}}`)
	s.eventually("stalled", func() bool {
		f := s.server.steering.Slot(s.victim).Figures()
		return f.BusySince != 0 && time.Duration(epoll.Monotonic()-f.BusySince) > s.server.cfg.Steering.StallBound+20*time.Millisecond
	})
}

func (s *stalling) release() {
	select {
	case <-s.open:
	default:
		close(s.open)
	}
}

func (s *stalling) picked() uint64 { return s.server.steering.Slot(s.victim).Figures().Picked }

// storm upgrades connections at a rate until it is stopped, whatever the others wait
// for, and closes each. It returns how long each took.
func (s *stalling) storm(ctx context.Context, perSecond int) (took []time.Duration) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	address := "ws://" + s.server.Addresses()[0].String() + "/ws?channel=a"
	for {
		select {
		case <-ctx.Done():
			clients.Wait()
			return took
		case <-tick.C:
		}
		clients.Go(func() {
			began := time.Now()
			d := ws.Dialer{Timeout: waitMax}
			conn, _, _, err := d.Dial(context.Background(), address)
			if err != nil {
				s.t.Errorf("a client was not served: %v", err)
				return
			}
			conn.Close()
			mu.Lock()
			took = append(took, time.Since(began))
			mu.Unlock()
		})
	}
}

// A stalled shard gets no connection once the bound is over, and no rush when it is
// back; every client of the storm is served.
func TestStalledShard(t *testing.T) {
	testutil.RequireBPF(t)
	s := newStalling(t, "require")
	ctx, cancel := context.WithCancel(t.Context())
	stormed := make(chan []time.Duration)
	go func() { stormed <- s.storm(ctx, 500) }()
	s.eventually("the storm has begun", func() bool { return s.server.clientsAccepted() > 100 })

	s.stall()
	picked, accepted := s.picked(), s.server.clientsAccepted()
	s.eventually("many were served meanwhile", func() bool { return s.server.clientsAccepted() > accepted+1500 })
	require.Equal(t, picked, s.picked(), "no pick while it stalls")
	s.release()

	// Over the ramp its part grows to twice the even share; of the first half that is half
	// an even share on average.
	s.eventually("it is back", func() bool { return s.server.steering.Slot(s.victim).Figures().StalledUntil != 0 })
	back := s.server.steering.Slot(s.victim).Figures().StalledUntil
	picked, accepted = s.picked(), s.server.clientsAccepted()
	half := uint64(s.server.cfg.Steering.Ramp / 2)
	s.eventually("half of the ramp is over", func() bool { return epoll.Monotonic()-back > half })
	even := float64(s.server.clientsAccepted()-accepted) / stallShards
	require.LessOrEqual(t, float64(s.picked()-picked), even*1.5, "even would be %v", even)
	cancel()
	require.NotEmpty(t, <-stormed)
	s.eventually("it gets connections again", func() bool { s.dial("/ws?channel=a"); return s.picked() > picked })
}

// clientsAccepted is how many connections all shards have accepted.
func (s *Server) clientsAccepted() (n uint64) {
	for _, sh := range s.shards {
		n += sh.Stats().Accepted.Load()
	}
	return n
}

// What clients notice of a shard that stalls for 3 s of a storm of 5 s, 1,000 a second, until they are
// upgraded: the median and the 99th percentile in ms.
func BenchmarkStalledShard(b *testing.B) {
	for _, c := range []struct {
		name, mode string
		stall      bool
	}{{"steered", "require", false}, {"steered,stall", "require", true}, {"hash,stall", "off", true}} {
		b.Run(c.name, func(b *testing.B) {
			testutil.RequireBPF(b)
			for range b.N {
				s := newStalling(b, c.mode)
				ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
				stormed := make(chan []time.Duration)
				go func() { stormed <- s.storm(ctx, 1000) }()
				if c.stall {
					time.Sleep(time.Second)
					s.stall()
					time.Sleep(3 * time.Second)
					s.release()
				}
				took := <-stormed
				cancel()
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
				require.NoError(b, s.stop())
			}
		})
	}
}
