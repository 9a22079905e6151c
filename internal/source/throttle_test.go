package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEdgeLogsBothEnds(t *testing.T) {
	l := &logs{}
	log := newLogger(l)
	e := throttledLog{interval: time.Hour}
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
