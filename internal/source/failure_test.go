package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// load produces numbered values to each partition of a topic, one after the other, until stopped.
type load struct {
	t      testing.TB
	topic  string
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	sent   []atomic.Int64
}

func startLoad(t testing.TB, brokers []string, topic string, partitions int) *load {
	l := &load{t: t, topic: topic, sent: make([]atomic.Int64, partitions)}
	l.ctx, l.cancel = context.WithTimeout(context.Background(), 3*waitMax) // What it is a load for has waits of its own.
	cl := mustClient(t, brokers, kgo.RecordDeliveryTimeout(waitMax))
	for p := range partitions {
		l.done.Add(1)
		go func() {
			defer l.done.Done()
			for n := int64(0); l.ctx.Err() == nil; n++ {
				rec := &kgo.Record{Topic: topic, Partition: int32(p), Value: fmt.Appendf(nil, `{"n":%d}`, n)}
				// Not cancelled by stop: whether a cancelled record was written would be unknown.
				ctx, cancel := context.WithTimeout(context.Background(), waitMax)
				err := cl.ProduceSync(ctx, rec).FirstErr()
				cancel()
				if err != nil {
					t.Errorf("produce: %v", err)
					return
				}
				l.sent[p].Add(1)
				time.Sleep(time.Millisecond) // Paces the load; nothing waits for it.
			}
		}()
	}
	t.Cleanup(func() { l.cancel(); l.done.Wait() })
	return l
}

// more waits until n more records have been acknowledged on every partition.
func (l *load) more(n int64) {
	l.t.Helper()
	for p := range l.sent {
		from := l.sent[p].Load()
		eventually(l.t, func() bool { return l.sent[p].Load() >= from+n }, func() string { return "the producer does not go on" })
	}
}

// check stops the load and wants every record on the channels prefix0, prefix1, … exactly once and in order.
func (l *load) check(r *rig, prefix string) {
	l.t.Helper()
	l.cancel()
	l.done.Wait()
	for p := range l.sent {
		r.wantValues(l.t, prefix+strconv.Itoa(p), numbered(0, int(l.sent[p].Load())))
	}
}

func TestDroppedConnectionsLoseNothing(t *testing.T) {
	var mu sync.Mutex
	var conns []net.Conn
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "a"), kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		ln, err := net.Listen(network, addr)
		return &countingListener{ln, func(c net.Conn) { mu.Lock(); conns = append(conns, c); mu.Unlock() }}, err
	}))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{topic}{partition}"}}}, "a0", "a1")
	l := startLoad(t, c.ListenAddrs(), "a", 2)
	for range 8 {
		l.more(15)
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		conns = nil
		mu.Unlock()
	}
	l.more(15)
	l.check(r, "a")
	require.NotZero(t, r.Stats().Reconnects.Load())
	require.Zero(t, r.topic(0).Gaps.Load()+lost(r.topic(0)))
	eventually(t, func() bool {
		for _, b := range r.Status().Brokers {
			if !b.Connected || b.Error != "" {
				return false
			}
		}
		return true
	}, func() string { return fmt.Sprintf("%+v", r.Status().Brokers) })
}

type countingListener struct {
	net.Listener
	accepted func(net.Conn)
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted(c)
	}
	return c, err
}

// Errors that a broker may answer for one partition stop only it, and only for the time they last.
func TestFetchErrorsOfOnePartition(t *testing.T) {
	for _, e := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.KafkaStorageError, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch,
		kerr.UnknownServerError, kerr.CorruptMessage, kerr.TopicAuthorizationFailed, kerr.OffsetOutOfRange, kerr.ReplicaNotAvailable,
	} {
		t.Run(e.Message, func(t *testing.T) {
			c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a"))
			cl := mustClient(t, c.ListenAddrs())
			var failing atomic.Bool
			failing.Store(true)
			c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				req := kreq.(*kmsg.FetchRequest)
				if !failing.Load() {
					return nil, nil, false
				}
				for _, rt := range req.Topics {
					for _, rp := range rt.Partitions {
						if rp.Partition != 1 {
							continue
						}
						resp := req.ResponseKind().(*kmsg.FetchResponse)
						st := kmsg.NewFetchResponseTopic()
						st.TopicID = rt.TopicID
						sp := kmsg.NewFetchResponseTopicPartition()
						sp.Partition, sp.ErrorCode, sp.RecordBatches = 1, e.Code, []byte{}
						st.Partitions = append(st.Partitions, sp)
						resp.Topics = append(resp.Topics, st)
						return resp, nil, true
					}
				}
				return nil, nil, false
			})
			r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{partition}"}}}, "0", "1")
			produce(t, cl, "a", 0, "1", "2")
			produce(t, cl, "a", 1, "1", "2")
			r.wantValues(t, "0", []string{"1", "2"})
			eventually(t, func() bool { return r.Stats().FetchErrors[kafka.KindOf(kafka.Code(e.Code))].Load() > 5 }, func() string { return "the error is not counted" })
			require.Contains(t, r.Status().Topics[0].Partitions[1].Error, "["+strconv.Itoa(int(e.Code))+"]")
			require.Empty(t, r.records("1"))
			require.LessOrEqual(t, r.logs.count("does not go on"), 1)
			failing.Store(false)
			r.wantValues(t, "1", []string{"1", "2"})
			eventually(t, func() bool { return r.Status().Topics[0].Partitions[1].Error == "" }, func() string { return "the error stays in the status" })
			require.Zero(t, lost(r.topic(0))+r.topic(0).Truncations.Load())
		})
	}
}

func TestUnknownHostAndRefusedAreClear(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	refused := ln.Addr().String()
	require.NoError(t, ln.Close())
	r := startRig(t, Options{Brokers: []string{"no-such-host.invalid:9092", refused}, Topics: []string{"a"}})
	eventually(t, func() bool { return r.Stats().MetadataErrors.Load() > 5 }, func() string { return "no errors counted" })
	st := r.Status()
	require.False(t, st.Ready)
	require.Contains(t, st.Error, "no-such-host.invalid")
	require.Contains(t, st.Error, "connection refused")
	require.Equal(t, 1, r.logs.count("cannot be read"), r.logs.String())
	require.Contains(t, r.logs.String(), "it is one of kafka.brokers, or what a broker announces")
	_, _, ok := r.Position("a")
	require.False(t, ok)
}

// A broker that accepts and then says nothing must not hold the source for ever.
func TestSilentBrokerTimesOut(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	r := startRig(t, Options{Brokers: []string{ln.Addr().String()}, Topics: []string{"a"}, DialTimeout: 50 * time.Millisecond, RequestTimeout: time.Hour})
	eventually(t, func() bool { return r.Stats().MetadataErrors.Load() > 1 }, func() string { return "no timeout" })
	require.Contains(t, r.Status().Error, "timeout")
}

// Something else than Kafka on the port is said so.
func TestNotKafka(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	}()
	r := startRig(t, Options{Brokers: []string{ln.Addr().String()}, Topics: []string{"a"}})
	eventually(t, func() bool { return r.Status().Error != "" }, func() string { return "no error" })
	require.Contains(t, r.Status().Error, "versions")
}

// The watchdog drops a connection on which records do not come although they are there.
func TestStallReconnects(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	produce(t, cl, "a", 0, "1", "2")
	var withhold atomic.Bool
	withhold.Store(true)
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		if !withhold.Load() || len(req.Topics) == 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		st := kmsg.NewFetchResponseTopic()
		st.TopicID = req.Topics[0].TopicID
		sp := kmsg.NewFetchResponseTopicPartition()
		sp.HighWatermark, sp.LastStableOffset, sp.RecordBatches = 2, 2, []byte{}
		st.Partitions = append(st.Partitions, sp)
		resp.Topics = append(resp.Topics, st)
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, StallAfter: 50 * time.Millisecond}, "a")
	eventually(t, func() bool { return r.Stats().Stalls.Load() > 1 }, func() string { return "the watchdog did not bite" })
	require.Contains(t, r.logs.String(), "has had records for too long")
	withhold.Store(false)
	r.wantValues(t, "a", []string{"1", "2"})
}
