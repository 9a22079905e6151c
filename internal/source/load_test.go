package source

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
	"wsd/internal/kafkatest"
	"wsd/internal/route"
	"wsd/internal/routing"
)

// churner is a shard that subscribes and unsubscribes all the time and wants, for each subscription, every record after
// the position that it was told, once and in order.
type churner struct {
	t        testing.TB
	id       routing.ShardID
	r        *rig
	channels []string
	last     map[string]uint64 // Subscribed channels: the offset that was seen last.
	seen     uint64
	churned  int
}

// turn changes one subscription in the order that a shard must use: interest, then position.
func (c *churner) turn() {
	name := c.channels[rand.IntN(len(c.channels))]
	c.churned++
	if _, ok := c.last[name]; ok {
		c.r.interest.Remove(name, c.id)
		delete(c.last, name)
		return
	}
	c.r.interest.Add(name, c.id, 0)
	offset, _, ok := c.r.Position(name)
	if !ok {
		c.t.Errorf("no position for %s", name)
	}
	c.last[name] = offset
}

func (c *churner) take(b *bus.Batch) {
	for _, s := range b.Segments {
		last, ok := c.last[s.Name]
		if !ok {
			continue
		}
		for _, r := range s.Records {
			switch {
			case r.Offset <= last: // From before this subscription.
			case r.Offset == last+1:
				last++
				c.seen++
			default:
				c.t.Errorf("shard %d, channel %s: offset %d after %d", c.id, s.Name, r.Offset, last)
				last = r.Offset
			}
		}
		c.last[s.Name] = last
	}
}

// run churns until stop, then reads on without changes until every shard's every subscription has reached end.
func (c *churner) run(stop <-chan struct{}, end uint64, unfinished *atomic.Int64) {
	cursor := c.r.ring.Cursor(c.id)
	finished := false
	var deadline time.Time
	for n := 0; ; n++ {
		switch b, st := cursor.Next(); st {
		case bus.StateReady:
			c.take(b)
			cursor.Advance()
			if n%3 != 0 {
				continue
			}
		case bus.StateDetached:
			c.t.Errorf("shard %d was detached", c.id)
			return
		}
		select {
		case <-stop:
		default:
			c.turn()
			runtime.Gosched()
			continue
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(waitMax)
		}
		behind := ""
		for name, last := range c.last {
			if last != end {
				behind = fmt.Sprintf("shard %d, channel %s ends at %d of %d", c.id, name, last, end)
			}
		}
		if behind == "" && !finished {
			finished = true
			unfinished.Add(-1)
		}
		if unfinished.Load() == 0 {
			return // Not before: a shard that stops reading stops the bus.
		}
		if time.Now().After(deadline) {
			c.t.Error("not every shard has finished; here: ", behind)
			return
		}
		select {
		case <-c.r.wake[c.id]:
		case <-time.After(time.Millisecond):
		}
	}
}

func TestSubscriptionChurnUnderLoad(t *testing.T) {
	const shards, partitions, batches, perBatch = 4, 3, 60, 100
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(partitions, "a"))
	r := &rig{sink: newSink(t, shards, ringSize{slots: 64, bytes: 64 << 20})}
	r.start(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Routes: []Route{{Channel: "{topic}{partition}"}}, Builder: bus.BuilderOptions{RecordsMax: 16, BytesMax: 1 << 20}})
	r.waitReady(t)
	var channels []string
	for p := range partitions {
		channels = append(channels, fmt.Sprint("a", p))
	}
	stop := make(chan struct{})
	var done sync.WaitGroup
	churners := make([]*churner, shards)
	var unfinished atomic.Int64
	unfinished.Store(shards)
	cl := mustClient(t, c.ListenAddrs())
	produceBatch := func(n int) {
		for p := range int32(partitions) {
			produce(t, cl, "a", p, numbered(n*perBatch, (n+1)*perBatch)...)
		}
	}
	for i := range churners {
		churners[i] = &churner{t: t, id: routing.ShardID(i), r: r, channels: channels, last: map[string]uint64{}}
	}
	// However the shards are scheduled, some records have no subscriber, and some a subscriber on one shard alone.
	produceBatch(0)
	eventually(t, func() bool { return r.Stats().Routed[route.ByRule].Unwanted.Load() == partitions*perBatch }, func() string { return "not read" })
	for len(churners[0].last) < partitions {
		churners[0].turn()
	}
	produceBatch(1)
	for i := range churners {
		done.Add(1)
		go func() { defer done.Done(); churners[i].run(stop, batches*perBatch, &unfinished) }()
	}
	for n := 2; n < batches; n++ {
		produceBatch(n)
	}
	close(stop)
	done.Wait()
	var seen uint64
	for _, c := range churners {
		require.NotZero(t, c.seen)
		require.Greater(t, c.churned, 100)
		seen += c.seen
	}
	t.Logf("%d records seen by %d shards, %d changes by the first", seen, shards, churners[0].churned)
	require.NotZero(t, r.Stats().Routed[route.ByRule].Targeted.Load())
}

// A shard that does not move fills the bus; then fetching stops, memory stays where it is, and nothing is lost.
func TestBackPressureStopsFetching(t *testing.T) {
	const mib, brokers = 1 << 20, 2
	c := mustCluster(t, kfake.NumBrokers(brokers), kfake.SeedTopics(4, "a"))
	cl := mustClient(t, c.ListenAddrs(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	const perPartition, size = 24, mib / 2
	for p := range int32(4) {
		for range perPartition {
			produce(t, cl, "a", p, `"`+strings.Repeat("x", size)+`"`)
		}
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	r := &rig{sink: newSink(t, 1, ringSize{slots: 16, bytes: 4 * mib})}
	var moving atomic.Bool
	got := make(map[string]int)
	last := make(map[string]uint64)
	var mu sync.Mutex
	r.read(t, 0, func(b *bus.Batch) {
		for !moving.Load() {
			select {
			case <-r.stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, s := range b.Segments {
			for _, rec := range s.Records {
				if rec.Offset != last[s.Name]+1 {
					t.Errorf("channel %s: offset %d after %d", s.Name, rec.Offset, last[s.Name])
				}
				last[s.Name] = rec.Offset
				got[s.Name]++
			}
		}
	})
	for p := range 4 {
		r.interest.Add(fmt.Sprint(p), 0, 0)
	}
	const total = mib // Bytes of a response.
	r.start(t, Options{
		Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{partition}"}},
		FetchMaxBytes: mib, FetchTotalBytes: total, Builder: bus.BuilderOptions{RecordsMax: 512, BytesMax: mib},
	})
	eventually(t, func() bool { return r.ring.Stats().Stalls.Load() > 0 && r.Stats().Fetches.Load() >= 4 }, func() string { return "the bus does not fill" })
	// Not a wait for anything: a time in which nothing may happen.
	time.Sleep(300 * time.Millisecond)
	fetched := r.Stats().FetchBytes.Load()
	time.Sleep(300 * time.Millisecond)
	require.Equal(t, fetched, r.Stats().FetchBytes.Load(), "fetching goes on though the bus is full")
	require.LessOrEqual(t, fetched, uint64(16*mib), "more was fetched than bus and buffers hold")
	require.LessOrEqual(t, heap()-before, int64(4*mib+brokers*3*total+4*mib), "memory grows with the backlog")
	r.Status()         // Neither of these waits for the bus.
	for p := range 4 { // One of the broker that holds the bus up is known; the others may still wait for it.
		r.Position(fmt.Sprint(p))
	}
	r.Stats().Partitions()

	moving.Store(true)
	eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got["0"] == perPartition && got["1"] == perPartition && got["2"] == perPartition && got["3"] == perPartition
	}, func() string { return fmt.Sprint(got) })
	require.LessOrEqual(t, heap()-before, int64(4*mib+brokers*3*total+4*mib))
}

// A full bus does not keep Stop waiting longer than its context allows.
func TestStopWhileTheBusIsFull(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	for n := range 50 {
		produce(t, cl, "a", 0, fmt.Sprint(n))
	}
	r := &rig{sink: newSink(t, 1, ringSize{slots: 2, bytes: 1 << 20})}
	r.interest.Add("a", 0, 0) // Nobody reads.
	r.start(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Builder: bus.BuilderOptions{RecordsMax: 1, BytesMax: 1 << 20}})
	eventually(t, func() bool { return r.ring.Stats().Stalls.Load() > 0 }, func() string { return "the bus does not fill" })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.ErrorIs(t, r.Stop(ctx), context.DeadlineExceeded)
	require.Less(t, time.Since(began), 5*time.Second)
}

// Stop ends a long poll at once.
func TestStopDoesNotWaitForALongPoll(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, FetchMaxWait: waitMax, MetadataInterval: time.Hour})
	r.waitReady(t)
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	require.NoError(t, r.Stop(ctx))
	require.Less(t, time.Since(began), waitMax/4)
}

// A partition with a long backlog does not hold up the others.
func TestRotationServesEveryPartition(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a", "b"))
	cl := mustClient(t, c.ListenAddrs())
	for n := range 100 {
		produce(t, cl, "a", 0, fmt.Sprint("busy", n))
	}
	produce(t, cl, "a", 1, "rare")
	produce(t, cl, "b", 1, "rare")
	first := make(map[string]bool)
	var mu sync.Mutex
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		mu.Lock()
		defer mu.Unlock()
		names := map[[16]byte]int{}
		for _, rt := range req.Topics {
			names[rt.TopicID]++
			if names[rt.TopicID] > 1 {
				t.Error("a topic stands twice in a request")
			}
		}
		if len(req.Topics) == 2 {
			first[fmt.Sprint(req.Topics[0].TopicID, req.Topics[0].Partitions[0].Partition)] = true
		}
		return nil, nil, false
	})
	// The broker's answer holds one batch, of the first partition that has any.
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a", "b"}, Routes: []Route{{Channel: "all"}}, Start: Start{Mode: StartEarliest}, FetchMaxBytes: 1, FetchTotalBytes: 1}, "all")
	eventually(t, func() bool { return len(r.records("all")) == 102 }, func() string { return fmt.Sprint(len(r.records("all"))) })
	for i, v := range r.values("all")[8:] {
		require.NotEqual(t, "rare", v, "a rare record came only as number %d", i+8)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, first, 4, "every partition is first at some time")
}

// What nobody wants costs no allocation.
func TestUnwantedAllocatesNothing(t *testing.T) {
	allocs := func(records int, route string) float64 {
		b := newBench(t, Options{Routes: []Route{{Channel: route}}})
		if b.p.channel == nil && route == "{topic}" {
			t.Fatal("a static channel is rendered once")
		}
		b.interest.Remove("a", 0)
		batch := kafkatest.Numbered(0, records)
		for i := range batch.Records {
			batch.Records[i].Key = "key"
		}
		data := batch.Encode()
		rp := kmsg.FetchResponseTopicPartition{HighWatermark: int64(records), LastStableOffset: int64(records), RecordBatches: data}
		return testing.AllocsPerRun(20, func() {
			b.p.routed.Store(0)
			r := b.f.takeOne(asked{p: b.p}, &rp, 0)
			if r.records != uint64(records) || r.err != nil {
				t.Fatal(r)
			}
		})
	}
	for _, route := range []string{"{topic}", "{topic}:{key}"} {
		require.Equal(t, allocs(10, route), allocs(1000, route), route)
	}
}

func TestOptionErrors(t *testing.T) {
	k := newSink(t, 1, ringSize{slots: 16, bytes: 1 << 20})
	good := func() Options {
		return Options{Brokers: []string{"h:1"}, Topics: []string{"a"}, Interest: k.interest, Ring: k.ring, Logger: discard, Builder: bus.BuilderOptions{RecordsMax: 1, BytesMax: 1}}
	}
	for want, change := range map[string]func(*Options){
		"BUG":                    func(o *Options) { o.Ring = nil },
		"kafka.brokers is empty": func(o *Options) { o.Brokers = nil },
		`"h" is not host:port`:   func(o *Options) { o.Brokers = []string{"h"} },
		"kafka.topics is empty":  func(o *Options) { o.Topics = nil },
		`names "a" twice`:        func(o *Options) { o.Topics = []string{"a", "a"} },
		"which has 1 to 249":     func(o *Options) { o.Topics = []string{""} },
		"kafka.start is a time":  func(o *Options) { o.Start.Mode = StartTime },
		"routes[0].channel":      func(o *Options) { o.Routes = []Route{{Channel: "{x}"}} },
	} {
		o := good()
		change(&o)
		_, err := New(o)
		require.ErrorContains(t, err, want)
	}
	s, err := New(good())
	require.NoError(t, err)
	require.False(t, s.Ready())
	require.Equal(t, TopicUnknown, s.Status().Topics[0].State)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	require.NoError(t, s.Stop(ctx), "Stop without Start")
}
