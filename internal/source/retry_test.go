package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoff(t *testing.T) {
	for _, c := range []struct{ min, max time.Duration }{{10 * time.Millisecond, time.Second}, {time.Hour, time.Hour}, {time.Second, time.Millisecond}, {1, 1 << 61}} {
		b := backoff{min: c.min, max: c.max}
		for range 2 {
			want := min(c.min, c.max)
			for n := range 200 {
				d := b.next()
				require.GreaterOrEqual(t, d, want/2, "try %d", n)
				require.LessOrEqual(t, d, want, "try %d", n)
				want = min(2*want, c.max)
			}
			b.reset()
		}
	}
}

func TestEdgeLogsBothEnds(t *testing.T) {
	l := &logs{}
	log := newLogger(l)
	e := edge{interval: time.Hour}
	e.ok(log, "over")
	for range 100 {
		e.fail(log, "problem")
	}
	e.ok(log, "over")
	e.ok(log, "over")
	require.Equal(t, 1, l.count("problem"))
	require.Equal(t, 1, l.count("over"))
	e.fail(log, "problem")
	e.interval, e.next = 0, time.Time{}
	e.repeats = 7
	e.fail(log, "problem")
	require.Contains(t, l.String(), "repeats=7")
}
