package deflate

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"compress/flate"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newPool(t testing.TB, o Options) *Pool {
	t.Helper()
	p, err := New(o)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// inflate reads by another library than what compresses.
func inflate(t testing.TB, b []byte) string {
	t.Helper()
	out, err := io.ReadAll(flate.NewReader(bytes.NewReader(append(bytes.Clone(b), flushEnd+"\x01\x00\x00\xff\xff"...))))
	require.NoError(t, err)
	return string(out)
}

func trades(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `{"symbol":"BTC-USD","price":%d.%02d,"size":%d,"side":"buy","id":"%08x"}`+"\n", 60000+i*7%991, i*31%100, i*17%1000, i*2654435761%(1<<32))
	}
	return b.Bytes()
}

func TestAppend(t *testing.T) {
	for level := 1; level <= 9; level++ {
		p := newPool(t, Options{Level: level, Workers: 1, Queue: 1, Inline: 1})
		for _, n := range []int{1, 2, 10, 300, 3000} {
			payload := trades(n)
			for range 2 { // The second must not refer to the first.
				out := p.Append([]byte("before"), payload)
				require.Equal(t, "before", string(out[:6]))
				require.Equal(t, string(payload), inflate(t, out[6:]))
				if n > 2 {
					require.Less(t, len(out), len(payload)/2)
				}
			}
		}
		require.EqualValues(t, 10, p.Stats().Messages.Load())
		require.Less(t, p.Stats().BytesOut.Load(), p.Stats().BytesIn.Load())
	}
	_, err := New(Options{Level: 10, Workers: 1, Queue: 1, Inline: 1})
	require.Error(t, err)
	_, err = New(Options{Level: 1})
	require.Error(t, err)
}

func TestAppendAtOnce(t *testing.T) {
	p := newPool(t, Options{Level: 1, Workers: 1, Queue: 1, Inline: 1})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				payload := trades(i*20 + n + 1)
				if got := inflate(t, p.Append(nil, payload)); got != string(payload) {
					panic("not the same after inflating")
				}
			}
		})
	}
	all.Wait()
}

// Jobs beyond workers and queue are refused; what was taken is done.
func TestSaturated(t *testing.T) {
	p := newPool(t, Options{Level: 1, Workers: 2, Queue: 3, Inline: 1})
	block, done := make(chan struct{}), make(chan struct{}, 100)
	job := func() { <-block; done <- struct{}{} }
	taken := 0
	// Two are with a worker, one with the dispatcher, three wait.
	for deadline := time.Now().Add(10 * time.Second); taken < 6; runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "%d taken", taken)
		if p.Post(job) {
			taken++
		}
	}
	require.Eventually(t, func() bool { return p.Utilization() == 100 }, 10*time.Second, time.Millisecond)
	require.False(t, p.Post(job))
	require.Positive(t, p.Stats().Saturated.Load())
	require.Equal(t, 3, p.QueueDepth())
	close(block)
	for range taken {
		<-done
	}
	require.Eventually(t, func() bool { return p.Utilization() == 0 && p.QueueDepth() == 0 }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 6, p.Stats().Jobs.Load())
}

// Close waits for the jobs that run, forgets those that wait, and takes no more.
func TestClose(t *testing.T) {
	p := newPool(t, Options{Level: 1, Workers: 1, Queue: 4, Inline: 1})
	block, started := make(chan struct{}), make(chan struct{})
	finished := false
	require.True(t, p.Post(func() { close(started); <-block; finished = true }))
	<-started
	require.True(t, p.Post(func() {}))
	time.AfterFunc(10*time.Millisecond, func() { close(block) })
	p.Close()
	p.Close()
	require.True(t, finished)
	require.False(t, p.Post(func() { panic("after Close") }))
	require.Equal(t, "x", inflate(t, p.Append(nil, []byte("x"))))
}

// BenchmarkAppend reports what a message becomes; allocations are of the result alone.
func BenchmarkAppend(b *testing.B) {
	for _, level := range []int{1, 3, 6, 9} {
		p := newPool(b, Options{Level: level, Workers: 1, Queue: 1, Inline: 1})
		for _, n := range []int{2, 4, 10, 100, 1000} {
			payload := trades(n)
			b.Run(fmt.Sprintf("level=%d/bytes=%d", level, len(payload)), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(payload)))
				var out []byte
				for b.Loop() {
					out = p.Append(out[:0], payload)
				}
				b.ReportMetric(float64(len(out))/float64(len(payload)), "ratio")
			})
		}
	}
}
