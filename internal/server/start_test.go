package server

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A client that comes before Kafka has answered waits, and can then recover at once.
func TestClientsWaitForKafka(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	held, release := make(chan struct{}), make(chan struct{})
	first := true
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		if first {
			first = false
			close(held)
			cluster.SleepControl(func() { <-release })
		}
		return nil, nil, false
	})
	r := &rig{t: t, kafka: cluster, log: &lockedBuffer{}}
	cfg := configure(t, map[string]any{"kafka.brokers": cluster.ListenAddrs(), "client.listen_wait": "60s"})
	r.server, err = newServer(cfg, Build{}, slog.New(slog.NewTextHandler(io.MultiWriter(r.log, testWriter{t}), nil)), hooks{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.server.Run(ctx, nil) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	<-held
	replied := make(chan string, 1)
	go func() {
		c := r.dial("/connection/websocket")
		c.send(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"a","recover":true}}`)
		c.reply()
		replied <- c.reply()
	}()
	r.eventually("waiting in the kernel", func() bool { return !strings.Contains(r.log.String(), "msg=serving") })
	require.Zero(t, r.server.Health().Connections)
	close(release)
	reply := <-replied
	require.Contains(t, reply, `"subscribe":{`)
	require.NotContains(t, reply, "108")
}

// Without Kafka clients are accepted after client.listen_wait, and a stop does not wait for it.
func TestListenWaitEnds(t *testing.T) {
	r := newRig(t, map[string]any{"kafka.brokers": []string{"127.0.0.1:1"}, "client.listen_wait": "1ms"})
	require.Contains(t, r.log.String(), "Kafka's positions are not known yet")
	r.dial("/ws?channel=a")
	require.NoError(t, r.stop())

	cfg := configure(t, map[string]any{"kafka.brokers": []string{"127.0.0.1:1"}, "client.listen_wait": "10m"})
	s, err := newServer(cfg, Build{}, slog.New(slog.DiscardHandler), hooks{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Run(ctx, nil))
}

func TestUnknownChannels(t *testing.T) {
	flags := map[string]any{"client.unknown_channels": "refuse"}
	r := newRig(t, flags)
	r.dial("/ws?channel=a")
	require.True(t, r.server.canFeed("a"))
	require.False(t, r.server.canFeed("b"))
	require.Nil(t, newRig(t, nil).server.canFeed)
}
