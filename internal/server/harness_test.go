package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"wsd/internal/config"
	"wsd/internal/testutil"
)

const waitMax = 30 * time.Second

func TestMain(m *testing.M) {
	if mode, isChild := os.LookupEnv(crashVariable); isChild {
		serveToCrash(mode)
		return
	}
	goleak.VerifyTestMain(m)
}

// rig is a whole wsd beside a Kafka of its own.
type rig struct {
	t        testing.TB
	kafka    *kfake.Cluster
	producer *kgo.Client
	server   *Server
	log      *testutil.Buffer
	stop     func() error
	hooks    hooks
}

// configure returns a valid configuration of small waits, as flags would give it.
func configure(t testing.TB, flags map[string]any) *config.Config {
	t.Helper()
	all := map[string]any{
		"client.listen": []string{"127.0.0.1:0"}, "admin.listen": "127.0.0.1:0", "control.socket": filepath.Join(t.TempDir(), "wsd.sock"),
		"shards": "3", "kafka.topics": []string{"a"}, "steering.mode": "off", "kafka.metadata_interval": "100ms", "client.listen_wait": "100ms", "shutdown.drain": "4s",
		"debug.shard_header": true, "kafka.start": "earliest",
		// The process of a test is also that of its clients and of Kafka: what CPU time it uses says nothing of wsd.
		"admission.mode": "off",
	}
	for k, v := range flags {
		all[k] = v
	}
	in := config.Input{Flags: all}
	if text, ok := all["file"].(string); ok { // What only a file can say.
		delete(all, "file")
		in.File = filepath.Join(t.TempDir(), "wsd.yaml")
		require.NoError(t, os.WriteFile(in.File, []byte(text), 0o600))
	}
	loaded, err := config.Load(in)
	require.NoError(t, err)
	return &loaded.Config
}

func newRig(t testing.TB, flags map[string]any, kafka ...kfake.Opt) *rig {
	t.Helper()
	return newRigWith(t, hooks{}, flags, kafka...)
}

func newRigWith(t testing.TB, h hooks, flags map[string]any, kafka ...kfake.Opt) *rig {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "a")}, kafka...)...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(producer.Close)
	if flags == nil {
		flags = map[string]any{}
	}
	if flags["kafka.brokers"] == nil {
		flags["kafka.brokers"] = cluster.ListenAddrs()
	}
	r := &rig{t: t, kafka: cluster, producer: producer, log: &testutil.Buffer{}, hooks: h}
	r.start(configure(t, flags))
	return r
}

func (r *rig) start(cfg *config.Config) {
	r.t.Helper()
	o := &slog.HandlerOptions{}
	if cfg.Log.Level == "debug" {
		o.Level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(io.MultiWriter(r.log, testWriter{r.t}), o))
	var err error
	r.server, err = newServer(cfg, Build{Version: "v0", Commit: "c0"}, logger, r.hooks)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Run(ctx, nil) }()
	var once sync.Once
	r.stop = func() (err error) {
		once.Do(func() {
			cancel()
			err = <-done
		})
		return err
	}
	r.t.Cleanup(func() { _ = r.stop() })
	r.eventually("serving", func() bool { return strings.Contains(r.log.String(), "msg=serving") })
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Fprintf(os.Stderr, "%s", p)
	}
	return len(p), nil
}

func (r *rig) eventually(what string, cond func() bool) {
	r.t.Helper()
	require.Eventually(r.t, cond, waitMax, 2*time.Millisecond, what)
}

func (r *rig) ready() {
	r.t.Helper()
	r.eventually("ready", func() bool { ok, _ := r.server.Ready(); return ok })
}

func (r *rig) produce(topic, key string, values ...string) {
	r.t.Helper()
	for _, v := range values {
		record := &kgo.Record{Topic: topic, Value: []byte(v)}
		if key != "" {
			record.Key = []byte(key)
		}
		require.NoError(r.t, r.producer.ProduceSync(r.t.Context(), record).FirstErr())
	}
}

// get asks the admin port.
func (r *rig) get(path string) (code int, body string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.server.AdminAddress()+path, nil)
	require.NoError(r.t, err)
	resp, err := new(http.Transport).RoundTrip(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp.StatusCode, string(b)
}

// client is one WebSocket connection.
type client struct {
	t     testing.TB
	conn  net.Conn
	rw    io.ReadWriter
	shard string   // From the debug header.
	queue []string // Lines of a protocol message that next has not returned yet.
}

func (r *rig) dial(path string) *client {
	r.t.Helper()
	return r.dialFrom("", path)
}

// dialFrom is dial from an address of this machine; "" leaves it to the kernel.
func (r *rig) dialFrom(address, path string) *client {
	r.t.Helper()
	c := &client{t: r.t}
	from := net.Dialer{Timeout: waitMax}
	if address != "" {
		from.LocalAddr = &net.TCPAddr{IP: net.ParseIP(address)}
		// Else bind takes a port that no connection at all uses, TIME_WAIT included, and a machine runs out of them.
		from.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			}), err)
		}
	}
	d := ws.Dialer{NetDial: from.DialContext, Timeout: waitMax, OnHeader: func(key, value []byte) error {
		if strings.EqualFold(string(key), "X-Wsd-Shard") {
			c.shard = string(value)
		}
		return nil
	}}
	conn, br, _, err := d.Dial(r.t.Context(), "ws://"+r.server.Addresses()[0].String()+path)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	c.conn, c.rw = conn, conn
	if br != nil {
		c.rw = struct {
			io.Reader
			io.Writer
		}{br, conn}
	}
	return c
}

// raw returns the next WebSocket message; pings are answered. After a close frame the socket is closed, as clients do.
func (c *client) raw() (string, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(waitMax)); err != nil {
		return "", err
	}
	b, _, err := wsutil.ReadServerData(c.rw)
	if err != nil {
		c.conn.Close()
	}
	return string(b), err
}

func (c *client) message() string {
	c.t.Helper()
	m, err := c.raw()
	require.NoError(c.t, err)
	return m
}

// join connects by the client protocol and subscribes.
func (r *rig) join(channels ...string) *client {
	r.t.Helper()
	return r.joinFrom("", channels...)
}

func (r *rig) joinFrom(address string, channels ...string) *client {
	r.t.Helper()
	c := r.dialFrom(address, "/connection/websocket")
	c.send(`{"id":1,"connect":{}}`)
	require.Contains(r.t, c.reply(), `"connect":{"client":`)
	for i, channel := range channels {
		c.send(fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q}}`, i+2, channel))
		require.Contains(r.t, c.reply(), `"subscribe":{`)
	}
	return c
}

func (c *client) send(command string) {
	c.t.Helper()
	require.NoError(c.t, wsutil.WriteClientText(c.conn, []byte(command)))
}

// reply returns the next protocol message that is no ping.
func (c *client) reply() string {
	c.t.Helper()
	for {
		for len(c.queue) == 0 {
			c.queue = strings.Split(strings.TrimSpace(c.message()), "\n")
		}
		line := c.queue[0]
		c.queue = c.queue[1:]
		if line != "{}" {
			return line
		}
		c.send("{}")
	}
}

// publication is what a push carries.
type publication struct {
	Push struct {
		Channel string
		Pub     struct {
			Data   json.RawMessage
			Offset uint64
		}
	}
}

func (c *client) publication() publication {
	c.t.Helper()
	var p publication
	line := c.reply()
	require.NoError(c.t, json.Unmarshal([]byte(line), &p), line)
	return p
}
