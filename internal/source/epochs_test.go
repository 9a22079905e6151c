package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/kafka"
	"wsd/internal/kafkatest"
)

// assignEpoch applies metadata in which broker 1 leads the partition in the epoch.
func (b *bench) assignEpoch(broker, epoch int32) {
	b.assign(map[int32]string{1: "127.0.0.1:1"}, map[*partition]leader{b.p: {broker: broker, epoch: epoch}})
}

// newEpochBench is a bench whose partition has been read up to offset 5 in epoch 5.
func newEpochBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, Options{MetadataInterval: time.Hour})
	b.Source.streams.Store(buildStreams(b.Source.topics))
	b.feed(t, 5, nil, kafkatest.Join(kafkatest.Numbered(0, 5)))
	b.assignEpoch(1, 5)
	b.p.lastEpoch = 5
	require.EqualValues(t, 5, b.p.leaderEpoch)
	require.Equal(t, resolveNothing, b.p.resolve)
	return b
}

// A leader epoch that goes back is old news while reading works, and for a while after that.
func TestEpochGoesBack(t *testing.T) {
	for name, tc := range map[string]struct {
		before, after int32
		resolve       resolveKind
		otherLog      bool
	}{
		"a topic created again without ids": {5, 0, resolveRange, true},
		"metadata named a higher epoch":     {9, 5, resolveEpoch, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newEpochBench(t)
			b.assignEpoch(1, tc.before)
			b.p.resolve = resolveNothing
			b.p.owner.connected.Store(true)
			b.p.owner.lastError.Store(nil)
			b.o.MetadataInterval = 0
			b.assignEpoch(1, tc.after)
			require.Equal(t, tc.before, b.p.leaderEpoch, "reading works")

			b.Source.mu.Lock()
			b.failLocked(b.p, kafka.NewError(kafka.ErrorLeader, errNoOffset), true)
			b.Source.mu.Unlock()
			b.o.MetadataInterval = time.Hour
			b.assignEpoch(1, tc.after)
			require.Equal(t, tc.before, b.p.leaderEpoch, "it was not named for long")
			b.o.MetadataInterval = 0
			b.assignEpoch(1, tc.after)
			require.Equal(t, tc.after, b.p.leaderEpoch)
			require.Equal(t, tc.resolve, b.p.resolve)
			require.EqualValues(t, epochDoubted, b.p.vouched.Load())
			if !tc.otherLog {
				return
			}
			b.assignEpoch(1, tc.after+7)
			require.Equal(t, resolveRange, b.p.resolve)
			// The log is another one, even if it is longer: it is read from its beginning.
			require.NoError(t, b.rejoin(b.p.owner, b.p, 0, 100))
			require.Zero(t, b.p.routed.Load())
			require.EqualValues(t, 5, b.topic(0).Lost[LossTruncated].Load())
			require.EqualValues(t, 1, b.topic(0).Breaks.Load())
			b.p.resolve = resolveRange // A later range is an ordinary one.
			require.NoError(t, b.rejoin(b.p.owner, b.p, 0, 100))
			require.EqualValues(t, 5, b.topic(0).Lost[LossTruncated].Load())
		})
	}
}

// What a broker does not know does not replace what is known.
func TestUnknownReplacesNothing(t *testing.T) {
	b := newEpochBench(t)
	b.assignEpoch(-1, -1) // No leader.
	require.EqualValues(t, 5, b.p.leaderEpoch)
	require.Nil(t, b.p.owner)
	b.assignEpoch(1, 6)
	require.Equal(t, resolveEpoch, b.p.resolve, "the new leader's log is compared")

	b = newEpochBench(t)
	b.f = b.p.owner
	batch := kafkatest.Join(kafkatest.Numbered(5, 2))
	b.feed(t, -1, nil, batch)
	require.EqualValues(t, 5, b.p.high.Load())
}
