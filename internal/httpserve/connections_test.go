package httpserve

import (
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A server may have another number of connections: of 8, three quarters may be busy with requests, and one that has had
// its response gives way.
func TestConnectionsOption(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	entered, release := make(chan struct{}), make(chan struct{})
	s := Start(Options{
		Name: "test port", Component: "test", Listener: listener, WriteTimeout: time.Minute, Connections: 8,
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			entered <- struct{}{}
			<-release
		}),
		Probe: func(*http.Request) bool { return false }, Logger: slog.New(slog.DiscardHandler),
	})
	url := "http://" + listener.Addr().String() + "/"
	status := make(chan int, 8)
	for range 6 {
		go get(t.Context(), url, status)
		<-entered
	}
	refused := make(chan int, 1)
	for range 20 {
		get(t.Context(), url, refused)
		require.Equal(t, http.StatusServiceUnavailable, <-refused)
	}
	close(release)
	for range 6 {
		require.Equal(t, http.StatusOK, <-status)
	}
	require.NoError(t, s.Close())
}
