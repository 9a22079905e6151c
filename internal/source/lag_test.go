package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
	"wsd/internal/kafkatest"
	"wsd/internal/stats"
)

// The lag in time is the age of what was read last while there is more, whatever goes on while a response is walked.
func TestLagTime(t *testing.T) {
	b := newBench(t, Options{})
	lag := func() time.Duration { return b.p.stats().LagTime }
	old := time.Since(time.UnixMilli(kafkatest.MaxTime))
	require.EqualValues(t, -1, lag(), "nothing has been read")
	b.feed(t, 10, nil, kafkatest.Join(kafkatest.Numbered(0, 3)))
	require.GreaterOrEqual(t, lag(), old)
	require.Less(t, lag(), old+time.Hour)
	require.EqualValues(t, TimesCreate, b.topic(0).Times.Load())
	batch := kafkatest.Numbered(3, 7)
	batch.Attributes |= 1 << 3 // LogAppendTime.
	b.feed(t, 10, nil, kafkatest.Join(batch))
	require.Zero(t, lag(), "at the end")
	require.EqualValues(t, TimesAppend, b.topic(0).Times.Load())
	b.p.high.Store(11)
	require.Zero(t, lag(), "what has just arrived is no lag")
}

// Records carry the topic, the partition and the time at which they were fetched.
func TestRecordsAreStamped(t *testing.T) {
	b := newBench(t, Options{})
	second := b.addPartition()
	b.interest.Add("a", 0, 0)
	before := stats.Clock(time.Now())
	b.Source.mu.Lock()
	w := walk{asked: asked{p: second}, walker: b.f.walker, fetched: before, rp: &kmsg.FetchResponseTopicPartition{HighWatermark: 3, LastStableOffset: 3}}
	w.rp.RecordBatches = kafkatest.Join(kafkatest.Numbered(0, 3))
	b.f.takeLocked(&w)
	batch := b.Source.builder.Seal()
	b.Source.mu.Unlock()
	var stamps []bus.Stamp
	batch.Segments[0].Stamps.Each(func(s *bus.Stamp) { stamps = append(stamps, *s) })
	require.Equal(t, []bus.Stamp{{
		Origin: bus.Origin{Topic: b.topic(0).Deliveries, Fetched: before, Partition: second.id},
		Millis: kafkatest.FirstTime + 1, Offset: 1, Records: 3,
	}}, stamps)
	require.Equal(t, "a", b.topic(0).Deliveries.Topic)
}
