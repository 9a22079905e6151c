package source

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A connection that works lives longer than a deadline.
func TestDeadlineMoves(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	r := startRig(t, Options{
		Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, RequestTimeout: time.Second, FetchMaxWait: 20 * time.Millisecond,
	}, "a")
	r.waitReady(t)
	fetches := r.Stats().Fetches.Load() + 100 // Two seconds, as none finds a record.
	eventually(t, func() bool { return r.Stats().Fetches.Load() >= fetches }, func() string { return "no fetches" })
	produce(t, mustClient(t, c.ListenAddrs()), "a", 0, "x")
	r.wantValues(t, "a", []string{"x"})
	require.Zero(t, r.Stats().Reconnects.Load())
}

// A broker that does not answer is given up.
func TestDeadlineFires(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	var hang atomic.Bool
	stop := make(chan struct{})
	defer close(stop)
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if hang.CompareAndSwap(true, false) {
			c.SleepControl(func() { <-stop })
		}
		return nil, nil, false
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, RequestTimeout: 200 * time.Millisecond}, "a")
	r.waitReady(t)
	hang.Store(true)
	eventually(t, func() bool { return r.Stats().Reconnects.Load() > 0 }, func() string { return "the broker is never given up" })
}
