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

// A problem that comes and goes all the time must not fill the log.
func TestComesAndGoes(t *testing.T) {
	l := &logs{}
	log := newLogger(l)
	e := throttledLog{interval: time.Hour}
	for range 100 {
		e.fail(log, "problem")
		e.ok(log, "over")
	}
	require.Equal(t, begunMax, l.count("problem"))
	require.Equal(t, begunMax, l.count("over"))
	e.fail(log, "problem")
	e.next = time.Now() // It lasts until the next line is due.
	e.fail(log, "problem")
	require.Equal(t, begunMax+1, l.count("problem"))
	require.Contains(t, l.String(), "repeats=98")
	e.ok(log, "over")
	require.Equal(t, begunMax+1, l.count("over"))
	e.from = time.Now().Add(-2 * time.Hour)
	e.fail(log, "problem")
	require.Equal(t, begunMax+2, l.count("problem"), "it had been quiet")
}
