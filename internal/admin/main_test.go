package admin

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// options describes a server that is well and has nothing.
func options() Options {
	return Options{
		Listen:     "127.0.0.1:0",
		Health:     func() Health { return Health{Status: StatusOK, Version: "1.2.3"} },
		Ready:      func() (bool, []string) { return true, nil },
		Metrics:    http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "wsd_up 1\n") }),
		ClientPort: 8123,
		Channels:   func() []string { return nil },
		Logger:     quiet(),
	}
}

// get asks a handler made of o for target, as a browser that was given the host name would.
func get(o Options, isLoopback bool, host, target string) *httptest.ResponseRecorder {
	return ask(newHandler(o, isLoopback), http.MethodGet, host, target)
}

func ask(h http.Handler, method, host, target string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, http.NoBody)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// start serves until the test ends.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(cancelled())) })
	return s
}

// cancelled is for a Close that waits for nobody.
func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// dial connects to addr until the test ends; reads and writes that hang fail.
func dial(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(8*time.Second)))
	return conn
}
