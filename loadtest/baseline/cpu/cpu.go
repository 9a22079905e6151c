// Package cpu decides whether the CPU allows one more connection, in the three ways of the plan.
//
// Thread rule: any goroutine may call Overloaded. Watch belongs to one goroutine.
package cpu

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"wsd/internal/cgroup"
	"wsd/loadtest/baseline/shm"
)

// window is the shortest time over which a share is computed, and how long Opt 2 keeps a reading.
const window = 100 * time.Millisecond

// Meter reads the CPU that the cgroup uses of its quota.
type Meter struct {
	quota cgroup.Quota
	stat  *shm.Slot

	mu     sync.Mutex
	usedAt time.Time     // When used was read.
	used   time.Duration // CPU time at the start of the window.
	share  float64       // Share of the quota in the last whole window, in percent.
}

// NewMeter finds the cgroup of this process. dir is a recorded tree, for tests; empty means the mounted one. ok is
// false if there is no quota, so that nothing is to be checked.
func NewMeter(dir string, stat *shm.Slot) (m *Meter, ok bool, err error) {
	var tree *cgroup.Tree
	if dir == "" {
		tree, err = cgroup.Mounted("")
	} else {
		tree, err = cgroup.At(dir)
	}
	if err != nil {
		return nil, false, fmt.Errorf("find the cgroup: %w", err)
	}
	quotas, err := tree.Quotas()
	if err != nil {
		return nil, false, fmt.Errorf("read the CPU quota of the cgroup: %w", err)
	}
	lowest := cgroup.Quota{CPUs: math.Inf(1)}
	for _, q := range quotas {
		if _, known, err := q.Used(); err == nil && known && q.CPUs < lowest.CPUs {
			lowest = q
		}
	}
	if math.IsInf(lowest.CPUs, 1) {
		return nil, false, nil
	}
	m = &Meter{quota: lowest, stat: stat}
	_, err = m.Read()
	return m, true, err
}

// CPUs is the quota.
func (m *Meter) CPUs() float64 { return m.quota.CPUs }

// Read reads the cgroup's CPU time and returns the share of the quota, in percent, that was used in the last window.
func (m *Meter) Read() (float64, error) {
	m.stat.CPUReads.Add(1)
	used, _, err := m.quota.Used()
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of the cgroup: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch elapsed := now.Sub(m.usedAt); {
	case m.usedAt.IsZero():
		m.usedAt, m.used = now, used
	case elapsed >= window:
		m.share = 100 * (used - m.used).Seconds() / elapsed.Seconds() / m.quota.CPUs
		m.usedAt, m.used = now, used
	}
	return m.share, nil
}

// Gate decides about connections.
type Gate struct {
	limit   float64    // Percent of the quota.
	meter   *Meter     // nil: nothing is checked.
	board   *shm.Board // With central admission (Opt 1), which decides instead of meter.
	stat    *shm.Slot
	sampled bool         // Opt 2.
	cached  atomic.Int64 // Opt 2: when share was read, in nanoseconds.
	share   atomic.Int64 // Opt 2: the share, in thousandths of a percent.
}

// NewGate returns a gate that reads meter for each connection, or at most once in 100 ms if sampled.
func NewGate(meter *Meter, limit float64, sampled bool, stat *shm.Slot) *Gate {
	return &Gate{limit: limit, meter: meter, sampled: sampled, stat: stat}
}

// Central returns a gate that follows the main process.
func Central(b *shm.Board, stat *shm.Slot) *Gate { return &Gate{board: b, stat: stat} }

// Overloaded reports whether a new connection is to be refused. An unreadable cgroup refuses none.
func (g *Gate) Overloaded() bool {
	switch {
	case g.board != nil:
		g.stat.CPUCached.Add(1)
		return g.board.Overloaded()
	case g.meter == nil:
		return false
	case g.sampled:
		now := time.Now().UnixNano()
		at := g.cached.Load()
		// One goroutine reads; the others use what was there before.
		if now-at < int64(window) || !g.cached.CompareAndSwap(at, now) {
			g.stat.CPUCached.Add(1)
			return float64(g.share.Load())/1000 > g.limit
		}
		share, err := g.meter.Read()
		g.share.Store(int64(share * 1000))
		return err == nil && share > g.limit
	default:
		share, err := g.meter.Read()
		return err == nil && share > g.limit
	}
}

// Watch is central admission: it reads the meter every 100 ms and publishes the decision until ctx ends.
func Watch(ctx context.Context, m *Meter, limit float64, b *shm.Board) {
	ticker := time.NewTicker(window)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			share, err := m.Read()
			b.SetOverloaded(err == nil && share > limit)
		}
	}
}
