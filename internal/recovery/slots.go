package recovery

import (
	"runtime"
	"time"
)

// Walking through blocks is pure CPU work, and clients decide how much of it there is: each client that asks for a
// channel with few records makes a worker walk through many records of other channels. Shards and source must come
// first. So at most half of the processors walk, and each walk rests after a while: goroutines that are always runnable
// would keep Go's scheduler from polling the network for 10 ms.
const (
	walkMax        = 2 * time.Millisecond // How long a walk lasts without a rest.
	walkRest       = time.Millisecond
	walkClockEvery = 64 // How many records are walked between two readings of the clock.
)

// walkSlots limits how many goroutines walk at the same time.
type walkSlots chan struct{}

func newWalkSlots() walkSlots { return make(walkSlots, max(1, runtime.GOMAXPROCS(0)/2)) }

// walkSlot is one goroutine's permission to walk.
type walkSlot struct {
	slots walkSlots
	began time.Time
	left  int // How many records are left until the next reading of the clock.
}

// acquire waits until the goroutine may walk.
func (s walkSlots) acquire() *walkSlot {
	s <- struct{}{}
	return &walkSlot{slots: s, began: time.Now(), left: walkClockEvery}
}

func (s *walkSlot) release() { <-s.slots }

// walked counts a record. It rests if it is time to.
func (s *walkSlot) walked() {
	if s.left--; s.left > 0 {
		return
	}
	s.left = walkClockEvery
	s.rest()
}

// rest rests if it is time to.
func (s *walkSlot) rest() {
	if time.Since(s.began) < walkMax {
		return
	}
	s.release()
	time.Sleep(walkRest)
	*s = *s.slots.acquire()
}
