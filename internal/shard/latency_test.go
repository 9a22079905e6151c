package shard

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/stats"
	"wsd/internal/wire"
)

// timed returns what has been counted of all deliveries.
func (r *rig) timed() (c stats.DeliveryCounts) {
	c.Add(r.deliveries)
	return c
}

// addFrom adds a record with a timestamp that is so old.
func (r *rig) addFrom(topic *stats.Deliveries, channel, value string, age time.Duration) {
	r.t.Helper()
	now := time.Now()
	r.builder.From(bus.Origin{Topic: topic, Fetched: stats.Clock(now)})
	r.offset++
	ch, ok := r.interest.Take([]byte(channel), r.offset)
	require.True(r.t, ok)
	r.builder.Add(ch, record(r.offset, value), now.Add(-age))
}

// Every client counts, by the topic and the time of the record: written at once or by way of the queue, raw or not.
func TestDeliveriesAreTimed(t *testing.T) {
	r := newStepped(t, nil)
	clients := make([]*client, 0, 3*lapWrites)
	r.during(func() {
		for i := range 3 * lapWrites {
			if i%3 == 0 {
				clients = append(clients, r.join("a", "b"))
				continue
			}
			clients = append(clients, r.dial("/ws?channel=a&channel=b"))
		}
	})
	other := stats.NewDeliveries("other", 1)
	n := uint64(len(clients))

	r.addFrom(r.deliveries, "a", "1", time.Hour)
	r.seal()
	r.step()
	c := r.timed()
	require.Equal(t, n, c.Latency.Count, "written directly")
	require.Zero(t, c.Latency.Cumulative[len(c.Latency.Bounds)-1], "an hour is more than the last bound")
	require.Equal(t, n, c.InWsd.Count)
	require.Equal(t, n, c.InWsd.Cumulative[len(c.InWsd.Bounds)-1])
	require.InDelta(t, 3600, c.Latency.Sum/float64(n), 60)

	for range 2 { // Records of two topics and times in one segment, and several segments.
		r.addFrom(r.deliveries, "a", "2", time.Hour)
		r.addFrom(other, "a", "3", -time.Hour)
		r.addFrom(other, "b", "4", -time.Hour)
	}
	r.seal()
	r.step()
	require.Equal(t, 3*n, r.timed().Latency.Count, "queued")
	c = stats.DeliveryCounts{}
	c.Add(other)
	require.Equal(t, 4*n, c.Latency.Count)
	require.Equal(t, 4*n, c.Ahead, "the record's clock is ahead")
	require.Equal(t, 4*n, c.Latency.Zero)
	require.Equal(t, 4*n, c.InWsd.Count)

	r.addFrom(nil, "a", "5", 0) // Nobody counts it.
	r.builder.From(bus.Origin{Topic: other})
	ch, _ := r.interest.Take([]byte("a"), 9)
	r.builder.Add(ch, record(9, "6"), time.UnixMilli(-1))
	r.seal()
	r.step()
	c = stats.DeliveryCounts{}
	c.Add(other)
	require.Equal(t, 4*n, c.Latency.Count, "it has no timestamp")
	require.Equal(t, 5*n, c.InWsd.Count)
	require.Equal(t, 3*n, r.timed().Latency.Count)
}

// What waits for a client that does not read counts when it is written, and the log says where it waited.
func TestDeliveriesWaitInTheOutbox(t *testing.T) {
	var log bytes.Buffer
	late := &Late{Max: time.Nanosecond, Interval: time.Nanosecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	r := newStepped(t, func(o *Options) { o.Late, o.Limits.OutboundMax = late, 64<<20 })
	var c *client
	r.during(func() { c = r.dial("/ws?channel=a") })
	value := strings.Repeat("7", 200<<10)
	published, waits := uint64(0), func() bool { return r.shard.sender.bytes > 0 }
	began := time.Now()
	for !waits() && published < 100 {
		r.addFrom(r.deliveries, "a", value, 0)
		r.seal()
		published++
		r.step()
	}
	require.True(t, waits())
	require.Less(t, r.timed().InWsd.Count, published)
	passed := time.Since(began)
	for time.Since(began) < 3*passed { // So the outbox is where it waits for longest.
		r.step()
	}
	r.during(func() {
		for range published {
			require.Len(t, c.message(wire.EventText), len(value))
		}
	})
	r.step()
	require.Equal(t, published, r.timed().InWsd.Count)
	require.Zero(t, r.shard.sender.bytes)
	require.Positive(t, r.shard.stats.Late[stageOutbox].Load())
	require.Contains(t, log.String(), "waited_most=outbox topic=topic partition=0")
	require.Contains(t, log.String(), fmt.Sprintf("offset=%d", published-1))
}

// Of late deliveries one in a time is logged, with how many there were.
func TestLateIsSampled(t *testing.T) {
	late, now := Late{Interval: time.Second}, time.Now()
	count, ok := late.due(now, 5)
	require.True(t, ok)
	require.EqualValues(t, 5, count)
	_, ok = late.due(now.Add(time.Second-1), 3)
	require.False(t, ok)
	count, ok = late.due(now.Add(time.Second), 4)
	require.True(t, ok)
	require.EqualValues(t, 7, count)
}

// Counting allocates nothing, whatever a batch has of topics and times.
func TestTimingAllocatesNothing(t *testing.T) {
	r := newStepped(t, nil)
	var stamps bus.Stamps
	r.during(func() { r.dial("/ws?channel=a") })
	for i := range 5 {
		r.addFrom(r.deliveries, "a", "1", time.Duration(i)*time.Second)
	}
	b := r.builder.Seal()
	stamps = b.Segments[0].Stamps
	r.shard.latency.at = time.Now()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		r.shard.count(&stamps, progress{}, 3)
		r.shard.observe()
	}))
}
