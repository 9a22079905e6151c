package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// What cannot be read now does not keep clients away from what can. What may still come does.
func TestReadyWithoutTheUnreadable(t *testing.T) {
	b := newBench(t, Options{})
	at := func(position int64, leader int32) *partition {
		p := b.newPartition(b.Source.topics[0], 0, Start{})
		p.routed.Store(position)
		p.leaderSeen.Store(leader)
		return p
	}
	text := "refused"
	refused := at(-1, 1)
	refused.lastError.Store(&text)
	away := b.newFetcher(2, "nowhere")
	away.lastError.Store(&text)
	good := viewTopic{name: "good", state: TopicPresent, parts: []*partition{at(5, 1)}}
	with := func(parts ...*partition) viewTopic { return viewTopic{name: "x", state: TopicPresent, parts: parts} }
	for name, tc := range map[string]struct {
		topics      []viewTopic
		soon, later bool
	}{
		"all read":            {[]viewTopic{good}, true, true},
		"one topic denied":    {[]viewTopic{good, {state: TopicFailed, denied: true}}, true, true},
		"a topic fails":       {[]viewTopic{good, {state: TopicFailed}}, false, false},
		"every topic denied":  {[]viewTopic{{state: TopicFailed, denied: true}}, false, false},
		"a topic is missing":  {[]viewTopic{good, {state: TopicMissing}}, true, true},
		"no leader":           {[]viewTopic{good, with(at(5, 1), at(-1, -1))}, false, true},
		"no leader anywhere":  {[]viewTopic{with(at(-1, -1), at(-1, -1))}, false, false},
		"the leader is away":  {[]viewTopic{good, with(at(-1, 2))}, false, true},
		"refused":             {[]viewTopic{good, with(refused)}, false, true},
		"the answer may come": {[]viewTopic{good, with(at(-1, 1))}, false, false},
		"partitions may come": {[]viewTopic{good, with()}, false, false},
		"nothing exists":      {nil, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := &view{topics: tc.topics, fetchers: []*fetcher{b.f, away}}
			require.False(t, v.ready(0), "Kafka has not been asked")
			v.metadata, v.since = time.Now(), time.Now()
			require.Equal(t, tc.soon, v.ready(time.Hour))
			require.Equal(t, tc.later, v.ready(0))
		})
	}
	require.True(t, isDenied(kafka.Code(kerr.TopicAuthorizationFailed.Code)))
	require.False(t, isDenied(kafka.Code(kerr.LeaderNotAvailable.Code)))
}

// Ready although one topic's offsets are refused. Its subscribers are notified when it can be read.
func TestReadyBeforeOneTopic(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a", "b"))
	refusing := make(chan struct{})
	c.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-refusing:
			return nil, nil, false
		default:
		}
		c.KeepControl()
		resp := kreq.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, rt := range kreq.(*kmsg.ListOffsetsRequest).Topics {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			if rp.Offset = 0; rt.Topic == "b" {
				rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			}
			resp.Topics = append(resp.Topics, kmsg.ListOffsetsResponseTopic{Topic: rt.Topic,
				Partitions: []kmsg.ListOffsetsResponseTopicPartition{rp}})
		}
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a", "b"}}, "a", "b")
	r.waitReady(t)
	require.NotEmpty(t, r.Status().Topics[1].Partitions[0].Error)
	require.Empty(t, r.breaksOf("b"))
	close(refusing)
	eventually(t, func() bool { return len(r.breaksOf("b")) == 1 }, r.logs.String)
	require.Empty(t, r.breaksOf("a"))
	cl := mustClient(t, c.ListenAddrs())
	produce(t, cl, "b", 0, "1")
	r.wantValues(t, "b", []string{"1"})
}
