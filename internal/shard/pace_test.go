package shard

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A backlog of many times the outbound limit reaches every client that reads, however fast it is published.
func TestPace(t *testing.T) {
	const clients, batches = 12, 120
	value := strings.Repeat("v", 32<<10)
	r := newRigStalling(t, waitMax, func(o *Options) { o.Limits.OutboundMax = 256 << 10 })
	var running sync.WaitGroup
	for range clients {
		c := r.dial("/ws?channel=a")
		running.Go(func() {
			for n := range batches {
				event, got, err := c.next()
				if err != nil || event != wire.EventText || got != fmt.Sprint(n)+value {
					t.Errorf("message %d: event %v, %d bytes, error %v", n, event, len(got), err)
					return
				}
			}
		})
	}
	for n := range batches {
		r.publish("a", fmt.Sprint(n)+value)
	}
	running.Wait()
	require.Zero(t, r.shard.Stats().SlowClosed.Load())
	require.Positive(t, r.shard.Stats().Paced.Load())
}

// Clients that do not read at all are closed as slow, also when they are all there are, and the bus is not held up for long.
func TestPaceStopped(t *testing.T) {
	r := newRigStalling(t, waitMax, func(o *Options) {
		o.Limits.OutboundMax, o.Limits.CloseGrace = 128<<10, 200*time.Millisecond
	})
	for range 3 {
		require.NoError(t, r.dial("/ws?channel=a").conn.(*net.TCPConn).SetReadBuffer(4096))
	}
	value := strings.Repeat("v", 16<<10)
	for n := 0; r.shard.Stats().SlowClosed.Load() < 3; n++ {
		require.Less(t, n, 10_000)
		r.publish("a", value)
	}
}
