package kafka

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// throttling returns a connection to a broker that asks for a pause in one response.
func throttling(t *testing.T, ctx context.Context, pause time.Duration, noted func(string, time.Duration)) *Conn { //nolint:revive // The test's own context.
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	c.ControlKey(int16(kmsg.Metadata), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		resp := kreq.ResponseKind().(*kmsg.MetadataResponse)
		resp.ThrottleMillis = int32(pause.Milliseconds())
		return resp, nil, true
	})
	d := Dialer{DialTimeout: time.Minute, RequestTimeout: time.Minute, ResponseMax: 1 << 20, OnThrottle: noted}
	conn, err := d.Dial(ctx, c.ListenAddrs()[0])
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

func askMetadata(c *Conn) error {
	req := kmsg.NewMetadataRequest()
	req.Version, req.Topics = 9, []kmsg.MetadataRequestTopic{}
	var resp kmsg.MetadataResponse
	_, err := c.Request(&req, &resp, 0)
	return err
}

// A broker that asks for a pause is not asked again before its end.
func TestThrottle(t *testing.T) {
	var noted atomic.Int64
	c := throttling(t, t.Context(), 300*time.Millisecond, func(addr string, d time.Duration) {
		require.NotEmpty(t, addr)
		noted.Store(int64(d))
	})
	require.Zero(t, c.Throttled())
	require.NoError(t, askMetadata(c))
	require.Equal(t, 300*time.Millisecond, time.Duration(noted.Load()))
	until := c.throttledUntil
	require.False(t, until.IsZero())
	require.NoError(t, askMetadata(c))
	require.False(t, time.Now().Before(until), "asked before the end of the pause")
	require.Zero(t, c.Throttled())
}

// The end of the connection ends the wait.
func TestThrottleEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	for name, end := range map[string]func(*Conn){"closed": (*Conn).Close, "context": func(*Conn) { cancel() }} {
		dialled := t.Context()
		if name == "context" {
			dialled = ctx
		}
		c := throttling(t, dialled, time.Hour, nil)
		require.NoError(t, askMetadata(c))
		require.Positive(t, c.Throttled())
		require.LessOrEqual(t, c.Throttled(), throttleMax)
		failed := make(chan error)
		go func() { failed <- askMetadata(c) }()
		end(c)
		require.ErrorIs(t, <-failed, net.ErrClosed, name)
	}
	cancel()
}
