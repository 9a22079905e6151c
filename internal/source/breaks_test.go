package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

// A partition may have fifty breaks at once, and then ten a second.
func TestBreakPace(t *testing.T) {
	var pace breakPace
	now := time.Unix(1_000_000, 0)
	for n := range breaksAtOnce {
		require.False(t, now.Before(pace.at()), "break %d", n)
		pace.published(now)
	}
	for range 3 {
		require.Equal(t, now.Add(breakEvery), pace.at())
		now = pace.at()
		pace.published(now)
	}
	now = now.Add(time.Hour)
	for range breaksAtOnce {
		require.False(t, now.Before(pace.at()))
		pace.published(now)
	}
	require.True(t, now.Before(pace.at()))
}

// A log with damage everywhere does not end its clients' subscriptions without a pause. Losses share a break, nothing
// is delivered between a loss and its break, and everything else comes in order.
func TestBreaksAreLimited(t *testing.T) {
	b := newBench(t, Options{})
	b.Source.topics[0].cleanup.Store(uint32(cleanupDelete))
	b.f.parts = b.Source.topics[0].parts
	batches := func(from int64) (data []byte) { // One record each, after a hole.
		for n := from; n < 10; n++ {
			data = append(data, kafkatest.Numbered(2*n+1, 1).Encode()...)
		}
		return data
	}
	b.feedFrom(t, 2, 0, batches(0)[:len(batches(9))])
	b.wantValues(t, "a", []string{"1"})
	require.EqualValues(t, 1, b.topic(0).Breaks.Load())

	b.p.breaks.paid = time.Now().Add(time.Hour) // There were too many lately.
	b.feedFrom(t, 20, 0, batches(1))
	require.EqualValues(t, 1, b.topic(0).Breaks.Load())
	require.EqualValues(t, 2, lost(b.topic(0)))
	require.EqualValues(t, 3, b.p.routed.Load(), "the position is after the loss, and before the record")
	b.f.plan(11)
	require.Empty(t, b.f.asked, "nothing is fetched before the break")
	b.feedFrom(t, 20, 0, batches(1))
	require.EqualValues(t, 3, b.p.routed.Load(), "nor routed, if a response is under way already")
	b.Source.mu.Lock()
	b.p.routed.Store(5) // Meanwhile more is lost.
	require.NoError(t, b.loseLocked(b.p, LossUnreadable, 3, 5))
	b.Source.mu.Unlock()
	require.NoError(t, b.f.payBreaks())
	require.EqualValues(t, 1, b.topic(0).Breaks.Load())

	b.Source.mu.Lock()
	b.p.breaks.paid, b.p.fetchFrom = time.Time{}, time.Time{}
	b.Source.mu.Unlock()
	b.f.plan(11)
	require.NoError(t, b.f.payBreaks())
	require.EqualValues(t, 2, b.topic(0).Breaks.Load())
	require.EqualValues(t, 1, b.topic(0).BreaksMerged.Load())
	require.Len(t, b.f.asked, 1)
	b.feedFrom(t, 20, 0, batches(2))
	b.wantValues(t, "a", []string{"1", "5", "7", "9", "11", "13", "15", "17", "19"})
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8}, b.breaksOf("a"), "each after what came before the loss")
}

// Losses that nobody has subscribed to the channels of cost no break, so they do not wait for one.
func TestBreaksForNobody(t *testing.T) {
	b := newBench(t, Options{})
	b.interest.Remove("a", 0)
	b.Source.topics[0].cleanup.Store(uint32(cleanupDelete))
	var data []byte
	for n := range int64(2 * breaksAtOnce) {
		data = append(data, kafkatest.Numbered(2*n+1, 1).Encode()...)
	}
	b.feedFrom(t, 4*breaksAtOnce, 0, data)
	require.EqualValues(t, 4*breaksAtOnce, b.p.routed.Load())
	require.Zero(t, b.topic(0).Breaks.Load()+b.topic(0).BreaksMerged.Load())
}

// A topic that does not get to the end of its log is named with how far it is behind, and no longer when it has.
func TestBehindIsNamed(t *testing.T) {
	b := newBench(t, Options{BehindMax: time.Nanosecond})
	topic := b.Source.topics[0]
	topic.state = TopicPresent
	b.publishView()
	b.Source.stats.setPartitions(topic.parts)
	b.noteBehind()
	require.Zero(t, b.Stats().Behind())
	require.Empty(t, b.Status().Topics[0].Behind)

	b.respond(t, map[*partition][]byte{b.p: heavyBatch(0)}) // Its high watermark is 1 << 20.
	require.Len(t, b.f.walks, 1)
	require.Positive(t, b.Stats().Behind())
	require.Contains(t, b.Status().Topics[0].Behind, "partition 0 has ")
	require.False(t, b.Status().Topics[0].Current)
	b.noteBehind()
	b.noteBehind()
	require.Equal(t, 1, b.logs.count("topics are behind Kafka"))
	require.Contains(t, b.logs.String(), "longest=a partition=0")

	b.f.dropWalks()
	since := b.p.behindSince.Get()
	b.feed(t, heavyRecords, nil, heavyBatch(0))
	require.Zero(t, b.Stats().Behind())
	require.Empty(t, b.Status().Topics[0].Behind)
	b.noteBehind()
	require.Equal(t, 1, b.logs.count("no topic is behind Kafka any longer"))
	// What comes next is not behind since then.
	b.p.behindSince.Set(since)
	b.p.noteWaiting(time.Now())
	require.NotEqual(t, since, b.p.behindSince.Get())
	since = b.p.behindSince.Get()
	b.p.high.Add(1)
	b.p.stable.Add(1)
	b.p.noteWaiting(time.Now().Add(time.Hour))
	require.Equal(t, since, b.p.behindSince.Get())
}
