package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"

	"wsd/internal/testutil"
)

// A client that comes before Kafka has answered waits, and can then recover at once.
func TestClientsWaitForKafka(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	held, release := make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() { close(held) })
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		hold()
		cluster.SleepControl(func() { <-release })
		return nil, nil, false
	})
	r := &rig{t: t, kafka: cluster, log: &testutil.Buffer{}}
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
	require.NotContains(t, r.log.String(), "msg=serving")
	require.Zero(t, r.server.Health().Connections)
	close(release)
	reply := <-replied
	require.Contains(t, reply, `"subscribe":{`)
	require.NotContains(t, reply, "108")
}

// Without Kafka clients are accepted after client.listen_wait, and a stop does not wait for it.
func TestListenWaitEnds(t *testing.T) {
	r := newRig(t, map[string]any{"kafka.brokers": []string{"127.0.0.1:1"}, "client.listen_wait": "1ms"})
	require.Contains(t, r.log.String(), "accepting clients although Kafka's positions are not known yet")
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

// If the admin port is in use, nothing else is blamed.
func TestAdminPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	log := &testutil.Buffer{}
	cfg := configure(t, map[string]any{"admin.listen": l.Addr().String(), "shards": "4"})
	_, err = newServer(cfg, Build{}, slog.New(slog.NewTextHandler(log, nil)), hooks{})
	require.ErrorContains(t, err, "address already in use")
	require.NotContains(t, log.String(), "level=WARN")
}

// With few open files, the log says at the start how many clients they allow.
func TestFewFiles(t *testing.T) {
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	t.Cleanup(func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) })
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1000, Max: before.Max}))
	r := newRig(t, map[string]any{"limits.connections": "1000"})
	require.Contains(t, r.log.String(), "limits.connections has no effect: file descriptors allow fewer")
	require.Contains(t, r.log.String(), "few open files are allowed, and so few clients")
	require.Contains(t, r.log.String(), fmt.Sprintf("nofile=1000 connections_max=%d", r.server.descriptors.Max))
}
