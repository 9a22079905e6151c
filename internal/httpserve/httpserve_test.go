package httpserve

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// start serves handler on a free port of loopback.
func start(t *testing.T, handler http.HandlerFunc, log io.Writer) (s *Server, listener net.Listener, url string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s = Start(Options{
		Name: "test port", Component: "test", Listener: listener, Handler: handler, WriteTimeout: time.Minute,
		Probe:  func(r *http.Request) bool { return r.URL.Path == "/probe" },
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	return s, listener, "http://" + listener.Addr().String() + "/"
}

// get sends the status of a GET, 0 if there was no response.
func get(ctx context.Context, url string, status chan<- int) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		status <- 0
		return
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		status <- 0
		return
	}
	status <- resp.StatusCode
	_ = resp.Body.Close()
}

func TestShutdownWaitsForRequests(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s, _, url := start(t, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		w.WriteHeader(http.StatusTeapot)
	}, io.Discard)
	status := make(chan int, 1)
	go get(t.Context(), url, status)
	<-entered
	time.AfterFunc(20*time.Millisecond, func() { close(release) })
	require.NoError(t, s.Shutdown(t.Context()))
	require.Equal(t, http.StatusTeapot, <-status)
	get(t.Context(), url, status)
	require.Zero(t, <-status)
}

func TestShutdownCutsRequestsOff(t *testing.T) {
	entered := make(chan struct{})
	s, _, url := start(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}, io.Discard)
	status := make(chan int, 1)
	go get(t.Context(), url, status)
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.NoError(t, s.Shutdown(ctx))
	require.Zero(t, <-status)
}

// A client that sends a header a byte a minute, or a large one, or reads nothing, must not hold a connection for ever.
func TestTimeouts(t *testing.T) {
	s, _, _ := start(t, func(http.ResponseWriter, *http.Request) {}, io.Discard)
	require.Equal(t, headerTimeout, s.http.ReadHeaderTimeout)
	require.Equal(t, readTimeout, s.http.ReadTimeout)
	require.Equal(t, time.Minute, s.http.WriteTimeout)
	require.Equal(t, idleTimeout, s.http.IdleTimeout)
	require.Equal(t, headerMax, s.http.MaxHeaderBytes)
	for _, d := range []time.Duration{headerTimeout, readTimeout, idleTimeout} {
		require.Positive(t, d)
	}
	require.NoError(t, s.Close())
}

func TestUnaskedEndIsLogged(t *testing.T) {
	var log bytes.Buffer
	s, listener, _ := start(t, func(http.ResponseWriter, *http.Request) {}, &log)
	require.NoError(t, listener.Close())
	<-s.served
	require.Contains(t, log.String(), "stopped serving\" server=\"test port\"")
	require.NoError(t, s.Close())
}
