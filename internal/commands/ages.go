package commands

import (
	"slices"
	"sync"
	"time"
)

// ages bounds how old records are without a clock that machines share. The topic is looked at from time to time: a
// record that comes after where a partition ended then was written since. So the clocks of this machine, of the brokers
// and of other nodes matter only for what was written while nobody looked.
//
// Any goroutine may use it.
type ages struct {
	window time.Duration // Ages above it are all alike.

	mu    sync.Mutex
	looks []mark // Oldest first; one at most is older than window.
}

// mark is where partitions ended at some time after asked.
type mark struct {
	asked time.Time // With a monotonic reading.
	ends  map[int32]int64
}

// looksMax bounds the looks that are kept, roughly.
const looksMax = 32

// note notes where partitions ended, as a broker said that was asked at a time.
func (a *ages) note(asked time.Time, ends map[int32]int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, end := range ends {
		for _, l := range a.looks {
			if l.ends[p] > end { // The partition has lost records, and gives their offsets to others.
				delete(l.ends, p)
			}
		}
	}
	if n := len(a.looks); n >= 2 && a.looks[n-1].asked.Sub(a.looks[n-2].asked) < a.window/looksMax {
		a.looks = a.looks[:n-1]
	}
	a.looks = append(a.looks, mark{asked, ends})
	old := 0
	for old < len(a.looks)-1 && asked.Sub(a.looks[old].asked) > a.window {
		old++
	}
	a.looks = slices.Delete(a.looks, 0, old)
}

// begins notes that the topic has got a partition. Earlier looks found none of it.
func (a *ages) begins(partition int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.looks {
		if _, known := l.ends[partition]; !known {
			l.ends[partition] = 0
		}
	}
}

// beginsAnew notes that the topic was made again. Earlier looks found none of it.
func (a *ages) beginsAnew() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.looks {
		clear(l.ends)
	}
}

// most returns how old a record is at most. If that is not known, it returns false.
func (a *ages) most(partition int32, offset int64, now time.Time) (time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range slices.Backward(a.looks) {
		if end, known := l.ends[partition]; known && offset >= end {
			return now.Sub(l.asked), true
		}
	}
	return 0, false
}
