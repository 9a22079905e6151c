package source

import "wsd/internal/kafka"

// fraction is how much of the configured bytes a fetch asks for. After a fetch that timed out it asks for half, since a
// broker may be too slow to collect the whole. Fetches that succeed bring it back step by step. One goroutine uses it.
type fraction struct {
	halvings  uint
	successes int // Since the last change.
}

const (
	halvingsMax    = 6        // 1/64.
	fractionMin    = 16 << 10 // A broker sends the first batch whole even if it is larger.
	successesWhole = 16       // Successes for each step back.
)

// of returns how many of bytesMax bytes to ask for.
func (a *fraction) of(bytesMax int) int32 {
	return int32(max(bytesMax>>a.halvings, min(bytesMax, fractionMin)))
}

// after notes how a fetch ended.
func (a *fraction) after(err error) {
	switch {
	case err == nil && a.halvings > 0:
		if a.successes++; a.successes == successesWhole {
			a.halvings, a.successes = a.halvings-1, 0
		}
	case err != nil && kafka.KindOf(err) == kafka.ErrorTimeout:
		a.halvings, a.successes = min(a.halvings+1, halvingsMax), 0
	}
}
