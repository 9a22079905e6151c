package source

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
	"wsd/internal/kafkatest"
)

// The race between routing and subscribing, as densely as two goroutines can run it: one routes without pause, the
// other subscribes, looks whether the first record that it gets is the one after its position, and unsubscribes.
// Routing that asked for the interest before it stored the position would lose a record between the two.
func TestSubscribeRace(t *testing.T) {
	const perFeed, lasts = 1000, 2 * time.Second
	b := newBench(t, Options{Builder: bus.BuilderOptions{RecordsMax: 64, BytesMax: 1 << 20}})
	b.interest.Remove("a", 0)
	b.drop = true
	k := newSink(t, 1, ringSize{slots: 64, bytes: 64 << 20})
	b.Source.o.Ring, b.Source.o.Interest = k.ring, k.interest
	b.Source.topics[0].seen = true
	b.Source.streams.Store(buildStreams(b.Source.topics))

	data := kafkatest.Numbered(0, perFeed).Encode()
	rp := kmsg.FetchResponseTopicPartition{LastStableOffset: 1 << 40, HighWatermark: 1 << 40, RecordBatches: data}
	var stop atomic.Bool
	var routed atomic.Uint64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for base := int64(0); !stop.Load(); base += perFeed {
			// The base offset stands before what the checksum covers.
			for i := range 8 {
				data[i] = byte(base >> (56 - 8*i))
			}
			if r := b.f.takeOne(asked{p: b.p, offset: base}, &rp, 0); r.err != nil || r.records != perFeed {
				t.Errorf("%+v", r)
				return
			}
			b.Source.mu.Lock()
			err := b.Source.router.sealLocked()
			b.Source.mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			routed.Add(perFeed)
		}
	}()
	c := k.ring.Cursor(0)
	deadline := time.Now().Add(waitMax)
	first := func(after uint64) (offset uint64) {
		for time.Now().Before(deadline) {
			batch, st := c.Next()
			if st != bus.StateReady {
				runtime.Gosched()
				continue
			}
			for _, s := range batch.Segments {
				for _, r := range s.Records {
					if offset == 0 && r.Offset > after {
						offset = r.Offset
					}
				}
			}
			c.Advance()
			if offset != 0 {
				return offset
			}
		}
		return 0
	}
	defer func() {
		stop.Store(true)
		for { // The router may be waiting for room.
			select {
			case <-done:
				return
			default:
			}
			if _, st := c.Next(); st == bus.StateReady {
				c.Advance()
			}
			runtime.Gosched()
		}
	}()
	rounds := 0
	for began := time.Now(); time.Since(began) < lasts; rounds++ {
		k.interest.Add("a", 0, 0)
		at, _, ok := b.Position("a")
		require.True(t, ok)
		require.Equal(t, at+1, first(at), "round %d, after %d records routed", rounds, routed.Load())
		k.interest.Remove("a", 0)
	}
	t.Logf("%d records routed in %d rounds", routed.Load(), rounds)
}
