package admin

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestServe(t *testing.T) {
	s := start(t, options())
	resp, err := http.Get("http://" + s.Addr().String() + "/")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Contains(t, string(body), `data-client-port="8123"`)
	http.DefaultClient.CloseIdleConnections()
}

// An address of every interface is one that other machines reach.
func TestServeEverywhere(t *testing.T) {
	o := options()
	o.Listen = "0.0.0.0:0"
	s := start(t, o)
	_, port, err := net.SplitHostPort(s.Addr().String())
	require.NoError(t, err)
	resp, err := http.Get("http://127.0.0.1:" + port + "/")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	http.DefaultClient.CloseIdleConnections()
}

func TestStartErrors(t *testing.T) {
	s := start(t, options())
	for name, c := range map[string]struct{ listen, says string }{
		"in use":     {s.Addr().String(), "another process uses the port: set admin.listen to another address"},
		"not ours":   {"192.0.2.1:0", "no interface of this machine has the address: set admin.listen"},
		"no port":    {"127.0.0.1", "set admin.listen"},
		"wrong port": {"127.0.0.1:99999", "set admin.listen"},
	} {
		o := options()
		o.Listen = c.listen
		_, err := Start(o)
		require.ErrorContains(t, err, c.says, name)
		require.ErrorContains(t, err, "listen on "+c.listen+" for the admin port", name)
		require.NotContains(t, err.Error(), "nil", name)
	}
}

func TestStartBugs(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"health":   func(o *Options) { o.Health = nil },
		"ready":    func(o *Options) { o.Ready = nil },
		"metrics":  func(o *Options) { o.Metrics = nil },
		"channels": func(o *Options) { o.Channels = nil },
		"logger":   func(o *Options) { o.Logger = nil },
	} {
		o := options()
		spoil(&o)
		_, err := Start(o)
		require.ErrorContains(t, err, "BUG: ", name)
	}
}

func TestCloseTwice(t *testing.T) {
	s, err := Start(options())
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, s.Close(t.Context()))
	_, err = net.Dial("tcp", s.Addr().String())
	require.Error(t, err)
}

// A request under way is waited for, until the caller has no more time.
func TestCloseWaits(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	o := options()
	o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-release })
	s, err := Start(o)
	require.NoError(t, err)
	conn := dial(t, s.Addr())
	_, err = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	<-entered
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	require.Eventually(t, func() bool { // The port is given up first.
		c, err := net.Dial("tcp", s.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	}, 5*time.Second, time.Millisecond)
	require.Empty(t, closed)
	close(release)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, <-closed)
}

func TestCloseCutsOff(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	o := options()
	o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-release })
	s, err := Start(o)
	require.NoError(t, err)
	conn := dial(t, s.Addr())
	_, err = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	<-entered
	require.NoError(t, s.Close(cancelled()))
	_, err = io.ReadAll(conn)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	close(release)
}

func TestSlowHeader(t *testing.T) {
	s := start(t, options())
	conn := dial(t, s.Addr())
	_, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: local")
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	require.NoError(t, err, "the server ends the connection before our deadline")
}

// Whoever holds connections to the port, and however, keeps health and readiness from nobody.
func TestHeldPort(t *testing.T) {
	for name, says := range map[string]string{
		"silent":      "",
		"slow header": "GET /health HTTP/1.1\r\nHost: local",
		"idle":        "GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"never reads": strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 100),
	} {
		o := options()
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 8<<20)) })
		s := start(t, o)
		for range 100 {
			_, _ = io.WriteString(dial(t, s.Addr()), says) // It may have given way already.
		}
		for _, path := range []string{"/health", "/ready/"} {
			conn := dial(t, s.Addr())
			_, err := io.WriteString(conn, "GET "+path+" HTTP/1.0\r\n\r\n")
			require.NoError(t, err, name)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err, name)
			require.Equal(t, http.StatusOK, resp.StatusCode, name)
			require.NoError(t, resp.Body.Close())
		}
	}
}
