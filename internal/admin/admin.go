package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"wsd/internal/httpserve"
)

// Options is what Start needs. The functions must not block, and several goroutines may call them at the same time.
type Options struct {
	Listen  string                  // Address to listen on, as HOST:PORT. Port 0 means any free port.
	Health  func() Health           // Returns the health, for /health and the page.
	Ready   func() (bool, []string) // Returns whether new clients should be sent here, and if not, why. For /ready.
	Metrics http.Handler            // Serves /metrics.
	Pprof   bool                    // Whether to serve /debug/pprof.
	// Port to which the page opens its WebSocket, on the host that it was loaded from.
	ClientPort int
	Channels   func() []string // Returns the channels that the page offers, in any order.
	// API serves POST /api and below on any address, because it asks for a key; nil: there is none.
	API http.Handler
	// Gets what net/http complains about, at debug level, and an error if serving ends unasked.
	Logger *slog.Logger
}

const writeTimeout = 15 * time.Second // net/http/pprof adds the duration of a profile.

// Server serves the admin port from Start to Close.
type Server struct {
	http *httpserve.Server
	addr net.Addr
}

// Start listens and serves. It returns an error if the address is in use or does not belong to this machine.
func Start(o Options) (*Server, error) {
	if o.Health == nil || o.Ready == nil || o.Metrics == nil || o.Channels == nil || o.Logger == nil {
		return nil, errors.New("BUG: admin options without health, ready, metrics, channels or logger")
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, explainListen(o.Listen, err)
	}
	return &Server{addr: listener.Addr(), http: httpserve.Start(httpserve.Options{
		Name: "admin port", Component: "admin", Listener: listener, Probe: isProbe,
		Handler: newHandler(o, loopback(listener.Addr())), WriteTimeout: writeTimeout, Logger: o.Logger,
	})}, nil
}

// isProbe reports whether r asks for health or readiness.
func isProbe(r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	return path == "/health" || path == "/ready"
}

// Addr returns the address that is served. Its port is never 0.
func (s *Server) Addr() net.Addr { return s.addr }

// Close waits for open requests to finish until ctx ends, and then closes their connections. Cutting off a request,
// such as a scrape while wsd stops, is not an error.
func (s *Server) Close(ctx context.Context) error { return s.http.Shutdown(ctx) }

// explainListen adds a remedy to an error of listening.
func explainListen(address string, err error) error {
	remedy := "set admin.listen"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = "another process uses the port: set admin.listen to another address, or leave it empty for no admin " +
			"port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = "no interface of this machine has the address: set admin.listen to another one"
	case errors.Is(err, syscall.EACCES):
		remedy = "ports below 1024 need a privilege: set admin.listen to a higher port"
	}
	return fmt.Errorf("listen on %s for the admin port: %w: %s", address, errors.Unwrap(err), remedy)
}

// loopback reports whether only this machine can reach addr.
func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
