package stats

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMoment(t *testing.T) {
	var m Moment
	require.True(t, m.Get().IsZero())
	now := time.Now()
	m.SetIfNone(now)
	// Only the monotonic readings are compared: those of the wall clock are taken a little before them, and are stepped.
	require.Zero(t, now.Sub(m.Get()))
	m.SetIfNone(now.Add(time.Hour))
	require.Zero(t, now.Sub(m.Get()))
	require.False(t, m.Replace(time.Time{}, now))
	require.True(t, m.Replace(m.Get(), now.Add(-time.Hour)))
	require.Equal(t, time.Hour, now.Sub(m.Get()))
	m.Set(momentOrigin)
	require.False(t, m.Get().IsZero())
	m.Clear()
	require.True(t, m.Get().IsZero())
	require.True(t, m.Replace(time.Time{}, now))
}
