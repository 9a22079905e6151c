package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"wsd/internal/kafkatest"
)

// Positions are kept in a group and gone on from. With a topic that is deleted Kafka deletes them, too.
func groupPositions(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	ch := topic + "/0"
	older := k.Client(t, kgo.MaxVersions(kversion.V3_0_0())) // Later ones name topics by their ids.
	at := func() int64 { return committedOf(t, older, topic, topic) }
	o := reading(k, topic)
	o.CommitGroup, o.CommitInterval, o.Start = topic, 10*time.Millisecond, Start{Mode: StartCommitted}
	produce(t, k.Client(t), topic, 0, numbered(0, 5)...)
	r := startRig(t, o, ch)
	eventually(t, func() bool { return r.Stats().Commits.Load() > 0 }, r.logs.String) // A new cluster first makes the topic that keeps them.
	require.EqualValues(t, 5, at(), "where it begins: the end")
	produce(t, k.Client(t), topic, 0, numbered(5, 10)...)
	r.wantValues(t, ch, numbered(5, 10))
	r.stopNow(t)
	require.EqualValues(t, 10, at(), r.logs)

	produce(t, k.Client(t), topic, 0, numbered(10, 20)...)
	r = startRig(t, o, ch)
	r.wantValues(t, ch, numbered(10, 20))
	r.wantIntact(t)
	r.stopNow(t)
	require.EqualValues(t, 20, at(), r.logs)

	k.Delete(t, topic)
	k.Create(t, topic, 1)
	eventually(t, func() bool { return at() < 0 }, func() string { return "the group still has a position of the topic that was deleted" })
	produce(t, k.Client(t), topic, 0, numbered(0, 30)...)
	r = startRig(t, o, ch)
	r.waitReady(t)
	produce(t, k.Client(t), topic, 0, numbered(30, 40)...)
	r.wantValues(t, ch, numbered(30, 40))
}
