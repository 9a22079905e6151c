package source

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
)

// A backlog of any size costs no more memory than the limits say: here 200 MiB from another process, read by a shard
// that keeps up and one that is slow. The bound has room for what the collector has not freed yet.
func TestCatchUpMemory(t *testing.T) {
	const mib = 1 << 20
	const ring, total, backlog, bound = 4 * mib, 2 * mib, 200 * mib, 64 * mib
	for _, codec := range []string{"none", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			addr := startBenchBroker(t, codec, 1000)
			r := &rig{sink: newSink(t, 2, ringSize{slots: 64, bytes: ring})}
			r.drop = true
			r.read(t, 0, r.collect)
			r.read(t, 1, func(*bus.Batch) { time.Sleep(100 * time.Microsecond) }) // It is the slowness that is tested.
			r.interest.Add(benchTopics[0], 0, 0)
			r.interest.Add(benchTopics[1], 1, 0)
			runtime.GC()
			var before, now runtime.MemStats
			runtime.ReadMemStats(&before)
			r.start(t, Options{
				Brokers: []string{addr}, Topics: benchTopics, Start: Start{Mode: StartEarliest}, FetchMaxBytes: mib / 2, FetchTotalBytes: total,
				Builder: bus.BuilderOptions{RecordsMax: 512, BytesMax: 256 << 10},
			})
			most, read := uint64(0), func() uint64 { return r.topic(0).Bytes.Load() + r.topic(1).Bytes.Load() }
			for last := read(); last < backlog; last = read() { // However long it takes, as long as it goes on.
				eventually(t, func() bool {
					runtime.ReadMemStats(&now)
					most = max(most, now.HeapAlloc)
					return read() > last
				}, func() string { return fmt.Sprintf("%d bytes read\n%s", last, r.logs) })
			}
			require.LessOrEqual(t, most, before.HeapAlloc+bound)
		})
	}
}

// Partitions of one broker catch up together: none is ever further ahead of another than one response holds.
func TestCatchUpTogether(t *testing.T) {
	const partitions, records, size = 12, 200, 1000
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(partitions, "a"))
	cl := mustClient(t, c.ListenAddrs(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	value := `"` + strings.Repeat("x", size-2) + `"`
	for n := range records {
		for p := range int32(partitions) {
			if n%2 == 0 {
				produce(t, cl, "a", p, value, value)
			}
		}
	}
	const perPartition, total = 8 * size, 32 * size
	var mu sync.Mutex
	apart, requests := int64(0), 0
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		lowest, highest, n := int64(records), int64(0), 0
		for _, rt := range kreq.(*kmsg.FetchRequest).Topics {
			for _, rp := range rt.Partitions {
				n++
				lowest, highest = min(lowest, rp.FetchOffset), max(highest, rp.FetchOffset)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if n == partitions {
			requests++
			apart = max(apart, highest-lowest)
		}
		return nil, nil, false
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, FetchMaxBytes: perPartition, FetchTotalBytes: total})
	eventually(t, func() bool { return r.topic(0).Records.Load() == partitions*records }, func() string { return fmt.Sprint(r.topic(0).Records.Load()) })
	mu.Lock()
	defer mu.Unlock()
	require.GreaterOrEqual(t, requests, partitions*records*size/total, "the backlog came in many responses")
	require.LessOrEqual(t, apart, int64(total+perPartition)/size)
	t.Logf("%d requests, at most %d records apart", requests, apart)
}
