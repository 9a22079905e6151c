package commands

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/kafkatest"
)

// testLeaderless: a partition without a leader keeps no other from being read, and is read when it has one, from the
// moment on in which the process began.
func testLeaderless(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	k.Needs(t, kafkatest.StopOne)
	topic := strings.ReplaceAll(t.Name(), "/", "-")
	cl := k.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	const replicas = 1
	_, err := kadm.NewClient(cl).CreateTopic(t.Context(), 3, replicas, nil, topic)
	require.NoError(t, err)
	write := func(user string, partition int32) {
		c := &Command{ID: NewID(), Do: Disconnect, User: user}
		value, err := c.Append(nil)
		require.NoError(t, err)
		kafkatest.Produce(t, cl, &kgo.Record{Topic: topic, Partition: partition, Value: value})
	}
	for p := range int32(3) {
		write("before", p)
	}
	time.Sleep(startSlack + 100*time.Millisecond) // So that they are before the start, for the broker's clock too.
	down := k.Leader(t, topic, 0)
	k.Stop(t, down)
	eventually(t, "partition 0 has no leader", func() bool { return k.Leader(t, topic, 0) < 0 })
	n := newNode(t, k, topic, nil)
	write("b", 1)
	n.has("b")
	eventually(t, "it says that commands are late", func() bool { return n.late(time.Second) != "" })
	k.Start(t, down)
	write("a", 0)
	n.has("a", "b")
	eventually(t, "commands are not late", func() bool { return n.Late() == "" })
}

// A broker that lags behind names the topic that was there before. That is no topic that was created once more.
func TestIdentify(t *testing.T) {
	id := func(n byte) kadm.TopicID { return kadm.TopicID{n} }
	l := newLocated()
	for _, step := range []struct {
		id          byte
		again, late bool
	}{
		{0, false, false}, // From a broker that gives no ids.
		{1, false, false}, {0, false, false}, {1, false, false},
		{2, true, false}, {1, false, true}, {0, false, false}, {2, false, false}, {1, false, true},
		{3, true, false}, {2, false, true}, {1, false, true}, {3, false, false},
	} {
		again, late := l.identify(id(step.id))
		require.Equal(t, step.again, again, "%+v", step)
		require.Equal(t, step.late, late, "%+v", step)
	}
	for i := range byte(100) {
		l.identify(id(10 + i))
	}
	require.Len(t, l.former, formerMax)
	_, late := l.identify(id(10 + 98))
	require.True(t, late)
}
