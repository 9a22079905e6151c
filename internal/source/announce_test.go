package source

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Subscribers of a channel whose topic or partition appears later are notified before its first record, when it has a
// position. Nobody else is.
func TestSubscribedBeforeTheTopicExists(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "here"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{
		Brokers: c.ListenAddrs(), Topics: []string{"here", "later", "re:found.*"}, ReturnWait: 300 * time.Millisecond,
		Routes: []Route{{Channel: "{topic}/{partition}"}},
	}, "here/0", "here/1", "later/0", "later/1", "found1/0", "nothing")
	r.waitReady(t)
	produce(t, cl, "here", 0, numbered(0, 5)...)
	r.wantValues(t, "here/0", numbered(0, 5))

	wantBreak := func(channel string) {
		t.Helper()
		eventually(t, func() bool { return len(r.breaksOf(channel)) == 1 }, r.logs.String)
		_, _, ok := r.Position(channel)
		require.True(t, ok, "who comes back gets a position")
	}
	createTopic(t, cl, "later", 1)
	produce(t, cl, "later", 0, numbered(0, 5)...)
	wantBreak("later/0")
	createTopic(t, cl, "found1", 1)
	wantBreak("found1/0")
	addPartitions(t, c, "here", 2)
	wantBreak("here/1")
	r.wantValues(t, "later/0", numbered(0, 5))
	require.Equal(t, []int{0}, r.breaksOf("later/0"), "before the first record")
	for _, name := range []string{"here/0", "later/1", "nothing"} {
		require.Empty(t, r.breaksOf(name), name)
	}
	for _, ts := range r.Stats().Topics() {
		require.Zero(t, ts.Breaks.Load()+lost(ts), "nothing was lost")
	}
}

// Clients may come before Kafka answers for the first time.
func TestSubscribedBeforeKafkaAnswers(t *testing.T) {
	for _, start := range []Start{{}, {Mode: StartCommitted}} {
		c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
		cl := mustClient(t, c.ListenAddrs())
		produce(t, cl, "a", 0, numbered(0, 5)...)
		if start.Mode == StartCommitted {
			before := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, CommitGroup: "g",
				CommitInterval: time.Millisecond})
			eventually(t, func() bool { return committedOf(t, cl, "g", "a") == 5 }, before.logs.String)
			before.stopNow(t)
		}
		failed := 0
		c.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
			if failed++; failed > 3 {
				return nil, nil, false
			}
			c.KeepControl()
			return nil, errors.New("not now"), true
		})
		r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: start, CommitGroup: "g",
			ReturnWait: time.Millisecond}, "a")
		r.waitReady(t)
		produceRecords(t, cl, &kgo.Record{Topic: "a", Value: []byte("live")})
		r.wantValues(t, "a", []string{"live"})
		require.Equal(t, []int{0}, r.breaksOf("a"))
	}
}
