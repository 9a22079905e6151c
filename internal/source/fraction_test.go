package source

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// A fetch that times out is followed by smaller ones, until they succeed for a while.
func TestFraction(t *testing.T) {
	var a fraction
	timeout := kafka.NewError(kafka.ErrorTimeout, errors.New("slow"))
	require.EqualValues(t, 1<<20, a.of(1<<20))
	a.after(timeout)
	require.EqualValues(t, 1<<19, a.of(1<<20))
	a.after(kafka.NewError(kafka.ErrorDisconnect, errors.New("gone")))
	require.EqualValues(t, 1<<19, a.of(1<<20))
	for range 20 {
		a.after(timeout)
	}
	require.EqualValues(t, 1<<14, a.of(1<<20))
	require.EqualValues(t, fractionMin, a.of(64<<10))
	require.EqualValues(t, 1000, a.of(1000), "never more than configured")
	for range halvingsMax * successesWhole {
		require.Less(t, a.of(1<<20), int32(1<<20))
		a.after(nil)
	}
	require.EqualValues(t, 1<<20, a.of(1<<20))
}

// A broker that is too slow for a large response still gets asked for what it can send.
func TestSlowBrokerIsAskedForLess(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	produce(t, mustClient(t, c.ListenAddrs()), "a", 0, "1")
	stop := make(chan struct{})
	defer close(stop)
	var least atomic.Int32
	least.Store(1 << 30)
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		least.Store(min(least.Load(), req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes))
		if req.MaxBytes > 300_000 {
			c.SleepControl(func() { <-stop })
		}
		return nil, nil, false
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest},
		FetchMaxBytes: 100_000, FetchTotalBytes: 1_000_000, RequestTimeout: 200 * time.Millisecond}, "a")
	r.Source.mu.Lock()
	fresh := r.Source.newPartition(r.Source.topics[0], 0, Start{})
	r.Source.mu.Unlock()
	require.EqualValues(t, -1, fresh.stats().Lag, "no end is known")
	r.wantValues(t, "a", []string{"1"})
	require.LessOrEqual(t, least.Load(), int32(50_000))
}
