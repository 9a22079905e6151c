package control

import (
	"context"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHealthAnswers(t *testing.T) {
	for code, well := range map[int]bool{
		http.StatusOK: true, http.StatusServiceUnavailable: false, http.StatusInternalServerError: false, http.StatusNotFound: false,
	} {
		path := socketPath(t)
		var asked string
		start(t, path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.Method + " " + r.URL.Path
			answer(code, `{"status":"x"}`).ServeHTTP(w, r)
		}))
		body, ok, err := Health(t.Context(), path)
		require.NoError(t, err, code)
		require.Equal(t, well, ok, code)
		require.Equal(t, `{"status":"x"}`, string(body), code)
		require.Equal(t, "GET /health", asked)
	}
}

func TestHealthNoSocket(t *testing.T) {
	path := socketPath(t)
	_, ok, err := Health(t.Context(), path)
	require.False(t, ok)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "Is wsd running? If it runs on another port, pass its --config, --client.listen or --control.socket")
	require.Equal(t, 1, strings.Count(err.Error(), path), "the path stands there once: %v", err)
}

func TestHealthStaleSocket(t *testing.T) {
	path := socketPath(t)
	l, err := bind(path)
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	_, ok, err := Health(t.Context(), path)
	require.False(t, ok)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.ErrorContains(t, err, "The wsd that created this socket has ended")
}

func TestHealthOtherFile(t *testing.T) {
	path := socketPath(t)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, ok, err := Health(t.Context(), path)
	require.False(t, ok)
	require.ErrorContains(t, err, "cannot reach wsd at "+path)
}

func TestUnreachablePermission(t *testing.T) {
	err := unreachable("/x.sock", &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)})
	require.EqualError(t, err, "cannot reach wsd at /x.sock: connect: permission denied. Run this command as root or as the user of wsd")
}

// A wsd that is stopped takes connections (the kernel does) and says nothing; one that stops later says half.
func TestHealthHanging(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"nothing": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"half": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("{"))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		path := socketPath(t)
		start(t, path, handler)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, ok, err := Health(ctx, path)
		cancel()
		require.False(t, ok, name)
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		require.ErrorContains(t, err, "wsd did not respond in time; it may be stopped or out of CPU", name)
	}
}

// A socket on which nobody accepts.
func TestHealthNotAccepting(t *testing.T) {
	path := socketPath(t)
	l, err := bind(path)
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err = Health(ctx, path)
	require.ErrorContains(t, err, "wsd did not respond in time")
}

func TestHealthHugeBody(t *testing.T) {
	for extra, tooLarge := range map[int]bool{0: false, 1: true} {
		path := socketPath(t)
		start(t, path, answer(http.StatusOK, strings.Repeat("x", bodyMax+extra)))
		body, ok, err := Health(t.Context(), path)
		require.Equal(t, !tooLarge, ok)
		if tooLarge {
			require.ErrorContains(t, err, "larger than 16777216 bytes")
			require.Empty(t, body)
			continue
		}
		require.NoError(t, err)
		require.Len(t, body, bodyMax)
	}
}

func TestHealthNotHTTP(t *testing.T) {
	path := socketPath(t)
	l, err := bind(path)
	require.NoError(t, err)
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("hello\r\n\r\n"))
		conn.Close()
	}()
	_, ok, err := Health(t.Context(), path)
	require.False(t, ok)
	require.ErrorContains(t, err, "cannot reach wsd at "+path)
	<-done
}
