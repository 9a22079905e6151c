package source

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker that freezes while it is asked for metadata is asked last from then on, and is given up before the time of
// an ordinary request.
func TestFrozenBrokerIsAskedLast(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "a"))
	require.NoError(t, c.MoveTopicPartition("a", 0, 1))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, RequestTimeout: time.Hour}, "a")
	r.waitReady(t)
	stop := make(chan struct{})
	defer close(stop)
	var frozen atomic.Bool
	c.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if frozen.CompareAndSwap(false, true) {
			c.SleepControl(func() { <-stop })
		}
		return nil, nil, false
	})
	eventually(t, frozen.Load, r.logs.String)
	refreshes := r.Stats().MetadataRefreshes.Load()
	eventually(t, func() bool { return r.Stats().MetadataRefreshes.Load() > refreshes+3 }, r.logs.String)
	require.EqualValues(t, 1, r.Stats().MetadataErrors.Load())

	s := r.Source
	s.stopFetch()
	s.running.Wait() // The watcher owns what follows.
	conn, err := s.dialer.Dial(t.Context(), c.ListenAddrs()[1])
	require.NoError(t, err)
	s.seeds = c.ListenAddrs()
	s.failed(conn, nil)
	require.Equal(t, []string{c.ListenAddrs()[0], c.ListenAddrs()[2], c.ListenAddrs()[1]}, s.seeds)
	require.Equal(t, s.seeds, s.seedsSeen())
}

// While a broker does not answer a fetch in time, the watcher looks more often for new leaders.
func TestOverdueFetchHurriesMetadata(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	stop := make(chan struct{})
	defer close(stop)
	var frozen atomic.Bool
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		if frozen.CompareAndSwap(false, true) {
			c.SleepControl(func() { <-stop })
		}
		return nil, nil, false
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, RequestTimeout: time.Hour}, "a")
	eventually(t, frozen.Load, r.logs.String)
	s := r.Source
	s.stopFetch()
	var f *fetcher
	s.view.mu.Lock()
	f = s.view.fetchers[0]
	s.view.mu.Unlock()
	s.running.Wait() // The watcher owns what follows.
	s.fetchers[f.id] = f
	now := time.Now()
	f.askedAt.Set(now)
	require.Equal(t, s.o.MetadataInterval, s.refreshAfter(now.Add(s.o.FetchMaxWait+overdueAfter)))
	require.Equal(t, s.o.MetadataInterval/4, s.refreshAfter(now.Add(s.o.FetchMaxWait+overdueAfter+1)))
	f.askedAt.Clear()
	require.Equal(t, s.o.MetadataInterval, s.refreshAfter(now.Add(time.Hour)))
}
