package recovery

import (
	"runtime"
	"time"
)

// Walking through blocks is work for the CPU alone, and clients decide how much of it there is: each that asks for a channel with few records
// has many of others walked through. So that the shards and the source come first, half of the processors walk at most, and each
// rests after a while: goroutines that are always ready would keep Go's scheduler from looking at its sockets for 10 ms.
const (
	walkMax  = 2 * time.Millisecond // Without a rest.
	walkRest = time.Millisecond
	walkLook = 64 // Records between two looks at the clock.
)

// turns lets some goroutines walk at the same time.
type turns chan struct{}

func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)/2)) }

// turn is one goroutine's.
type turn struct {
	turns turns
	began time.Time
	left  int // Records until the next look at the clock.
}

// begin waits until the goroutine may walk.
func (t turns) begin() turn {
	t <- struct{}{}
	return turn{turns: t, began: time.Now(), left: walkLook}
}

func (t *turn) end() { <-t.turns }

// walked notes a record, and rests when it is time to.
func (t *turn) walked() {
	if t.left--; t.left > 0 {
		return
	}
	t.left = walkLook
	if time.Since(t.began) < walkMax {
		return
	}
	t.end()
	time.Sleep(walkRest)
	*t = t.turns.begin()
}
