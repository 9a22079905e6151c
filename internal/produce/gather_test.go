package produce

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A record that is alone, and a few that come together, never wait.
func TestFewAreNotGathered(t *testing.T) {
	g := gathering{period: gatherFor}
	now := time.Now()
	for range 100 { // Each after the acknowledgement of the last, however fast.
		require.Zero(t, g.wait(now, 0))
		g.handOver(now, 1)
		now = now.Add(10 * time.Microsecond)
	}
	now = now.Add(gatherFor)
	for range 100 { // Four in each period, although none is acknowledged.
		for range gatherAfter {
			require.Zero(t, g.wait(now, 100))
			g.handOver(now, 1)
		}
		now = now.Add(gatherFor)
	}
}

// Records that come fast are handed over once in a period, and none waits for longer.
func TestManyAreGathered(t *testing.T) {
	g := gathering{period: gatherFor}
	const every, length = 50 * time.Microsecond, time.Second
	start := time.Now()
	var waiting []time.Time
	records, handOvers := 0, 0
	for at := time.Duration(0); at < length; at += every {
		now := start.Add(at)
		waiting = append(waiting, now)
		if g.wait(now, 1) > 0 {
			continue
		}
		require.LessOrEqual(t, now.Sub(waiting[0]), gatherFor)
		g.handOver(now, len(waiting))
		records += len(waiting)
		handOvers++
		waiting = waiting[:0]
	}
	require.InDelta(t, int(length/every), records, float64(gatherFor/every))
	require.LessOrEqual(t, handOvers, int(length/gatherFor)+gatherAfter)
}

// TestGathered: while requests are under way, records are gathered. They go in one request when all is acknowledged,
// without waiting for the rest of the period.
func TestGathered(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(8, "a"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	var requests atomic.Int64
	release := make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		requests.Add(1)
		cluster.SleepControl(func() { <-release })
		return nil, nil, false
	})
	o := Options{
		Brokers: cluster.ListenAddrs(), ClientID: "test", DialTimeout: time.Minute, RequestTimeout: time.Minute,
		Timeout: time.Minute, RecordsMax: 10_000, BytesMax: 64 << 20, RecordBytesMax: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
		linger: 3 * time.Second, // The client sends nothing by itself while it is given a thousand records.
	}
	p := open(t, o)
	p.gathering.period = time.Hour // Nothing is handed over because a period is over.
	var a answers
	const records = 1000
	for i := range records {
		require.NoError(t, p.Produce(Record{Topic: "a", Partition: int32(i % 8), Value: []byte("x")}, a.expect(t, fmt.Sprint(i))))
		if i < gatherAfter {
			require.Eventually(t, func() bool { return requests.Load() > 0 }, time.Minute, time.Millisecond)
		}
	}
	close(release)
	a.wait(t)
	for i := range records {
		require.NoError(t, a.errs[fmt.Sprint(i)])
		require.EqualValues(t, i/8, a.acks[fmt.Sprint(i)].Offset, "in order")
	}
	require.LessOrEqual(t, requests.Load(), int64(gatherAfter+2), "a hand-over is one request")
}
