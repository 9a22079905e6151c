package source

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker that holds wsd back by quotas is named, whatever was asked, and what it has to say is not lost.
func TestThrottledIsNamed(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	var asked atomic.Int64
	c.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		if asked.Add(1) > 1 {
			return nil, nil, false
		}
		resp := kreq.ResponseKind().(*kmsg.ListOffsetsResponse)
		resp.ThrottleMillis = 20 // Without an offset, so the source asks again.
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}}, "a")
	produce(t, mustClient(t, c.ListenAddrs()), "a", 0, "1")
	r.wantValues(t, "a", []string{"1"})
	require.Equal(t, []ThrottleStatus{{c.ListenAddrs()[0], 20 * time.Millisecond}}, r.Status().Throttled)
	require.EqualValues(t, 20*time.Millisecond, r.Stats().Throttled.Load())

	require.Len(t, r.throttles.status(time.Now()), 1)
	require.Empty(t, r.throttles.status(time.Now().Add(throttleShown+time.Second)), "some time after the pause")
	r.throttles.byAddr["gone"] = pauseOf{1, time.Now().Add(-throttleShown - time.Second)}
	r.throttled("other", time.Second)
	require.NotContains(t, r.throttles.byAddr, "gone")
}

// A broker that asks for a pause is not overdue while wsd keeps it.
func TestThrottledIsNotOverdue(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		resp := kreq.ResponseKind().(*kmsg.FetchResponse)
		resp.ThrottleMillis = int32(time.Hour.Milliseconds())
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
	eventually(t, func() bool { return len(r.Status().Throttled) > 0 }, r.logs.String)
	fetchers := func() []*fetcher { r.view.mu.Lock(); defer r.view.mu.Unlock(); return r.view.fetchers }
	eventually(t, func() bool {
		return time.Until(fetchers()[0].askedAt.Get()) > time.Minute
	}, func() string { return "the wait does not count" })
}
