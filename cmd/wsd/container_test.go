package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"wsd/internal/command"
)

const memoryRoot = "/sys/fs/cgroup/memory"

// memoryCgroup makes a cgroup of version 1 with a limit, and skips the test where it cannot.
func memoryCgroup(t *testing.T, limit int) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a cgroup")
	}
	if _, err := os.Stat(filepath.Join(memoryRoot, "memory.limit_in_bytes")); err != nil {
		t.Skip("needs the memory controller of cgroup v1: ", err)
	}
	dir, err := os.MkdirTemp(memoryRoot, "wsd-test") //nolint:usetesting // It is a cgroup.
	if err != nil {
		t.Skip("cannot make a cgroup: ", err)
	}
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return os.Remove(dir) == nil }, waitMax, 10*time.Millisecond, "the cgroup is empty")
	})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte(strconv.Itoa(limit)), 0o600))
	return dir
}

// figure reads a figure of a cgroup.
func figure(t *testing.T, dir, name string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	require.NoError(t, err)
	return n
}

// wsdBinary builds the program that the container runs, as make build does: the test's own binary takes more memory.
func wsdBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wsd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// A container of 64 MiB with 3,000 clients that ask for history, subscribe and never read: wsd is not killed, the client
// that reads misses nothing, and wsd stops in order.
func TestSmallContainer(t *testing.T) {
	const clients, limit, records, valueBytes = 3000, 64 << 20, 400, 1 << 10
	dir := memoryCgroup(t, limit)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic("a"))
	require.NoError(t, err)
	t.Cleanup(producer.Close)
	pad := strings.Repeat("x", valueBytes)
	produce := func(n int) {
		require.NoError(t, producer.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprintf(`{"n":%d,"pad":%q}`, n, pad))).FirstErr())
	}
	for n := range records / 4 {
		produce(-n)
	}

	port := freePort(t)
	socket := filepath.Join(t.TempDir(), "wsd.sock")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, dir, wsdBinary(t), "serve",
		"--client.listen", fmt.Sprintf("127.0.0.1:%d", port), "--admin.listen=", "--control.socket", socket, "--kafka.topics", "a", "--kafka.brokers",
		strings.Join(cluster.ListenAddrs(), ","), "--steering.mode", "off", "--client.defer-accept=false", "--log.format", "json")
	var log bytes.Buffer
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	go func() {
		ended <- cmd.Wait()
		close(ended)
	}()
	defer func() { // Killed, unless it has ended.
		cancel()
		for range ended { // Its error says that it was killed.
		}
	}()
	require.Eventually(t, func() bool {
		code, _, _ := call("health", "--control.socket", socket)
		return code == command.OK || len(ended) > 0
	}, waitMax, 20*time.Millisecond)
	require.Empty(t, ended, "wsd does not start: %s", &log)
	url := fmt.Sprintf("ws://127.0.0.1:%d/connection/websocket", port)

	reader, _, _, err := ws.Dial(t.Context(), url)
	require.NoError(t, err)
	defer reader.Close()
	require.NoError(t, wsutil.WriteClientText(reader, []byte(`{"id":1,"connect":{}}`+"\n"+`{"id":2,"subscribe":{"channel":"a"}}`)))
	got := make(chan int, records)
	subscribed := make(chan struct{})
	go readNumbers(reader, subscribed, got)
	<-subscribed

	stalled := stall(t, url, clients)
	for n := range records {
		produce(n + 1)
	}
	for n := range records {
		select {
		case number := <-got:
			require.Equal(t, n+1, number)
		case err := <-ended:
			require.NoError(t, err, "wsd ended: %s", &log)
			return
		case <-time.After(waitMax):
			require.Fail(t, "the client that reads is not served", "record %d, memory %d", n+1, figure(t, dir, "memory.usage_in_bytes"))
		}
	}
	_, health, _ := call("health", "--control.socket", socket)
	t.Logf("of %d clients %d could connect; memory at most %d of %d bytes, limit reached %d times; TCP %d bytes", clients, stalled,
		figure(t, dir, "memory.max_usage_in_bytes"), limit, figure(t, dir, "memory.failcnt"), figure(t, dir, "memory.kmem.tcp.usage_in_bytes"))
	t.Log(health)
	require.Contains(t, health, "connections")
	require.Empty(t, ended, "wsd has ended: %s", &log)
	require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
	require.NoError(t, <-ended, "it stops in order")
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// readNumbers reads the client protocol, answers pings, and passes on the number of each publication.
func readNumbers(conn net.Conn, subscribed chan<- struct{}, got chan<- int) {
	for {
		message, _, err := wsutil.ReadServerData(conn)
		if err != nil {
			return
		}
		for line := range bytes.Lines(message) {
			var push struct {
				ID   int
				Push struct {
					Pub struct{ Data struct{ N int } }
				}
			}
			switch err := json.Unmarshal(line, &push); {
			case err != nil:
				return
			case push.ID == 2:
				close(subscribed)
			case push.Push.Pub.Data.N > 0:
				got <- push.Push.Pub.Data.N
			case push.ID == 0:
				_ = wsutil.WriteClientText(conn, []byte("{}"))
			}
		}
	}
}

// stall connects clients that subscribe, ask for history over and over, and never read what comes. It returns how many
// were let in.
func stall(t *testing.T, url string, clients int) (connected int) {
	t.Helper()
	var mu sync.Mutex
	var running sync.WaitGroup
	next := make(chan struct{})
	for range 16 {
		running.Go(func() {
			for range next {
				dialer := ws.Dialer{Timeout: waitMax}
				conn, _, _, err := dialer.Dial(context.Background(), url)
				if err != nil {
					continue // Refused, for want of memory.
				}
				t.Cleanup(func() { conn.Close() })
				// The server may close it, which is what the test is about.
				_ = wsutil.WriteClientText(conn, []byte(`{"id":1,"connect":{}}`+"\n"+`{"id":2,"subscribe":{"channel":"a"}}`))
				for id := range 8 {
					_ = wsutil.WriteClientText(conn, fmt.Appendf(nil, `{"id":%d,"history":{"channel":"a","limit":100}}`, id+3))
				}
				mu.Lock()
				connected++
				mu.Unlock()
			}
		})
	}
	for range clients {
		next <- struct{}{}
	}
	close(next)
	running.Wait()
	return connected
}
