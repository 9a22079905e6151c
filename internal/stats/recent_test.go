package stats

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRecent(t *testing.T) {
	var r Recent
	at := func(seconds float64) uint64 { return uint64(seconds * float64(time.Second)) }
	require.Zero(t, r.Max(at(3), 10*time.Second))
	r.Add(at(2), 0)
	r.Add(at(2.1), 7)
	r.Add(at(2.9), 5)
	r.Add(at(4), 3)
	require.EqualValues(t, 7, r.Max(at(4), 10*time.Second))
	require.EqualValues(t, 7, r.Max(at(12.9), 10*time.Second))
	require.EqualValues(t, 3, r.Max(at(13), 10*time.Second), "the first has passed")
	require.Zero(t, r.Max(at(15), 10*time.Second))
	r.Add(at(2+recentSeconds), 1)
	require.EqualValues(t, 1, r.Max(at(2+recentSeconds), 10*time.Second), "the place of a second that has passed is used again")
	require.EqualValues(t, 3, r.Max(at(2+recentSeconds), time.Hour), "no window is longer than RecentMax")
}
