package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// These benchmarks compare, in one run, what a record costs the source when nobody subscribes, when one shard does, and
// what a bare multi-partition fetch loop of kafka-go costs that only closes what it reads. The broker (kfake, two
// topics of four partitions, canned batches from any offset) is another process, so that its work is not counted; both
// share the machine.
//
// cpu-ns/record is this process's user and system time, allocs/record its allocations. In BenchmarkFetch one iteration
// is one record; BenchmarkAgainstBare takes turns, so that the machine's moods meet both, and prints the ratio.

const benchBrokerEnv = "WSD_BENCH_BROKER"

var benchTopics = []string{"a", "b"}

// runBenchBroker is the other process: it serves until its standard input ends. feed is the compression and the bytes
// of a value.
func runBenchBroker(feed string) {
	var n int
	var codec string
	_, _ = fmt.Sscan(feed, &codec, &n)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, benchTopics...), kfake.SyntheticFetch(kfake.SyntheticBatch{
		Records: 500, RecordBytes: n, RandomFrac: 0.5, Compression: codecs[codec],
	}))
	if err != nil {
		panic(err)
	}
	fmt.Println(c.ListenAddrs()[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
	c.Close()
}

func startBenchBroker(b testing.TB, codec string, valueBytes int) (addr string) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", benchBrokerEnv, codec, valueBytes))
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
		b.Run(fmt.Sprintf("value=%d/no subscriber", size), func(b *testing.B) { benchSource(b, startBenchBroker(b, "none", size), 0) })
		b.Run(fmt.Sprintf("value=%d/no subscriber, what is read is kept", size), func(b *testing.B) { benchSource(b, startBenchBroker(b, "none", size), 64<<20) })
		b.Run(fmt.Sprintf("value=%d/one shard", size), func(b *testing.B) { benchSource(b, startBenchBroker(b, "none", size), 0, benchTopics...) })
	}
}

// startBenchSource starts a source that reads from the broker and waits until it is warm.
func startBenchSource(b *testing.B, addr string, kept int, channels ...string) (r *rig, records func() uint64) {
	b.Helper()
	r = &rig{sink: newSink(b, 1, ringSize{slots: 1024, bytes: 64 << 20})}
	r.drop = true
	r.read(b, 0, r.collect)
	for _, c := range channels {
		r.interest.Add(c, 0, 0)
	}
	r.start(b, Options{Brokers: []string{addr}, Topics: benchTopics, Start: Start{Mode: StartEarliest}, FetchMaxWait: 500 * time.Millisecond, MetadataInterval: 2 * time.Second, RecentBytesMax: kept})
	records = func() uint64 { return r.topic(0).Records.Load() + r.topic(1).Records.Load() }
	eventually(b, func() bool { return records() > 100_000 }, func() string { return r.logs.String() })
	return r, records
}

func benchSource(b *testing.B, addr string, kept int, channels ...string) {
	_, records := startBenchSource(b, addr, kept, channels...)
	b.ResetTimer()
	from, begun := used(), records()
	for records() < begun+uint64(b.N) {
		time.Sleep(time.Millisecond) // Watches; the work is done by the source's goroutines.
	}
	b.StopTimer()
	report(b, from, records()-begun)
}

// A round is so long, and there are so many of each kind.
const (
	benchRound  = 300 * time.Millisecond
	benchRounds = 9
)

// BenchmarkAgainstBare prints how many times the CPU of the bare loop a record costs the source when nobody subscribes:
// the median of alternating rounds, and between which values half of them lie. The target is 1.3.
func BenchmarkAgainstBare(b *testing.B) {
	for _, codec := range []string{"none", "lz4"} {
		for _, size := range []int{100, 1000} {
			b.Run(fmt.Sprintf("value=%d/%s", size, codec), func(b *testing.B) { benchAgainstBare(b, codec, size) })
		}
	}
}

func benchAgainstBare(b *testing.B, codec string, size int) {
	addr := startBenchBroker(b, codec, size)
	bare := dialBare(b, addr)
	defer func() { _ = bare.c.Close() }()
	bare.loop(b, func(n uint64) bool { return n > 100_000 }) // Warm.
	var ratios, source, loop []float64
	for range benchRounds {
		round := func(run func() uint64) (cpu, allocs float64) {
			from := used()
			n := run()
			to := used()
			return float64(to.cpu-from.cpu) / float64(n), float64(to.allocs-from.allocs) / float64(n)
		}
		until := time.Now().Add(benchRound)
		bareCPU, _ := round(func() uint64 { return bare.loop(b, func(uint64) bool { return time.Now().After(until) }) })
		r, records := startBenchSource(b, addr, 0)
		ours, allocs := round(func() uint64 {
			begun := records()
			time.Sleep(benchRound) // Its length; the work is done by the source's goroutines.
			return records() - begun
		})
		ctx, cancel := context.WithTimeout(context.Background(), waitMax)
		require.NoError(b, r.Stop(ctx))
		cancel()
		ratios, source, loop = append(ratios, ours/bareCPU), append(source, ours), append(loop, bareCPU)
		require.Less(b, allocs, 0.05, "records that nobody wants are allocated for")
	}
	for _, l := range [][]float64{ratios, source, loop} {
		slices.Sort(l)
	}
	b.ReportMetric(ratios[benchRounds/2], "ratio")
	b.ReportMetric(ratios[benchRounds/4], "ratio-q1")
	b.ReportMetric(ratios[benchRounds-1-benchRounds/4], "ratio-q3")
	b.ReportMetric(source[benchRounds/2], "cpu-ns/record")
	b.ReportMetric(loop[benchRounds/2], "bare-cpu-ns/record")
	b.ReportMetric(0, "ns/op")
}

// bareLoop is what to compare with: kafka-go's Fetch 11 of all partitions, every page closed, nothing else done.
type bareLoop struct {
	c  *protocol.Conn
	at map[string][]int64
}

func dialBare(b *testing.B, addr string) *bareLoop {
	b.Helper()
	raw, err := net.Dial("tcp", addr)
	require.NoError(b, err)
	l := &bareLoop{c: protocol.NewConn(raw, "bare"), at: make(map[string][]int64)}
	l.c.SetVersions(map[protocol.ApiKey]int16{protocol.Fetch: 11})
	for _, t := range benchTopics {
		l.at[t] = make([]int64, 4)
	}
	return l
}

// loop fetches until enough says so, which is told how many records there were.
func (l *bareLoop) loop(b *testing.B, enough func(records uint64) bool) (records uint64) {
	for !enough(records) {
		req := &fetch.Request{ReplicaID: -1, MaxWaitTime: 500, MinBytes: 1, MaxBytes: 8 << 20, IsolationLevel: 1, SessionEpoch: -1}
		for _, t := range benchTopics {
			rt := fetch.RequestTopic{Topic: t}
			for p, o := range l.at[t] {
				rt.Partitions = append(rt.Partitions, fetch.RequestPartition{Partition: int32(p), CurrentLeaderEpoch: -1, FetchOffset: o, LogStartOffset: -1, PartitionMaxBytes: 1 << 20})
			}
			req.Topics = append(req.Topics, rt)
		}
		msg, err := l.c.RoundTrip(req)
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
					l.at[t.Topic][p.Partition] = rec.Offset + 1
					records++
				}
			}
		}
	}
	return records
}
