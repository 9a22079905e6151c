package source

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// These benchmarks compare, in one run, what a record costs the source when nobody subscribes, when one shard does, and what a bare
// multi-partition fetch loop of kafka-go costs that only closes what it reads. The broker (kfake, two topics of four
// partitions, canned batches from any offset) is another process, so that its work is not counted; both share the machine.
//
// One iteration is one record. cpu-ns/record is this process's user and system time, allocs/record its allocations.

const benchBrokerEnv = "WSD_BENCH_BROKER"

var benchTopics = []string{"a", "b"}

// runBenchBroker is the other process: it serves until its standard input ends.
func runBenchBroker(valueBytes string) {
	var n int
	_, _ = fmt.Sscan(valueBytes, &n)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, benchTopics...), kfake.SyntheticFetch(kfake.SyntheticBatch{Records: 500, RecordBytes: n}))
	if err != nil {
		panic(err)
	}
	fmt.Println(c.ListenAddrs()[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
	c.Close()
}

func startBenchBroker(b *testing.B, valueBytes int) (addr string) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", benchBrokerEnv, valueBytes))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	addr, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	return strings.TrimSpace(addr)
}

// usage is what this process has used so far.
type usage struct {
	cpu    time.Duration
	allocs uint64
}

func used() usage {
	var ru syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), m.Mallocs}
}

func report(b *testing.B, from usage, records uint64) {
	to := used()
	b.ReportMetric(float64(to.cpu-from.cpu)/float64(records), "cpu-ns/record")
	b.ReportMetric(float64(to.allocs-from.allocs)/float64(records), "allocs/record")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("value=%d/bare", size), func(b *testing.B) { benchBare(b, startBenchBroker(b, size)) })
		b.Run(fmt.Sprintf("value=%d/no subscriber", size), func(b *testing.B) { benchSource(b, startBenchBroker(b, size), 0) })
		b.Run(fmt.Sprintf("value=%d/no subscriber, what is read is kept", size), func(b *testing.B) { benchSource(b, startBenchBroker(b, size), 64<<20) })
		b.Run(fmt.Sprintf("value=%d/one shard", size), func(b *testing.B) { benchSource(b, startBenchBroker(b, size), 0, benchTopics...) })
	}
}

func benchSource(b *testing.B, addr string, kept int, channels ...string) {
	r := &rig{sink: newSink(b, 1, ringSize{slots: 1024, bytes: 64 << 20})}
	r.drop = true
	r.read(b, 0, r.collect)
	for _, c := range channels {
		r.interest.Add(c, 0)
	}
	r.start(b, Options{Brokers: []string{addr}, Topics: benchTopics, Start: Start{Mode: StartEarliest}, FetchMaxWait: 500 * time.Millisecond, MetadataInterval: 2 * time.Second, RecentBytesMax: kept})
	records := func() uint64 { return r.topic(0).Records.Load() + r.topic(1).Records.Load() }
	eventually(b, func() bool { return records() > 100_000 }, func() string { return r.logs.String() }) // Warm.
	b.ResetTimer()
	from, begun := used(), records()
	for records() < begun+uint64(b.N) {
		time.Sleep(time.Millisecond) // Watches; the work is done by the source's goroutines.
	}
	b.StopTimer()
	report(b, from, records()-begun)
}

// benchBare is the loop to compare with: kafka-go's Fetch 11 of all partitions, every page closed, nothing else done.
func benchBare(b *testing.B, addr string) {
	raw, err := net.Dial("tcp", addr)
	require.NoError(b, err)
	c := protocol.NewConn(raw, "bare")
	defer func() { _ = c.Close() }()
	c.SetVersions(map[protocol.ApiKey]int16{protocol.Fetch: 11})
	at := make(map[string][]int64)
	for _, t := range benchTopics {
		at[t] = make([]int64, 4)
	}
	loop := func(until uint64) (records uint64) {
		for records < until {
			req := &fetch.Request{ReplicaID: -1, MaxWaitTime: 500, MinBytes: 1, MaxBytes: 8 << 20, IsolationLevel: 1, SessionEpoch: -1}
			for _, t := range benchTopics {
				rt := fetch.RequestTopic{Topic: t}
				for p, o := range at[t] {
					rt.Partitions = append(rt.Partitions, fetch.RequestPartition{Partition: int32(p), CurrentLeaderEpoch: -1, FetchOffset: o, LogStartOffset: -1, PartitionMaxBytes: 1 << 20})
				}
				req.Topics = append(req.Topics, rt)
			}
			msg, err := c.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			for _, t := range msg.(*fetch.Response).Topics {
				for _, p := range t.Partitions {
					if p.RecordSet.Records == nil {
						continue
					}
					for {
						rec, err := p.RecordSet.Records.ReadRecord()
						if errors.Is(err, io.EOF) {
							break
						}
						if err != nil {
							b.Fatal(err)
						}
						if rec.Key != nil {
							_ = rec.Key.Close()
						}
						if rec.Value != nil {
							_ = rec.Value.Close()
						}
						at[t.Topic][p.Partition] = rec.Offset + 1
						records++
					}
				}
			}
		}
		return records
	}
	loop(100_000) // Warm.
	b.ResetTimer()
	from := used()
	records := loop(uint64(b.N))
	b.StopTimer()
	report(b, from, records)
}
