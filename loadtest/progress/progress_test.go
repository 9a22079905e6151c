package progress

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// safe is a buffer for several goroutines.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestLines(t *testing.T) {
	var w safe
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
	var w safe
	New(&w, false).Start("fanout", func() State { return State{Done: 1, Total: 2} })()
	require.Equal(t, "fanout: 1 of 2\n", w.String())
}

func TestBar(t *testing.T) {
	for _, total := range []int64{0, 4, 9} {
		var w safe
		New(&w, true).Start("connect", func() State { return State{Done: 4, Total: total, Note: "refused 1"} })()
		require.NotContains(t, w.String(), "\n\n\n")
	}
}
