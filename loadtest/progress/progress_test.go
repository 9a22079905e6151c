package progress

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

func TestLines(t *testing.T) {
	var w testutil.Buffer
	d := New(&w, false)
	d.line = time.Millisecond
	var done atomic.Int64
	stop := d.Start("connect", func() State { return State{Done: done.Load(), Total: 9, Note: "refused 1"} })
	require.Eventually(t, func() bool { return strings.Contains(w.String(), "connect: 0 of 9, refused 1\n") }, 5*time.Second, time.Millisecond)
	done.Store(9)
	stop()
	require.True(t, strings.HasSuffix(w.String(), "connect: 9 of 9, refused 1\n"), "the last state is shown")
}

func TestLineWithoutNote(t *testing.T) {
	var w testutil.Buffer
	New(&w, false).Start("fanout", func() State { return State{Done: 1, Total: 2} })()
	require.Equal(t, "fanout: 1 of 2\n", w.String())
}

func TestBar(t *testing.T) {
	for _, total := range []int64{0, 4, 9} {
		var w testutil.Buffer
		New(&w, true).Start("connect", func() State { return State{Done: 4, Total: total, Note: "refused 1"} })()
		require.NotContains(t, w.String(), "\n\n\n")
	}
}
