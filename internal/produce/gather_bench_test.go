package produce

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/kafkatest"
)

// BenchmarkGathering measures what a record costs this process, and how long its acknowledgement takes, at rates a
// second, without gathering and with it. Rate 0 is one publisher, each record after the last one's acknowledgement. It
// needs Apache Kafka, as TestApacheKafka does; say how many records by -benchtime 20000x.
func BenchmarkGathering(b *testing.B) {
	k := kafkatest.Apache(b, 1)
	for _, rate := range []int{0, 1000, 5000, 20_000} {
		for name, period := range map[string]time.Duration{"without": 0, "with": gatherFor} {
			b.Run(fmt.Sprintf("rate=%d/%s", rate, name), func(b *testing.B) { benchmarkGathering(b, k, rate, period) })
		}
	}
}

func benchmarkGathering(b *testing.B, k *kafkatest.Cluster, rate int, period time.Duration) {
	topic := k.Topic(b, 4)
	o := options(k)
	o.RecordsMax = b.N + 1
	p, err := Open(o)
	require.NoError(b, err)
	p.gathering.period = period
	var answered sync.WaitGroup
	var mu sync.Mutex
	var waits []time.Duration
	write := func(i int) {
		answered.Add(1)
		at := time.Now()
		r := Record{Topic: topic, Partition: AnyPartition, Key: fmt.Append(nil, i%1000), Value: make([]byte, 128)}
		err := p.Produce(r, func(_ Ack, err error) {
			mu.Lock()
			waits = append(waits, time.Since(at))
			mu.Unlock()
			if err != nil {
				b.Error(err)
			}
			answered.Done()
		})
		require.NoError(b, err)
	}
	write(0) // It learns the cluster.
	answered.Wait()
	waits = waits[:0]
	requests, cpu := p.Stats().Requests.Load(), cpuTime(b)
	b.ResetTimer()
	began := time.Now()
	for i := range b.N {
		if write(i); rate == 0 {
			answered.Wait()
			continue
		}
		time.Sleep(time.Until(began.Add(time.Duration(i+1) * time.Second / time.Duration(rate))))
	}
	answered.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu_µs/record")
	b.ReportMetric(float64(b.N)/float64(p.Stats().Requests.Load()-requests), "records/request")
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "p50_ms")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99_ms")
	require.NoError(b, p.Close(b.Context()))
}

// cpuTime is the CPU time of this process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
