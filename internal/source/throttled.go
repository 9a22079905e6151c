package source

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// throttleShown is how long Status has a broker after the pause that it asked for.
const throttleShown = 10 * time.Second

// throttles notes which brokers hold wsd back by quotas. Any goroutine may use it.
type throttles struct {
	mu     sync.Mutex
	byAddr map[string]pauseOf
}

type pauseOf struct {
	pause time.Duration
	until time.Time
}

// ThrottleStatus is a broker that holds wsd back by quotas.
type ThrottleStatus struct {
	Address string        `json:"address"`
	Pause   time.Duration `json:"pause"` // What its last response that asked for a pause asked for.
}

// throttled notes that a broker asks for a pause. Any goroutine may call it.
func (s *Source) throttled(addr string, pause time.Duration) {
	s.stats.Throttled.Add(uint64(pause))
	t := &s.throttles
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for addr, b := range t.byAddr {
		if now.Sub(b.until) > throttleShown {
			delete(t.byAddr, addr)
		}
	}
	if t.byAddr == nil {
		t.byAddr = make(map[string]pauseOf)
	}
	t.byAddr[addr] = pauseOf{pause, now.Add(pause)}
}

// status returns the brokers that asked for a pause lately, by address.
func (t *throttles) status(now time.Time) (list []ThrottleStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for addr, b := range t.byAddr {
		if now.Sub(b.until) <= throttleShown {
			list = append(list, ThrottleStatus{addr, b.pause})
		}
	}
	slices.SortFunc(list, func(a, b ThrottleStatus) int { return strings.Compare(a.Address, b.Address) })
	return list
}
