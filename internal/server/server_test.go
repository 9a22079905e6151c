package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/admin"
	"wsd/internal/control"
)

func TestDelivery(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	raw, joined := r.dial("/ws?channel=a"), r.join("a")
	r.eventually("subscribed", func() bool { return r.server.Health().Shards != nil && r.subscriptions() == 2 })
	r.produce("a", "", `{"n":1}`, `{"n":2}`, "text")
	require.Equal(t, `{"n":1}`, raw.message())
	require.Equal(t, `{"n":2}`, raw.message())
	require.Equal(t, "text", raw.message())
	for n := range uint64(2) {
		p := joined.publication()
		require.Equal(t, "a", p.Push.Channel)
		require.Equal(t, n+1, p.Push.Pub.Offset)
		require.Equal(t, fmt.Sprintf(`{"n":%d}`, n+1), string(p.Push.Pub.Data))
	}
	stopped := r.stopping()
	_, err := raw.raw()
	require.Equal(t, wsutil.ClosedError{Code: 1001, Reason: "shutdown"}, err)
	_, err = joined.raw()
	require.Equal(t, wsutil.ClosedError{Code: 3001, Reason: "shutdown"}, err)
	require.NoError(t, <-stopped)
}

// stopping stops the server while the test goes on reading.
func (r *rig) stopping() <-chan error {
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	return stopped
}

func (r *rig) subscriptions() (n int64) {
	for _, s := range r.server.Health().Shards {
		n += s.Subscriptions
	}
	return n
}

// Values that are not what a client of the protocol can take do not disturb those that are.
func TestValues(t *testing.T) {
	r := newRig(t, map[string]any{"kafka.max_record_bytes": "16MiB"}, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000000"}))
	r.ready()
	raw, joined := r.dial("/ws?channel=a"), r.join("a")
	big := `{"s":"` + strings.Repeat("x", 8<<20) + `"}`
	values := []string{`{"a":1}`, "{\n\"b\":\n2}", `}{`, "\x00", "\xff\xfe", `{"c":3}`, `"open`, big, `{"d":4}`}
	producer, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.ListenAddrs()...), kgo.ProducerBatchMaxBytes(16<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	require.NoError(t, err)
	defer producer.Close()
	for _, v := range values {
		require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: "a", Value: []byte(v)}).FirstErr())
		if v == big { // Larger than client.outbound_max: the clients are given time to take it.
			require.Len(t, r.skip(raw, len(values)-2), len(big))
		}
	}
	require.Equal(t, `{"d":4}`, raw.message())
	for _, want := range []string{`{"a":1}`, `{"b":2}`, `{"c":3}`, big, `{"d":4}`} {
		p := joined.publication()
		require.Len(t, p.Push.Pub.Data, len(want))
		require.JSONEq(t, want, string(p.Push.Pub.Data))
	}
	require.Contains(t, r.log.String(), "JSON")
}

// skip reads past n messages and returns the one behind them.
func (r *rig) skip(c *client, n int) (m string) {
	for range n + 1 {
		m = c.message()
	}
	return m
}

func TestRoutes(t *testing.T) {
	r := newRig(t, map[string]any{"routes": []string{"a=by.{key}", "{topic}.{partition}"}, "kafka.topics": []string{"a", "b"}}, kfake.SeedTopics(1, "b"))
	r.ready()
	x, y, b := r.dial("/ws?channel=by.x"), r.dial("/ws?channel=by.y"), r.join("b.0")
	r.produce("a", "x", "1")
	r.produce("a", "y", "2")
	r.produce("a", "x", "3")
	r.produce("a", "", "nobody's")
	r.produce("b", "", "4")
	require.Equal(t, "1", x.message())
	require.Equal(t, "3", x.message())
	require.Equal(t, "2", y.message())
	require.Equal(t, "4", string(b.publication().Push.Pub.Data))
	r.eventually("counted", func() bool {
		_, body := r.get("/metrics")
		return strings.Contains(body, `wsd_kafka_unplaced_total{reason="missing",topic="a"} 1`)
	})
}

func TestAdminPort(t *testing.T) {
	r := newRig(t, map[string]any{"kafka.topics": []string{"a", "later"}})
	r.ready()
	for range 6 {
		r.join("a")
	}
	code, body := r.get("/health")
	require.Equal(t, http.StatusOK, code)
	var h admin.Health
	require.NoError(t, json.Unmarshal([]byte(body), &h))
	require.Equal(t, admin.StatusDegraded, h.Status)
	require.Equal(t, []string{"topic later does not exist: create it, or correct kafka.topics"}, h.Reasons)
	require.Equal(t, "none", h.Auth)
	require.EqualValues(t, 6, h.Connections)
	require.Len(t, h.Shards, 3)
	require.Equal(t, "hash", h.Steering.Mode)
	require.Equal(t, "present", h.Kafka.Topics[0].State)
	require.Equal(t, "missing", h.Kafka.Topics[1].State)

	require.NoError(t, r.kafka.CreateTopic("later", 2, nil))
	r.eventually("topic picked up", func() bool { return r.server.Health().Status == admin.StatusOK })
	late := r.dial("/ws?channel=later")
	r.produce("later", "", "hello")
	require.Equal(t, "hello", late.message())

	code, body = r.get("/ready")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"ready":true,"reasons":[]}`, body)
	code, body = r.get("/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, want := range []string{`wsd_kafka_records_total{topic="later"} 1`, `wsd_goroutines{component="shard"} 3`, `wsd_build_info{commit="c0",version="v0"} 1`} {
		require.Contains(t, body, want)
	}
	_, body = r.get("/page/channels")
	require.JSONEq(t, `{"channels":["a","later"],"more":0}`, body)

	answer, ok, err := control.Health(t.Context(), r.server.cfg.Control.Socket)
	require.NoError(t, err)
	require.True(t, ok)
	require.Contains(t, string(answer), `"version":"v0"`)
}

// Without Kafka wsd serves, is not ready, and says why.
func TestKafkaAway(t *testing.T) {
	r := newRig(t, map[string]any{"kafka.brokers": []string{"127.0.0.1:1"}})
	c := r.join("a")
	r.eventually("told", func() bool { return len(r.server.Health().Reasons) > 0 })
	require.Equal(t, admin.StatusDegraded, r.server.Health().Status)
	code, body := r.get("/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "Kafka")
	stopped := r.stopping()
	_, err := c.raw()
	require.Equal(t, wsutil.ClosedError{Code: 3001, Reason: "shutdown"}, err)
	require.NoError(t, <-stopped)
}

func TestNewErrors(t *testing.T) {
	r := newRig(t, nil)
	client, adminAddress := r.server.Addresses()[0].String(), r.server.AdminAddress()
	logger := slog.New(slog.DiscardHandler)
	for name, flags := range map[string]map[string]any{
		"is in use by pid": {"client.listen": []string{client}},
		"set admin.listen": {"admin.listen": adminAddress},
		"control socket":   {"control.socket": r.server.cfg.Control.Socket},
	} {
		cfg := configure(t, flags)
		_, err := New(cfg, Build{}, logger)
		require.ErrorContains(t, err, name)
	}
	r.ready() // The first one is not disturbed.
	require.NotEmpty(t, r.join("a").shard)
}

// Everything that was read is delivered before clients are closed.
func TestStopDelivers(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	const clients, records = 20, 300
	var list []*client
	for range clients {
		list = append(list, r.join("a"))
	}
	for n := range records {
		r.producer.Produce(context.Background(), &kgo.Record{Topic: "a", Value: fmt.Appendf(nil, `%d`, n)}, nil)
	}
	require.NoError(t, r.producer.Flush(t.Context()))
	r.eventually("all read", func() bool { return r.server.source.Stats().Topics()[0].Records.Load() == records })
	stopped := r.stopping()
	for _, c := range list {
		for n := range records {
			require.Equal(t, fmt.Sprint(n), string(c.publication().Push.Pub.Data))
		}
		_, err := c.raw()
		require.Equal(t, wsutil.ClosedError{Code: 3001, Reason: "shutdown"}, err)
	}
	require.NoError(t, <-stopped)
}
