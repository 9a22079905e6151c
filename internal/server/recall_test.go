package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// subscribed is the reply to a subscribe command.
type subscribed struct {
	Subscribe *struct {
		Epoch  string
		Offset uint64
	}
}

func (c *client) subscribe(channel string) (epoch string, offset uint64) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"id":7,"subscribe":{"channel":%q}}`, channel))
	var s subscribed
	line := c.reply()
	require.NoError(c.t, json.Unmarshal([]byte(line), &s), line)
	require.NotNil(c.t, s.Subscribe, line)
	return s.Subscribe.Epoch, s.Subscribe.Offset
}

func (r *rig) request(req kmsg.Request) kmsg.Response {
	r.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.ListenAddrs()...))
	require.NoError(r.t, err)
	defer cl.Close()
	resp, err := cl.Request(r.t.Context(), req)
	require.NoError(r.t, err)
	return resp
}

// recreate deletes the topic and creates it again with one partition and values in it.
func (r *rig) recreate(topic string, values ...string) {
	r.t.Helper()
	drop := kmsg.NewDeleteTopicsRequest()
	drop.TopicNames = []string{topic}
	named := kmsg.NewDeleteTopicsRequestTopic()
	named.Topic = kmsg.StringPtr(topic)
	drop.Topics = append(drop.Topics, named)
	require.Zero(r.t, r.request(&drop).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode)
	create := kmsg.NewCreateTopicsRequest()
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = topic, 1, 1
	create.Topics = append(create.Topics, ct)
	require.Zero(r.t, r.request(&create).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode)
	producer, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.ListenAddrs()...)) // The other one knows the old topic.
	require.NoError(r.t, err)
	defer producer.Close()
	for _, v := range values {
		require.NoError(r.t, producer.ProduceSync(r.t.Context(), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr())
	}
}

// A topic that is deleted and created again, with more records than before: clients are told, come back to another epoch, and miss
// nothing of the new topic.
func TestRecreatedTopicReachesClients(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	protocol, raw := r.dial("/connection/websocket"), r.dial("/ws?channel=a")
	protocol.send(`{"id":1,"connect":{}}`)
	require.Contains(t, protocol.reply(), `"connect":{`)
	epoch, _ := protocol.subscribe("a")
	for n := range 20 {
		r.produce("a", "", fmt.Sprint(n))
		require.Equal(t, fmt.Sprint(n), string(protocol.publication().Push.Pub.Data))
		require.Equal(t, fmt.Sprint(n), raw.message())
	}
	var values []string
	for n := range 30 {
		values = append(values, fmt.Sprint(1000+n))
	}
	r.recreate("a", values...)

	require.Equal(t, `{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`, protocol.reply())
	fresh, offset := protocol.subscribe("a")
	require.NotEqual(t, epoch, fresh)
	require.Zero(t, offset)
	frame, err := ws.ReadFrame(raw.rw)
	require.NoError(t, err)
	code, _ := ws.ParseCloseFrameData(frame.Payload)
	require.EqualValues(t, 1013, code)
	raw.conn.Close()
	raw = r.dial("/ws?channel=a")
	for i, v := range values {
		p := protocol.publication().Push.Pub
		require.Equal(t, v, string(p.Data))
		require.EqualValues(t, i+1, p.Offset)
		require.Equal(t, v, raw.message())
	}
	_, metrics := r.get("/metrics")
	require.Contains(t, metrics, `wsd_kafka_recreations_total{topic="a"} 1`)
	require.Contains(t, metrics, `wsd_kafka_breaks_total{topic="a"} 1`)
	require.Equal(t, 1, strings.Count(r.log.String(), "created again"))
}
