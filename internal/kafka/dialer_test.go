package kafka

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// A broker that accepts connections and never answers does not keep the next one waiting until it times out.
func TestDialFirstPassesAFrozenBroker(t *testing.T) {
	frozen, err := net.Listen("tcp", "127.0.0.1:0") // The kernel accepts.
	require.NoError(t, err)
	defer frozen.Close()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	defer c.Close()
	d := &Dialer{DialTimeout: time.Hour, RequestTimeout: time.Minute, ResponseMax: 1 << 20}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	k, err := d.DialFirst(ctx, []string{frozen.Addr().String(), c.ListenAddrs()[0], frozen.Addr().String()})
	require.NoError(t, err)
	require.Equal(t, c.ListenAddrs()[0], k.Dialled())
	k.Close()

	// All that fail are named, also when the caller gives up meanwhile.
	_, err = d.DialFirst(ctx, []string{"127.0.0.1:1", "no-such-host.invalid:1"})
	require.ErrorContains(t, err, "refused")
	require.ErrorContains(t, err, "no-such-host.invalid")
	ended, end := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, end)
	_, err = d.DialFirst(ended, []string{frozen.Addr().String()})
	require.ErrorIs(t, err, context.Canceled)
}
