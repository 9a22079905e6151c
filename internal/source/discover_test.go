package source

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (r *rig) topicNames() (names []string) {
	for _, t := range r.Stats().Topics() {
		names = append(names, t.Name)
	}
	return names
}

// A pattern finds what is there, which begins at Options.Start, and what comes later, which is read from its beginning;
// it leaves out what Kafka keeps for itself.
func TestTopicPatterns(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "named", "in-a", "other", "__in-b"))
	cl := mustClient(t, c.ListenAddrs())
	produce(t, cl, "in-a", 0, "old")
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"named", "re:(__)?in-.*"}}, "named", "in-a", "in-c", "__in-b")
	r.waitReady(t)
	require.Equal(t, []string{"named", "in-a"}, r.topicNames())
	produce(t, cl, "in-a", 0, "new")
	r.wantValues(t, "in-a", []string{"new"})

	createTopic(t, cl, "out-c", 1)
	createTopic(t, cl, "in-c", 2)
	produce(t, cl, "in-c", 1, "first")
	r.wantValues(t, "in-c", []string{"first"})
	require.Equal(t, []string{"named", "in-a", "in-c"}, r.topicNames())
	require.Empty(t, r.records("__in-b"))

	// One that is deleted and made again is read from its beginning, as the topics that are named are.
	deleteTopic(t, cl, "in-c")
	state := func() TopicStatus { return r.Status().Topics[2] }
	eventually(t, func() bool { return state().State == TopicMissing }, func() string { return fmt.Sprintf("%+v", state()) })
	require.True(t, state().Found)
	require.True(t, r.Ready(), "a topic that is gone does not keep clients away")
	createTopic(t, cl, "in-c", 1)
	produce(t, mustClient(t, c.ListenAddrs()), "in-c", 0, "second") // The other one remembers the topic's id.
	r.wantValues(t, "in-c", []string{"first", "second"})
	require.Equal(t, []string{"named", "in-a", "in-c"}, r.topicNames())
}

// No more topics are read than TopicsMax; one that is gone makes room.
func TestTopicsMax(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "named", "in-1", "in-2", "in-3"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"named", "re:in-.*"}, TopicsMax: 3, Start: Start{Mode: StartEarliest}}, "in-1", "in-2", "in-3")
	r.waitReady(t)
	require.Len(t, r.topicNames(), 3)
	require.EqualValues(t, 1, r.Status().LeftOut)
	eventually(t, func() bool { return r.logs.count("find more topics than kafka.topics_max allows") == 1 }, r.logs.String)
	names := r.topicNames()
	out := "in-1"
	for strings.Contains(strings.Join(names, " "), out) {
		out = fmt.Sprintf("in-%d", int(out[3]-'0')+1)
	}
	gone := names[1]
	deleteTopic(t, cl, gone)
	produce(t, cl, out, 0, "1")
	r.wantValues(t, out, []string{"1"})
	require.NotContains(t, r.topicNames(), gone)
	require.Len(t, r.topicNames(), 3)
	eventually(t, func() bool { return r.Status().LeftOut == 0 }, r.logs.String)
	for _, p := range r.Stats().Partitions() {
		require.NotEqual(t, gone, p.Topic)
	}
}

// A topic that is gone is forgotten in time, so that many that come and go take no memory.
func TestForget(t *testing.T) {
	s := &Source{stats: newStats(9), log: discard, digest: newDigest(discard, time.Minute)}
	add := func(name string, found bool, state TopicState, gone time.Duration) {
		tp := &topic{name: name, found: found, state: state, stats: &TopicStats{Name: name}}
		if state == TopicMissing {
			tp.goneAt = time.Now().Add(-gone)
		}
		s.topics = append(s.topics, tp)
	}
	names := func() (list []string) {
		for _, t := range s.topics {
			list = append(list, t.name)
		}
		return list
	}
	add("named", false, TopicMissing, 10*forgetAfter)
	add("here", true, TopicPresent, 0)
	add("long", true, TopicMissing, forgetAfter+time.Minute)
	add("short", true, TopicMissing, time.Second)
	add("shorter", true, TopicMissing, 0)
	require.True(t, s.forget(false))
	require.Equal(t, []string{"named", "here", "short", "shorter"}, names())
	require.False(t, s.forget(false))
	require.True(t, s.forget(true))
	require.Equal(t, []string{"named", "here", "shorter"}, names())
	require.True(t, s.forget(true))
	require.False(t, s.forget(true), "what is there or named stays")
	require.Equal(t, []string{"named", "here"}, names())
	require.Len(t, s.stats.Topics(), 2)
}

// The answer about all topics is used for those that patterns have found: they are not asked for a second time.
func TestFoundTopicsAreAskedForOnce(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "in-1", "in-2", "other", "named"))
	var mu sync.Mutex
	asked := make(map[string]int)
	c.ControlKey(int16(kmsg.Metadata), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		for _, rt := range kreq.(*kmsg.MetadataRequest).Topics {
			asked[*rt.Topic]++
		}
		return nil, nil, false
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"named", "later", "re:in-.*"}, MetadataInterval: time.Millisecond})
	r.waitReady(t)
	refreshes := r.Stats().MetadataRefreshes.Load()
	eventually(t, func() bool { return r.Stats().MetadataRefreshes.Load() > refreshes+3 }, r.logs.String)
	mu.Lock()
	defer mu.Unlock()
	require.Positive(t, asked["later"], "a topic that is not there is asked for by name, which tells why")
	require.Equal(t, map[string]int{"later": asked["later"]}, asked)
	require.ElementsMatch(t, []string{"named", "later", "in-1", "in-2"}, r.topicNames())
}
