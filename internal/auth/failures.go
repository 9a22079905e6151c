package auth

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// failuresFor is for how long failures are remembered, at least; at most twice as long.
	failuresFor = time.Minute
	// addressesMax bounds the addresses that are remembered for each such time. Beyond it new ones are not.
	addressesMax = 1 << 16
)

// failures counts the tokens of each address that could not be verified. There are two generations: the current one,
// and the one before, which is forgotten as a whole when the current one takes its place.
type failures struct {
	now func() time.Time // Nil: time.Now.

	mu              sync.Mutex
	began           time.Time
	current, before map[netip.Addr]int
}

// turnLocked begins another generation if it is time.
func (f *failures) turnLocked() {
	now := time.Now()
	if f.now != nil {
		now = f.now()
	}
	switch age := now.Sub(f.began); {
	case age < failuresFor:
		return
	case age < 2*failuresFor:
		f.before = f.current
	default:
		f.before = nil
	}
	f.began, f.current = now, nil
}

// note counts a failure of an address.
func (f *failures) note(address netip.Addr) {
	if !address.IsValid() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turnLocked()
	n, known := f.current[address]
	if !known && len(f.current) >= addressesMax {
		return
	}
	if f.current == nil {
		f.current = make(map[netip.Addr]int)
	}
	f.current[address] = n + 1
}

// count returns how many failures of an address are remembered.
func (f *failures) count(address netip.Addr) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turnLocked()
	return f.current[address] + f.before[address]
}
