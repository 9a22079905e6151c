package floor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/epoll"
	"wsd/loadtest/client"
)

// build compiles the floor once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "floor")
	if err != nil {
		return "", err
	}
	sources, err := filepath.Glob("*.c")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "floor")
	args := append([]string{"-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program}, sources...)
	if out, err := exec.CommandContext(context.Background(), "gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the floor: %w: %s", err, out)
	}
	return program, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if program, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(status)
}

// start starts the floor, which ends with the test.
func start(t *testing.T, args ...string) *Floor {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler gcc to build the floor with")
	}
	program, err := build()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, append([]string{"32768"}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	// A floor that hangs ends the wait for its answers.
	hangs := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("the floor does not end with its standard input: %v", err)
		}
		hangs.Stop()
	})
	f, err := Attach(in, out)
	require.NoError(t, err)
	return f
}

const run = 0xabcd

// clients connects n clients, each to channel i modulo the number of names.
func clients(t *testing.T, f *Floor, n, size int, names ...string) *client.Engine {
	t.Helper()
	format, err := client.NewFormat(run, size)
	require.NoError(t, err)
	var channels []client.Channel
	for _, name := range names {
		channels = append(channels, client.Channel{Name: name, Format: format, Produced: func() uint64 { return 0 }})
	}
	e, err := client.New(client.Options{Server: f.Server, Host: f.Server.String(), Protocol: client.Raw, Channels: channels, Clients: n, Loops: 1,
		Dials: 16, AttemptTimeout: 10 * time.Second, Now: func() int64 { return time.Now().UnixNano() }})
	require.NoError(t, err)
	e.Start()
	eventually(t, e, func(c client.Counters) bool { return c.Held == int64(n) })
	return e
}

func eventually(t *testing.T, e *client.Engine, what func(client.Counters) bool) {
	t.Helper()
	require.Eventually(t, func() bool { c, _ := e.Snapshot(); return what(c) }, 10*time.Second, 5*time.Millisecond)
}

// finish ends the clients, whose channels have got records up to last, and makes sure that each got all of them once and in order.
func finish(t *testing.T, e *client.Engine, deliveries int64, last ...uint64) {
	t.Helper()
	eventually(t, e, func(c client.Counters) bool { return c.Deliveries >= deliveries })
	e.Drain(last)
	c, times := e.Close(10 * time.Second)
	require.Equal(t, deliveries, c.Deliveries)
	require.Zero(t, c.Failed+c.Refused+c.Closed+c.Lost+c.LostClosed+c.Duplicates+c.Reordered+c.Corrupt+c.Foreign+c.Unexpected, "%+v", c)
	require.Less(t, times.Latency.Max(), int64(20_000_000), "microseconds: the times are of the same clock")
}

func offset() int64 { return time.Now().UnixNano() - int64(epoll.Monotonic()) }

// Sizes stand for the three kinds of frame heads, and for more than a socket's buffer takes.
func TestSend(t *testing.T) {
	for _, size := range []int{client.SizeMin, 125, 126, 16 << 10, 1<<16 - 1, 1 << 16, 300_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := start(t)
			e := clients(t, f, 20, size, "loadtest")
			late, err := f.Send(Job{Groups: 3, Batch: 4, Interval: 2 * time.Millisecond, Size: size, Run: run, Offset: offset()})
			require.NoError(t, err)
			require.Less(t, late, 20*time.Second)
			require.Equal(t, uint64(12), f.Sent())
			_, err = f.Send(Job{Groups: 5, Batch: 1, Size: size, Run: run, Offset: offset()})
			require.NoError(t, err)
			require.Equal(t, uint64(17), f.Sent())
			finish(t, e, 17*20, 17)
		})
	}
}

func TestSpread(t *testing.T) {
	f := start(t)
	e := clients(t, f, 3, 128, "c.0", "c.1", "c.2")
	_, err := f.Send(Job{Groups: 4, Batch: 2, Interval: time.Millisecond, Size: 128, Run: run, Offset: offset(), Channels: 3})
	require.NoError(t, err)
	finish(t, e, 8, 3, 3, 2)
}

func TestChain(t *testing.T) {
	f := start(t, "chain")
	e := clients(t, f, 3, 128, "c.0", "c.1", "c.2")
	feed, err := f.Dial(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, feed.Close()) }()
	format, err := client.NewFormat(run, 128)
	require.NoError(t, err)
	// More than the ring and the buffer of the floor take at once.
	const each = 2000
	for n := range uint64(each * 3) {
		require.NoError(t, feed.Write(uint32(n%3), format.Append(nil, n/3+1, time.Now().UnixNano())))
	}
	require.NoError(t, feed.Write(7, []byte("nobody has this channel")))
	finish(t, e, each*3, each, each, each)
}

// Clients that go and come are forgotten and numbered anew.
func TestReconnect(t *testing.T) {
	f := start(t)
	finish(t, clients(t, f, 10, 128, "loadtest"), 0, 0)
	e := clients(t, f, 5, 128, "loadtest")
	_, err := f.Send(Job{Groups: 1, Batch: 1, Size: 128, Run: run, Offset: offset()})
	require.NoError(t, err)
	finish(t, e, 5, 1)
}

// dial sends an upgrade request to the floor.
func dial(t *testing.T, f *Floor, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.Server.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	return conn, bufio.NewReader(conn)
}

// The key and its hash are those of RFC 6455, 1.3; field names have any case.
func TestControlFrames(t *testing.T) {
	conn, in := dial(t, start(t), "GET /ws?channel=x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	response, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", response.Header.Get("Sec-WebSocket-Accept"))

	var frames []byte
	for _, frame := range []ws.Frame{ws.NewTextFrame([]byte("dropped")), ws.NewPingFrame([]byte("payload")),
		ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "bye"))} {
		frames = append(frames, ws.MustCompileFrame(ws.MaskFrame(frame))...)
	}
	_, err = conn.Write(frames)
	require.NoError(t, err)
	pong, err := ws.ReadFrame(in)
	require.NoError(t, err)
	require.Equal(t, ws.OpPong, pong.Header.OpCode)
	require.Equal(t, "payload", string(pong.Payload))
	closing, err := ws.ReadFrame(in)
	require.NoError(t, err)
	require.Equal(t, ws.OpClose, closing.Header.OpCode)
	require.Equal(t, "bye", string(closing.Payload[2:]))
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

func TestNoUpgrade(t *testing.T) {
	f := start(t)
	for _, request := range []string{"GET / HTTP/1.1\r\n\r\n", "GET /ws?channel=x HTTP/1.1\r\n\r\n",
		"GET /ws?channel=x HTTP/1.1\r\nSec-WebSocket-Key: short\r\n\r\n",
		"GET /ws?channel=" + strings.Repeat("x", 256) + " HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"} {
		_, in := dial(t, f, request)
		_, err := in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
	}
}

// A job that is not understood ends the floor, and its owner hears of it.
func TestBadJob(t *testing.T) {
	var said strings.Builder
	f, err := Attach(&said, strings.NewReader("listening 1 2\n"))
	require.NoError(t, err)
	_, err = f.Send(Job{Groups: 1, Batch: 2, Interval: 3, Size: 128, Run: 4, Offset: 5})
	require.ErrorContains(t, err, "it has ended")
	require.Equal(t, "send 1 2 3 128 00000004 5\n", said.String())
	_, err = Attach(&said, strings.NewReader("?\n"))
	require.ErrorContains(t, err, `answer "?"`)
}
