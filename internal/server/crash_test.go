package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sys/unix"

	"wsd/internal/config"
	"wsd/internal/shard"
)

// crashVariable in the environment makes the test's binary a wsd whose shard panics when a client subscribes to
// "panic". Its value is how.
const crashVariable = "WSD_TEST_CRASH"

// bomb is a hook that panics in the shard's goroutine.
type bomb struct{ shard.Positions }

// bombText is longer than what is logged of it.
var bombText = "BUG: the test's " + strings.Repeat("x", 300)

func (b bomb) Position(channel string) (offset uint64, epoch string, ok bool) {
	if channel == "panic" {
		panic(bombText)
	}
	return b.Positions.Position(channel)
}

// serveToCrash serves until its shard panics. It prints the address for clients. With mode "unread", nobody reads its
// standard error, which is a full pipe by then.
func serveToCrash(mode string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(9)
		}
	}
	dir, err := os.MkdirTemp("", "wsd")
	fail(err)
	loaded, err := config.Load(config.Input{Flags: map[string]any{
		"client.listen": []string{"127.0.0.1:0"}, "admin.listen": "", "control.socket": filepath.Join(dir, "s"), "shards": "2",
		"kafka.brokers": []string{os.Getenv("BROKER")}, "kafka.topics": []string{"a"}, "steering.mode": "off",
	}})
	fail(err)
	var handler slog.Handler = slog.NewJSONHandler(os.Stderr, nil)
	if mode == "later" {
		lines := new(bytes.Buffer)
		handler = laterHandler{slog.NewJSONHandler(lines, nil), lines}
	}
	s, err := newServer(&loaded.Config, Build{}, slog.New(handler),
		hooks{positions: func(p shard.Positions) shard.Positions { return bomb{p} }})
	fail(err)
	fail(s.Run(context.Background(), func() {
		if mode == "unread" {
			fail(unix.SetNonblock(2, true))
			for err := error(nil); err == nil; {
				_, err = unix.Write(2, make([]byte, 1))
			}
			fail(unix.SetNonblock(2, false))
		}
		fmt.Println(s.Addresses()[0])
	}))
}

// laterHandler writes to standard error when it is flushed.
type laterHandler struct {
	slog.Handler
	lines *bytes.Buffer
}

func (h laterHandler) Flush() { _, _ = os.Stderr.Write(h.lines.Bytes()) }

// crash starts such a wsd, lets clients join, and one of them let it panic. It returns the log, and how long the process
// took to end.
func crash(t *testing.T, mode string) (log string, took time.Duration) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashVariable+"="+mode, "BROKER="+cluster.ListenAddrs()[0])
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd.Stderr = w
	var stderr bytes.Buffer
	read := make(chan struct{})
	if mode != "unread" {
		go func() {
			defer close(read)
			_, _ = stderr.ReadFrom(r)
		}()
	}
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	address := strings.TrimSpace(line)
	for i := range 20 {
		conn, _, _, err := ws.Dial(t.Context(), "ws://"+address+"/connection/websocket")
		require.NoError(t, err, line)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, wsutil.WriteClientText(conn, []byte(`{"id":1,"connect":{}}`)))
		_, err = wsutil.ReadServerText(conn)
		require.NoError(t, err)
		if i == 19 {
			require.NoError(t, wsutil.WriteClientText(conn, []byte(`{"id":2,"subscribe":{"channel":"panic"}}`)))
		}
	}
	began := time.Now()
	require.Error(t, cmd.Wait())
	took = time.Since(began)
	require.Equal(t, 2, cmd.ProcessState.ExitCode())
	if mode != "unread" {
		<-read
	}
	return stderr.String(), took
}

// A panic in a shard ends the process, which says what the shard was doing and what it held.
func TestShardPanics(t *testing.T) {
	log, took := crash(t, "read")
	t.Log(took)
	lines := map[string]map[string]any{}
	for line := range strings.Lines(log) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil {
			lines[fmt.Sprint(fields["msg"])] = fields
		}
	}
	panicked := lines["BUG: a shard panicked: wsd ends"]
	require.NotNil(t, panicked, log)
	require.Equal(t, bombText[:200], panicked["panic"])
	require.Equal(t, "serving ready sockets", panicked["doing"])
	require.Equal(t, "text", panicked["event"])
	require.Equal(t, "json", panicked["dialect"])
	require.Equal(t, "joined", panicked["state"])
	require.Contains(t, panicked["client"], "127.0.0.1:")
	require.Contains(t, panicked, "slot")
	held := lines["what the shard that panicked held"]
	require.Equal(t, held["connections"], held["in_joined"], log)
	require.Contains(t, held, "outbound_bytes")
	require.Contains(t, log, "server.bomb.Position", "the stack begins where it panicked")
	require.NotContains(t, log, `subscribe\":`, "what the client sent is not logged")
}

// A log that nobody reads does not hold the end up.
func TestShardPanicsUnread(t *testing.T) {
	_, took := crash(t, "unread")
	t.Log(took)
}

// A log that is written later is written before the process ends.
func TestShardPanicsLogLater(t *testing.T) {
	log, _ := crash(t, "later")
	reason, stack := strings.Index(log, "BUG: a shard panicked: wsd ends"), strings.Index(log, "server.bomb.Position")
	require.Positive(t, reason, log)
	require.Greater(t, stack, reason)
}
