package recovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A read's deadline is rounded up, and goes by the monotonic clock as the queries' deadlines do.
func TestRoundUp(t *testing.T) {
	for range 100 {
		deadline := time.Now().Add(time.Second)
		end := roundUp(deadline)
		require.Greater(t, end.Sub(deadline), time.Duration(0))
		require.LessOrEqual(t, end.Sub(deadline), deadlineStep)
		require.Equal(t, end, roundUp(end.Add(-1)))
		require.Contains(t, end.String(), " m=")
	}
}
