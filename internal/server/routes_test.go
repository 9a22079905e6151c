package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/admin"
	"wsd/internal/control"
)

// produceWith writes a record with one header.
func (r *rig) produceWith(topic, name, value, data string) {
	r.t.Helper()
	record := &kgo.Record{Topic: topic, Value: []byte(data), Headers: []kgo.RecordHeader{{Key: name, Value: []byte(value)}}}
	require.NoError(r.t, r.producer.ProduceSync(r.t.Context(), record).FirstErr())
}

// A record finds one connection of many shards by the id that the client was told, all connections, and channels that
// it names itself.
func TestOverrides(t *testing.T) {
	r := newRig(t, map[string]any{"overrides.enabled": true})
	r.ready()
	raw := r.dial("/ws?channel=a")
	var clients []*client
	var ids []string
	for range 6 {
		c := r.dial("/connection/websocket")
		c.send(`{"id":1,"connect":{}}`)
		var reply struct{ Connect struct{ Client string } }
		require.NoError(t, json.Unmarshal([]byte(c.reply()), &reply))
		c.send(`{"id":2,"subscribe":{"channel":"b"}}`)
		require.Contains(t, c.reply(), `"subscribe":{`)
		clients, ids = append(clients, c), append(ids, reply.Connect.Client)
	}
	for i, id := range ids {
		r.produceWith("a", "wsd-client", id, `{"for": `+string(rune('0'+i))+`}`)
	}
	r.produceWith("a", "wsd-client", strings.Repeat("0", 32), `"lost"`)
	r.produceWith("a", "wsd-user", "ann", `"lost"`)
	r.produceWith("a", "wsd-broadcast", "true", `"all"`)
	r.produceWith("a", "wsd-channels", "a,b", `"listed"`)
	r.produce("a", "", "1")
	for i, c := range clients {
		require.Equal(t, `{"push":{"message":{"data":{"for":`+string(rune('0'+i))+`}}}}`, c.reply())
		require.Equal(t, `{"push":{"message":{"data":"all"}}}`, c.reply())
		p := c.publication()
		require.Equal(t, `b "listed"`, p.Push.Channel+" "+string(p.Push.Pub.Data))
	}
	for _, want := range []string{`"all"`, `"listed"`, "1"} {
		require.Equal(t, want, raw.message())
	}
	_, body := r.get("/metrics")
	for _, want := range []string{
		`wsd_broadcast_routed_messages_total{by="connection",type="targeted"} 6`, `wsd_broadcast_routed_messages_total{by="connection",type="unwanted"} 1`,
		`wsd_broadcast_routed_messages_total{by="user",type="unwanted"} 1`,
	} {
		require.Contains(t, body, want)
	}
}

// Without the option headers mean nothing.
func TestOverridesAreOff(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	c := r.join("a")
	r.produceWith("a", "wsd-broadcast", "true", "1")
	require.Equal(t, "a", c.publication().Push.Channel)
}

// A partition that a rule stops is told by /health and a metric; other topics go on.
func TestStoppedPartition(t *testing.T) {
	r := newRig(t, map[string]any{
		"kafka.topics": []string{"re:[ab]"}, "file": "routes: [{topic: a, channel: '{key}', on_error: stop}, {topic: b, channel: b}]\n",
	}, kfake.SeedTopics(1, "b"))
	r.ready()
	a, b := r.dial("/ws?channel=k"), r.dial("/ws?channel=b")
	r.produce("a", "k", "1")
	r.produce("a", "", "2")
	r.produce("a", "k", "3")
	require.Equal(t, "1", a.message())
	r.eventually("stopped", func() bool {
		_, body := r.get("/metrics")
		return strings.Contains(body, `wsd_kafka_stopped{partition="0",topic="a"} 1`) && strings.Contains(body, `wsd_kafka_stopped{partition="0",topic="b"} 0`)
	})
	r.produce("b", "", "4")
	require.Equal(t, "4", b.message())
	code, body := r.get("/health")
	require.Equal(t, http.StatusOK, code)
	var h admin.Health
	require.NoError(t, json.Unmarshal([]byte(body), &h))
	require.Equal(t, admin.StatusDegraded, h.Status)
	require.Contains(t, strings.Join(h.Reasons, "\n"), "topic a, partition 0: stopped at offset 1: routes[0] cannot place that record (missing) and has on_error: stop")

	// An operator may skip the record. Subscribers come again; here they are raw clients, which are closed.
	for _, c := range []struct {
		request control.SkipRequest
		status  int
	}{
		{control.SkipRequest{Topic: "c"}, http.StatusNotFound},
		{control.SkipRequest{Topic: "a", To: new(int64(1))}, http.StatusBadRequest},
		{control.SkipRequest{Topic: "a", To: new(int64(-1))}, http.StatusBadRequest},
	} {
		_, err := r.server.Skip(c.request)
		var refusal *control.Refusal
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, c.status, refusal.Status, refusal.Text)
	}
	result, err := r.server.Skip(control.SkipRequest{Topic: "a"})
	require.NoError(t, err)
	require.Equal(t, control.SkipResult{From: 1, Next: 2}, result)
	r.eventually("goes on", func() bool {
		_, body := r.get("/metrics")
		return strings.Contains(body, `wsd_kafka_stopped{partition="0",topic="a"} 0`) && strings.Contains(body, `wsd_kafka_position{partition="0",topic="a"} 3`) && strings.Contains(body, `wsd_kafka_lost_total{reason="skipped",topic="a"} 1`)
	})
}
