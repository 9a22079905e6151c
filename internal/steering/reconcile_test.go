package steering

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
	"wsd/internal/testutil"
)

// memorySteering has slots in plain memory and no listeners.
func memorySteering(tb testing.TB, shards int, mode string) *Steering {
	tb.Helper()
	s := &Steering{slots: memoryTable().slice(shards), handshakes: make([]handshakeWindow, shards)}
	s.status.Store(&Status{Mode: mode})
	return s
}

// look is what one call of Reconcile finds at a shard.
type look struct{ picked, migrated, accepted, closed uint64 }

func TestReconcile(t *testing.T) {
	steady := func(n int, l look) (all []look) {
		for range n {
			all = append(all, l)
		}
		return all
	}
	then := func(looks []look, i int, l look) []look {
		looks[i] = l
		return looks
	}
	for _, c := range []struct {
		name            string
		looks           []look
		lost, uncounted uint64
		load            int64
	}{
		{"nothing to do", steady(30, look{picked: 10, accepted: 10, closed: 4}), 0, 0, 6},
		{"too early", steady(lostWindow-1, look{picked: 10, accepted: 7}), 0, 0, 10},
		{"never came", steady(lostWindow, look{picked: 10, accepted: 7}), 3, 0, 7},
		{"written off once only", steady(5*lostWindow, look{picked: 10, accepted: 7}), 3, 0, 7},
		{"never came, migrated", steady(lostWindow, look{picked: 10, migrated: 5, accepted: 7}), 8, 0, 7},
		{"never picked", steady(1, look{accepted: 5}), 0, 5, 5},
		{"never picked and gone", steady(1, look{accepted: 5, closed: 5}), 0, 5, 0},
		{"in flight, gone at one look", then(steady(lostWindow, look{picked: 20, accepted: 10}), 4, look{picked: 20, accepted: 20}), 0, 0, 20},
		{"in flight beside some that never came", then(steady(lostWindow, look{picked: 20, accepted: 10}), 4, look{picked: 20, accepted: 17}), 3, 0, 17},
		{"more of them later", append(steady(lostWindow, look{picked: 10, accepted: 7}), steady(lostWindow, look{picked: 12, accepted: 7})...), 5, 0, 7},
		{"late, so it counts again", append(steady(lostWindow, look{picked: 10, accepted: 7}), look{picked: 10, accepted: 9}), 3, 2, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := memorySteering(t, 3, Pinned)
			cells, tally := s.slots[1].cells, s.slots[1].tally
			for _, l := range c.looks {
				tally.Load += int64(l.picked - tally.Picked + l.migrated - cells.Migrated)
				tally.Picked, cells.Migrated = l.picked, l.migrated
				s.Slot(1).EndTurn(l.accepted-cells.Accepted, l.closed-cells.Closed, 0)
				s.Reconcile()
			}
			f := s.Slot(1).Figures()
			require.Equal(t, c.lost, f.Lost)
			require.Equal(t, c.uncounted, f.Uncounted)
			require.Equal(t, c.load, f.Load())
			require.Equal(t, c.load, tally.Load)
			require.Zero(t, s.Slot(0).Figures())
			require.Zero(t, s.Slot(2).Figures())
		})
	}
}

// A connection that comes or goes while Reconcile looks is not lost: here a new one
// is on its way at every look.
func TestReconcileWhileTheyCome(t *testing.T) {
	s := memorySteering(t, 1, Pinned)
	tally := s.slots[0].tally
	for i := range uint64(10 * lostWindow) {
		tally.Picked++
		tally.Load++
		s.Reconcile()
		s.Slot(0).EndTurn(1, i%2, 0)
	}
	f := s.Slot(0).Figures()
	require.LessOrEqual(t, f.Lost, f.Uncounted+1, "the one on its way, which counts again as it is accepted")
	require.InDelta(t, float64(f.Accepted-f.Closed), f.Load(), 1)
}

// With slow handshakes and a steady flow of clients some are always on their way.
// They are taken off once, and are back when the flow ends.
func TestReconcileSteadyFlow(t *testing.T) {
	s := memorySteering(t, 1, Pinned)
	tally, slot := s.slots[0].tally, s.Slot(0)
	const each, underWay = 100, 60
	tally.Picked, tally.Load = underWay, underWay
	for range 10 * lostWindow {
		tally.Picked += each
		tally.Load += each
		slot.EndTurn(each, 0, 0)
		s.Reconcile()
	}
	require.LessOrEqual(t, slot.Figures().Lost, uint64(underWay))
	slot.EndTurn(underWay, 0, 0)
	f := slot.Figures()
	require.Equal(t, f.Lost, f.Uncounted)
	require.EqualValues(t, f.Accepted, f.Load())
}

// What a shard accepts in a turn it tells at its end: a long one must not make that
// look lost.
func TestReconcileLongTurn(t *testing.T) {
	s := memorySteering(t, 1, Pinned)
	tally, slot := s.slots[0].tally, s.Slot(0)
	tally.Picked, tally.Load = 50, 50
	slot.BeginTurn(monotonicNow() - 2*ReconcileInterval)
	for range 3 * lostWindow {
		s.Reconcile()
	}
	require.Zero(t, slot.Figures().Lost)
	slot.EndTurn(50, 0, 0)
	slot.BeginTurn(0)
	for range 3 * lostWindow {
		s.Reconcile()
	}
	require.Zero(t, slot.Figures().Lost)
	require.EqualValues(t, 50, slot.Figures().Load())
}

// A shard and Reconcile that see the same connections count them once.
func TestCountTogether(t *testing.T) {
	s := memorySteering(t, 1, Pinned)
	slot := s.Slot(0)
	for range 200 {
		var both sync.WaitGroup
		accepted := atomic.AddUint64(&slot.cells.Accepted, 3)
		for range 2 {
			both.Go(func() { slot.count(accepted) })
		}
		both.Wait()
	}
	require.Equal(t, Figures{Accepted: 600, Uncounted: 600, load: 600}, slot.Figures())
}

func TestSlot(t *testing.T) {
	s := memorySteering(t, 2, Hash)
	slot := s.Slot(1)
	slot.BeginTurn(7)
	require.EqualValues(t, 7, slot.Figures().BusySince)
	slot.EndTurn(5, 3, 1e9)
	require.Equal(t, Figures{Accepted: 5, Closed: 3, Uncounted: 5, BusySince: 7, load: 2}, slot.Figures(), "without a bound nothing is a stall")
	s.slots[0].table.stallBound.Store(1e6)
	slot.EndTurn(0, 0, 1e6)
	require.Zero(t, slot.Figures().StalledUntil)
	slot.EndTurn(0, 0, 1e6+1)
	require.EqualValues(t, 7+1e6+1, slot.Figures().StalledUntil)
	slot.BeginTurn(0)
	slot.SetDraining(true)
	require.True(t, slot.Figures().Draining)
	slot.SetDraining(false)
	require.False(t, slot.Figures().Draining)
	require.EqualValues(t, 2, slot.Figures().Load())
	require.Zero(t, slot.Figures().Pending())
	require.Zero(t, Figures{load: -9}.Load(), "never below zero")
	require.Zero(t, Figures{Accepted: 9}.Pending())
	require.Zero(t, s.Slot(0).Figures())
	require.PanicsWithValue(t, "BUG: slot of shard 2 of 2", func() { s.Slot(2) })
}

// A flood of SYNs whose senders do not exist, beside real clients: these are served,
// and soon after its end the load is the connections that there are.
func TestFlood(t *testing.T) {
	const shards, syns, clients = 7, 100_000, 300
	home, peer := testutil.NewNetNS(t), testutil.NewNetNS(t)
	testutil.Link(t, home, peer, "10.99.0.0/24")
	home.Route("198.18.0.0/15", "10.99.0.2")
	v := mustServeIn(t, home, shards, "10.99.0.1:0")
	stopReconciling := v.reconcile()
	defer stopReconciling()

	flooded := make(chan error, 1)
	go func() {
		sent, err := peer.Flood(t.Context(), v.groups[0].Address, syns, testutil.Sources(t, "198.18.0.0/15", 5000))
		if err == nil && sent != syns {
			t.Errorf("sent %d of %d SYNs", sent, syns)
		}
		flooded <- err
	}()
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		v.accept(clients)
	}()
	for range clients {
		c, err := peer.Dial(t.Context(), "tcp", v.groups[0].Address.String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
	}
	<-accepting
	require.NoError(t, <-flooded)
	ended := time.Now()
	require.Greater(t, v.counted()["picked_least_loaded"]+v.counted()["picked_fallback"], uint64(syns*9/10), "the flood reached the program, but for what the link lost")
	for shard := range shards {
		for {
			f := v.figures(shard)
			there := int64(f.Accepted-f.Closed) + v.acceptQueue(shard)
			if difference := f.Load() - there; difference >= -1 && difference <= 1 {
				break
			}
			require.Less(t, time.Since(ended), 5*time.Second, "shard %d: %+v", shard, f)
			time.Sleep(10 * time.Millisecond)
		}
	}
	t.Logf("all figures true %v after the flood", time.Since(ended).Round(time.Millisecond))
	var lost uint64
	for shard := range shards {
		lost += v.figures(shard).Lost
	}
	require.Greater(t, lost, uint64(syns)/2)
}

// reconcile does what a server does with what is steered, until it is stopped.
func (v *server) reconcile() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(ReconcileInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				v.Reconcile()
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// A connection that came by a SYN cookie was never picked, and counts when it is
// accepted.
func TestUncounted(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 2, unpinned)
	v.set("policy", 0, uint32(steerPolicyKindPOLICY_HASH))
	v.dial(0, 30, 1)
	v.accept(30)
	require.Equal(t, map[string]uint64{"picked_hash": 30}, v.counted())
	loads := v.loads()
	require.EqualValues(t, 30, loads[0]+loads[1])
	for shard := range 2 {
		f := v.Slot(routing.ShardID(shard)).Figures()
		require.Equal(t, f.Accepted, f.Uncounted)
		require.EqualValues(t, len(v.accepted[shard]), f.Accepted)
	}
	// The next go where there are fewer.
	v.set("policy", 0, uint32(steerPolicyKindPOLICY_LEAST_LOADED))
	v.dial(0, 30, 1)
	v.accept(30)
	require.Equal(t, []int64{30, 30}, v.loads())
}
