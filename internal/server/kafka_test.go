package server

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/admin"
	"wsd/internal/source"
)

// wsd that starts before its Kafka serves clients, says that it is not ready and why, and is ready when Kafka has come.
func TestKafkaComesLater(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := ln.Addr().(*net.TCPAddr)
	require.NoError(t, ln.Close())
	r := newRig(t, map[string]any{"kafka.brokers": []string{address.String()}})
	c := r.dial("/ws?channel=a")
	r.eventually("told", func() bool { return len(r.server.Health().Reasons) > 0 })
	code, body := r.get("/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "connect to broker "+address.String())
	require.Contains(t, body, "connection refused")
	code, body = r.get("/health")
	require.Equal(t, http.StatusOK, code, "clients are served")
	require.Contains(t, body, `{"name":"a","state":"unknown","current":false,`)
	_, body = r.get("/metrics")
	require.Contains(t, body, "wsd_ready 0")
	require.NotContains(t, body, `wsd_kafka_fetch_errors_total{kind="connect"} 0`)
	require.NotContains(t, body, "wsd_kafka_reconnects_total 0\n")

	late, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(address.Port), kfake.SeedTopics(1, "a"))
	require.NoError(t, err)
	t.Cleanup(late.Close)
	r.ready()
	producer, err := kgo.NewClient(kgo.SeedBrokers(late.ListenAddrs()...))
	require.NoError(t, err)
	defer producer.Close()
	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{Topic: "a", Value: []byte("hello")}).FirstErr())
	require.Equal(t, "hello", c.message())
	r.eventually("current", func() bool { return r.server.Health().Kafka.Topics[0].Current })
	require.Equal(t, admin.StatusOK, r.server.Health().Status)
	_, body = r.get("/metrics")
	require.Contains(t, body, "wsd_ready 1")
	require.Contains(t, body, `wsd_kafka_position{partition="0",topic="a"} 1`)
	require.Contains(t, body, `wsd_kafka_lag{partition="0",topic="a"} 0`)
	r.eventually("counted, after the client has the record", func() bool {
		_, body := r.get("/metrics")
		return strings.Contains(body, "wsd_delivery_latency_seconds_count{topic=\"a\"} 1\n")
	})
}

// A wrong password is said in the log, in /health and in /ready.
func TestWrongPassword(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256"} {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "a"), kfake.EnableSASL(), kfake.Superuser(mechanism, "wsd", "right"))
		require.NoError(t, err)
		t.Cleanup(cluster.Close)
		r := newRig(t, map[string]any{
			"kafka.brokers": cluster.ListenAddrs(), "kafka.sasl.mechanism": mechanism, "kafka.sasl.username": "wsd", "kafka.sasl.password": "guessed",
		})
		const says = "check kafka.sasl.username and the password"
		r.eventually("told", func() bool { return len(r.server.Health().Reasons) > 0 })
		for _, path := range []string{"/health", "/ready"} {
			_, body := r.get(path)
			require.Contains(t, body, says, path)
			require.NotContains(t, body, "guessed")
		}
		require.Contains(t, r.log.String(), says)
		_, body := r.get("/metrics")
		require.NotContains(t, body, `wsd_kafka_fetch_errors_total{kind="auth"} 0`)
	}
}

// A topic that may not be read is said so, and wsd is not ready: what comes there is missed.
func TestForbiddenTopic(t *testing.T) {
	r := newRig(t, map[string]any{"kafka.topics": []string{"a", "secret"}})
	r.ready() // It does not exist, which holds nothing up.
	require.NoError(t, r.stop())

	r.kafka.ControlKey(int16(kmsg.Metadata), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.kafka.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if len(req.Topics) != 2 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewMetadataResponseTopic()
			st.Topic, st.ErrorCode = rt.Topic, kerr.TopicAuthorizationFailed.Code
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	r.start(configure(t, map[string]any{"kafka.topics": []string{"a", "secret"}, "kafka.brokers": r.kafka.ListenAddrs()}))
	r.eventually("told", func() bool { return len(r.server.Health().Reasons) > 1 })
	_, body := r.get("/health")
	require.Contains(t, body, "topic secret: [29] Topic Authorization Failed")
	code, body := r.get("/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "topic secret: [29] Topic Authorization Failed")
	require.Contains(t, r.log.String(), `msg="topics cannot be read" topics=2 first="[a secret]" kind=auth`)
}

// What keeps partitions from being read is a reason of /health, one for a topic however many they are.
func TestPartitionProblems(t *testing.T) {
	partitions := func(list ...source.PartitionStatus) source.Status {
		for i := range list {
			list[i].Partition = int32(i)
		}
		return source.Status{Topics: []source.TopicStatus{{Name: "a", State: source.TopicPresent, Partitions: list}}}
	}
	good, orphan, failed := source.PartitionStatus{Leader: 1}, source.PartitionStatus{Leader: -1}, source.PartitionStatus{Leader: 1, Error: "no"}
	require.Empty(t, kafkaProblems(partitions(good, good)))
	require.Equal(t, []string{"topic a, partition 1: no reachable leader"}, kafkaProblems(partitions(good, orphan)))
	require.Equal(t, []string{"topic a, partition 0: no"}, kafkaProblems(partitions(failed, good)))
	require.Equal(t, []string{"topic a: cannot read 2 partitions; partition 1: no reachable leader"}, kafkaProblems(partitions(good, orphan, failed)))
	missing := partitions(orphan)
	missing.Topics[0].State = source.TopicMissing
	require.Equal(t, []string{"topic a does not exist: create it, or correct kafka.topics"}, kafkaProblems(missing))
	stopped := source.PartitionStatus{Leader: 1, Stopped: true, Error: "stopped at 3"}
	require.Equal(t, []string{"topic a: stopped 2 partitions; partition 0: stopped at 3", "topic a, partition 2: no"}, kafkaProblems(partitions(stopped, stopped, failed)))

	many := missing
	for range 999 {
		many.Topics = append(many.Topics, missing.Topics[0])
	}
	reasons := kafkaProblems(many)
	require.Len(t, reasons, topicsNamed+1)
	require.Equal(t, "990 more topics have problems: see kafka.topics in /health", reasons[topicsNamed])
}
