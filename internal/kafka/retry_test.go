package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoff(t *testing.T) {
	for _, c := range []struct{ min, max time.Duration }{{10 * time.Millisecond, time.Second}, {time.Hour, time.Hour}, {time.Second, time.Millisecond}, {1, 1 << 61}} {
		b := Backoff{Min: c.min, Max: c.max}
		for range 2 {
			want := min(c.min, c.max)
			for n := range 200 {
				d := b.Next()
				require.GreaterOrEqual(t, d, want/2, "try %d", n)
				require.LessOrEqual(t, d, want, "try %d", n)
				want = min(2*want, c.max)
			}
			b.Reset()
		}
	}
}
