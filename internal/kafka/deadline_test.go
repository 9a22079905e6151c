package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// A short exchange behind a long one does not get the long one's time, and many alike share a deadline.
func TestDeadlineFits(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	defer c.Close()
	k, err := (&Dialer{DialTimeout: time.Minute, RequestTimeout: time.Minute, ResponseMax: 1 << 20}).Dial(t.Context(), c.ListenAddrs()[0])
	require.NoError(t, err)
	defer k.Close()
	for _, wait := range []time.Duration{time.Minute, 0, 10 * time.Second, time.Hour, 0} {
		require.NoError(t, k.allow(wait))
		left := time.Until(k.deadline)
		require.GreaterOrEqual(t, left, wait+55*time.Second)
		require.LessOrEqual(t, left, wait+75*time.Second)
		before := k.deadline
		require.NoError(t, k.allow(wait))
		require.Equal(t, before, k.deadline)
	}
}
