package throttle

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// output is a logger, and how often its output has a message.
func output() (log *slog.Logger, text *bytes.Buffer, count func(msg string) int) {
	text = &bytes.Buffer{}
	return slog.New(slog.NewTextHandler(text, nil)), text, func(msg string) int { return strings.Count(text.String(), "msg="+msg) }
}

func TestLogsBothEnds(t *testing.T) {
	log, text, count := output()
	l := Log{Interval: time.Hour}
	require.False(t, l.OK(log, "over"))
	for range 100 {
		l.Fail(log, "problem")
	}
	require.True(t, l.OK(log, "over"))
	require.False(t, l.OK(log, "over"))
	require.Equal(t, 1, count("problem"))
	require.Equal(t, 1, count("over"))
	l.Fail(log, "problem")
	l.Interval, l.next = 0, time.Time{}
	l.repeats = 7
	l.Fail(log, "problem")
	require.Contains(t, text.String(), "repeats=7")
}

// A problem that comes and goes all the time must not fill the log.
func TestComesAndGoes(t *testing.T) {
	log, text, count := output()
	l := Log{Interval: time.Hour}
	for range 100 {
		l.Fail(log, "problem")
		l.OK(log, "over")
	}
	require.Equal(t, begunMax, count("problem"))
	require.Equal(t, begunMax, count("over"))
	l.Fail(log, "problem")
	l.next = time.Now() // It lasts until the next line is due.
	l.Fail(log, "problem")
	require.Equal(t, begunMax+1, count("problem"))
	require.Contains(t, text.String(), "repeats=98")
	l.OK(log, "over")
	require.Equal(t, begunMax+1, count("over"))
	l.from = time.Now().Add(-2 * time.Hour)
	l.Fail(log, "problem")
	require.Equal(t, begunMax+2, count("problem"), "it had been quiet")
}
