package server

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/admin"
	"wsd/internal/epoll"
)

// reason returns the reason of /health that holds part, or "".
func (r *rig) reason(part string) string {
	h := r.server.Health()
	for _, reason := range h.Reasons {
		if strings.Contains(reason, part) {
			require.NotEqual(r.t, admin.StatusOK, h.Status)
			return reason
		}
	}
	return ""
}

// later asks as if so much time had passed.
func (r *rig) later(d time.Duration) []string {
	return r.server.lateProblems(epoll.Monotonic() + uint64(d))
}

func TestHealthNamesLongTurns(t *testing.T) {
	s := newStalling(t, "off")
	s.ready()
	s.stall()
	s.eventually("named while it runs", func() bool { return s.reason("in one loop turn for") != "" })
	require.Contains(t, s.reason("in one loop turn for"), "shard")
	s.release()
	s.eventually("named when it has ended", func() bool { return s.reason("longer than steering.stall_bound") != "" })
	s.eventually("it has ended", func() bool { return s.reason("in one loop turn for") == "" })
	require.Empty(t, s.later(2*lateWindow), "only the last seconds count")
}

func TestHealthNamesLateDeliveries(t *testing.T) {
	s := &stalling{open: make(chan struct{})}
	s.rig = newRigWith(t, hooks{positions: gated(s.open)}, map[string]any{
		"shards": "1", "health.delivery_max": "200ms", "bus.stall_max": "20s", "steering.stall_bound": "0s",
	})
	t.Cleanup(s.release)
	s.ready()
	c := s.join("a")
	s.produce("a", "", `{"n":1}`)
	require.Equal(t, "a", c.publication().Push.Channel)
	c.send(`{"id":9,"subscribe":{"channel":"stall"}}`)
	busy := func() time.Duration {
		since := s.server.steering.Slot(0).BusySince()
		return time.Duration(epoll.Monotonic() - min(since, epoll.Monotonic()))
	}
	s.eventually("stalled", func() bool { return s.server.steering.Slot(0).BusySince() != 0 && busy() > 20*time.Millisecond })
	s.produce("a", "", `{"n":2}`)
	published := s.server.ring.Stats().Batches.Load()
	s.eventually("waits for long", func() bool { return published >= 1 && busy() > time.Second })
	// Nothing has been delivered late yet, and there is no stall_bound.
	require.Contains(t, s.reason("shard 0 is in one loop turn for"), "its clients get nothing meanwhile")
	s.release()
	s.eventually("named", func() bool { return s.reason("deliveries are late") != "" })
	require.Contains(t, s.reason("deliveries are late"), "longer than health.delivery_max (200ms)")
	require.Empty(t, s.later(2*lateWindow))
}

// A backlog is not wsd's delay, and is named as what it is.
func TestHealthNamesBacklog(t *testing.T) {
	r := newRig(t, map[string]any{"shards": "1", "steering.stall_bound": "0s"})
	r.ready()
	c := r.join("a")
	record := &kgo.Record{Topic: "a", Value: []byte(`{"n":1}`), Timestamp: time.Now().Add(-time.Hour)}
	require.NoError(t, r.producer.ProduceSync(t.Context(), record).FirstErr())
	require.Equal(t, "a", c.publication().Push.Channel)
	r.eventually("named", func() bool { return r.reason("deliveries are behind") != "" })
	require.Contains(t, r.reason("deliveries are behind"), "produced up to 1h0m0")
	require.Empty(t, r.later(2*lateWindow))
}
