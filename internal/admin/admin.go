package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"wsd/internal/httpserve"
)

// Options is what Start needs. Every function may be called by several goroutines at a time and must not wait.
type Options struct {
	Listen     string                  // host:port; port 0 chooses one.
	Health     func() Health           // For /health and the page.
	Ready      func() (bool, []string) // For /ready: whether new clients are to be sent here, and if not, why.
	Metrics    http.Handler            // For /metrics.
	Pprof      bool                    // Whether /debug/pprof is served.
	ClientPort int                     // Where the page opens its WebSocket, on the host that it was loaded from.
	Channels   func() []string         // Channels that the page offers, in any order.
	Logger     *slog.Logger            // Gets what net/http complains about, at debug level, and an end of serving that was not asked for.
}

const (
	writeTimeout   = 15 * time.Second // A profile's own seconds are added to it.
	connectionsMax = 64               // Further ones wait in the accept backlog.
)

// Server serves the admin port from Start to Close.
type Server struct {
	http *httpserve.Server
	addr net.Addr
}

// Start listens and serves. It is an error when the address is taken or is not this machine's.
func Start(o Options) (*Server, error) {
	if o.Health == nil || o.Ready == nil || o.Metrics == nil || o.Channels == nil || o.Logger == nil {
		return nil, errors.New("BUG: admin options without health, ready, metrics, channels or logger")
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, explainListen(o.Listen, err)
	}
	return &Server{addr: listener.Addr(), http: httpserve.Start(httpserve.Options{
		Name: "admin port", Component: "admin", Listener: limit(listener, connectionsMax),
		Handler: newHandler(o, loopback(listener.Addr())), WriteTimeout: writeTimeout, Logger: o.Logger,
	})}, nil
}

// Addr returns the address that is served, with the port that was chosen.
func (s *Server) Addr() net.Addr { return s.addr }

// Close lets open requests finish until ctx ends, then closes their connections. Cutting a request off is not an error: a
// scrape that wsd's own end interrupts needs no complaint.
func (s *Server) Close(ctx context.Context) error { return s.http.Shutdown(ctx) }

// explainListen adds the remedy to an error of listening.
func explainListen(address string, err error) error {
	remedy := "set admin.listen"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = "another process has the port: set admin.listen to another one, or to nothing for no admin port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = "no interface has this address: set admin.listen to one of this machine's"
	case errors.Is(err, syscall.EACCES):
		remedy = "ports below 1024 need a privilege: set admin.listen to a higher one"
	}
	return fmt.Errorf("listen on %s for the admin port: %w: %s", address, errors.Unwrap(err), remedy)
}

// loopback reports whether only this machine reaches addr.
func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
