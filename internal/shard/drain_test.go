package shard

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// closesAt returns how many of the clients each step of a plan closes, with shards that look in turn.
func closesAt(plan *drainPlan, began time.Time, step, until time.Duration, shards []int) (closes []int) {
	for at := step; at <= until; at += step {
		n := 0
		for i := range shards {
			k := plan.take(began.Add(at), shards[i])
			shards[i] -= k
			n += k
		}
		closes = append(closes, n)
	}
	return closes
}

// Whatever the clients, the shards and the time: all are closed by the end, and each step closes its part.
func TestDrainIsEven(t *testing.T) {
	for _, shards := range [][]int{{1}, {10}, {1000}, {300, 1, 0, 700}, {100, 100, 100}, {18000}} {
		for _, over := range []time.Duration{time.Second, 7 * time.Second, time.Minute} {
			total := 0
			for _, n := range shards {
				total += n
			}
			var d Drain
			began := time.Now()
			d.Over(total, began, began.Add(over))
			left := append([]int(nil), shards...)
			closes := closesAt(d.plan.Load(), began, tickLength, over, left)
			sum, each := 0, float64(total)*tickLength.Seconds()/over.Seconds()
			for i, n := range closes {
				sum += n
				require.InDelta(t, each, n, 1.01, "step %d of %v over %v", i, shards, over)
			}
			require.Equal(t, total, sum)
		}
	}
}

func TestDrainRate(t *testing.T) {
	var d Drain
	began := time.Now()
	d.AtRate(30, began)
	left := []int{1000}
	closes := closesAt(d.plan.Load(), began, tickLength, 10*time.Second, left)
	require.Equal(t, 700, left[0])
	for _, n := range closes {
		require.InDelta(t, 1.5, n, 0.6)
	}
}

// Clients that came while the drain began are not in its number, and do not stay after its end.
func TestDrainMoreThanCounted(t *testing.T) {
	var d Drain
	began := time.Now()
	d.Over(2, began, began.Add(time.Second))
	left := []int{5}
	closesAt(d.plan.Load(), began, tickLength, time.Second-tickLength, left)
	require.GreaterOrEqual(t, left[0], 3)
	closesAt(d.plan.Load(), began, time.Second, time.Second, left)
	require.Zero(t, left[0])
}

// What a pause of the process has missed does not come as a burst, but for the end of the time.
func TestDrainAfterPause(t *testing.T) {
	began := time.Now()
	for name, c := range map[string]struct {
		at   time.Duration
		most float64
	}{"in the middle": {5 * time.Second, 30}, "at the end": {10 * time.Second, math.MaxInt}} {
		var d Drain
		d.Over(1000, began, began.Add(10*time.Second))
		n := d.plan.Load().take(began.Add(c.at), 1000)
		require.Positive(t, n, name)
		require.LessOrEqual(t, float64(n), c.most, name)
	}
	var d Drain
	d.AtRate(100, began)
	require.LessOrEqual(t, d.plan.Load().take(began.Add(time.Hour), 1000), 20)
}

// A clock that another shard has read later gives and takes nothing.
func TestDrainClockOfAnotherShard(t *testing.T) {
	var d Drain
	began := time.Now()
	d.AtRate(1000, began)
	require.Equal(t, 100, d.plan.Load().take(began.Add(100*time.Millisecond), 1000))
	require.Zero(t, d.plan.Load().take(began.Add(50*time.Millisecond), 1000))
	require.Equal(t, 100, d.plan.Load().take(began.Add(200*time.Millisecond), 1000))
}

// pass lets time pass for a stepped shard, a tick at a time.
func (r *rig) pass(d time.Duration) {
	for ; d > 0; d -= tickLength {
		r.shard.start = r.shard.start.Add(-tickLength)
		if plan := r.shard.opts.Drain.plan.Load(); plan != nil {
			plan.last = plan.last.Add(-tickLength)
		}
		r.step()
	}
}

// drain begins a drain at a rate.
func (r *rig) drain(rate float64) {
	r.shard.opts.Drain.AtRate(rate, time.Now())
	r.shard.PostDrain()
}

func TestDrain(t *testing.T) {
	r := newStepped(t, nil)
	var clients []*client
	r.during(func() {
		for range 10 {
			clients = append(clients, r.join("a"))
		}
	})
	r.drain(0.1)
	r.step()

	// New clients are refused.
	r.during(func() {
		c := r.open()
		c.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey))
		status, body := c.response()
		require.Equal(t, 503, status)
		require.Contains(t, body, "takes no new clients")
	})
	require.Equal(t, 10, r.shard.clients)
	r.drain(1)
	for want := 9; want >= 5; want-- {
		for r.shard.clients > want {
			r.pass(tickLength)
		}
		require.Equal(t, want, r.shard.clients)
	}
	require.Equal(t, uint64(5), r.shard.opts.Drain.Closed())

	// Stopped, it closes nobody, and takes clients again.
	r.shard.opts.Drain.Stop()
	r.shard.PostDrain()
	r.pass(time.Second)
	require.Equal(t, 5, r.shard.clients)
	r.during(func() { clients = append(clients, r.join("a")) })
	require.Equal(t, 6, r.shard.clients)

	// It goes on with whoever is there.
	r.drain(1e6)
	for r.shard.clients > 0 {
		r.pass(tickLength)
	}
	r.during(func() {
		for _, c := range clients {
			code, reason := c.closed()
			require.Equal(t, uint16(3001), code)
			require.Equal(t, "shutdown", reason)
			c.conn.Close()
		}
	})
	eventually(t, "all gone", func() bool { r.step(); return r.reason(ReasonShutdown) == 11 })
}

// Clients get what was on the bus when they were due, before the close.
func TestDrainFlushes(t *testing.T) {
	r := newStepped(t, nil)
	var c *client
	r.during(func() { c = r.dial("/ws?channel=a") })
	for i := range 40 { // More than a turn takes.
		r.publish("a", string(rune('A'+i))+string(make([]byte, 8000)))
	}
	r.drain(1e6)
	r.during(func() {
		for i := range 40 {
			event, payload, err := c.next()
			require.NoError(t, err)
			require.Equal(t, wire.EventText, event)
			require.Equal(t, byte('A'+i), payload[0])
		}
		code, _ := c.closed()
		require.Equal(t, uint16(1001), code)
		c.conn.Close()
	})
}

// A request that is not complete when the drain begins is refused when it is.
func TestDrainRefusesHandshakes(t *testing.T) {
	r := newStepped(t, nil)
	head := wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey)
	var c *client
	r.during(func() {
		c = r.open()
		c.write(head[:20])
		for r.shard.Stats().BytesIn.Load() < 20 {
			time.Sleep(time.Millisecond)
		}
	})
	r.drain(1)
	r.during(func() {
		c.write(head[20:])
		status, _ := c.response()
		require.Equal(t, 503, status)
	})
}
