package httpserve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/pprof"
	"time"
)

// Options is what Start needs. All fields but Connections are required.
type Options struct {
	Name      string       // Of the server in logs and errors, such as "admin port".
	Component string       // Value of the pprof label "component" on the server's goroutines.
	Listener  net.Listener // Start takes ownership of it.
	Handler   http.Handler

	// Probe reports whether a request is a probe, which must be answered whatever other requests do. Some slots are
	// kept for probes, see probesKept. Several goroutines may call it at the same time.
	Probe func(*http.Request) bool
	// WriteTimeout bounds the time from the end of a request's header to the end of its response.
	WriteTimeout time.Duration

	// Connections bounds the open connections; 0: connectionsMax.
	Connections int

	// Logger gets what net/http complains about, at debug level, and an error if serving ends unasked.
	Logger *slog.Logger
}

// Limits of every server: their clients are an operator's tools, which send small requests at once.
const (
	headerTimeout = 2 * time.Second
	readTimeout   = 5 * time.Second
	idleTimeout   = 10 * time.Second
	headerMax     = 8 << 10
)

// connectionsMax bounds the open connections of a server, unless Options.Connections does. A further one takes the
// place of another, see slotListener.victim. Requests that are not probes may be in progress on all but probesKept of
// them; beyond that they get status 503.
const (
	connectionsMax = 128
	probesKept     = 32
)

// grace is how long a connection keeps its slot to send a request, and to go on with a response, although others want
// it. So connectionsMax connections are accepted in this time at least, a full backlog of 4,096 in under two seconds.
const grace = 50 * time.Millisecond

// Server serves HTTP on one listener.
type Server struct {
	name    string
	address string
	http    *http.Server
	slots   *slotListener
	logger  *slog.Logger
	served  chan struct{} // Closed when serving has ended.
}

// Start serves on the listener until Close or Shutdown.
func Start(o Options) *Server {
	connections := cmp.Or(o.Connections, connectionsMax)
	slots := newSlotListener(o.Listener, connections, grace)
	s := &Server{
		slots:   slots,
		name:    o.Name,
		address: o.Listener.Addr().String(),
		http: &http.Server{
			Handler:           slots.keepFor(o.Probe, connections-min(probesKept, connections/4), o.Handler),
			ConnState:         slots.note,
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      o.WriteTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    headerMax,
			ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		},
		logger: o.Logger,
		served: make(chan struct{}),
	}
	go pprof.Do(context.Background(), pprof.Labels("component", o.Component),
		func(context.Context) { s.serve(slots) })
	return s
}

func (s *Server) serve(l net.Listener) {
	defer close(s.served)
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		s.logger.Error("a private HTTP server stopped serving", "server", s.name, "address", s.address, "error", err)
	}
}

// Close ends every connection and returns when serving has ended.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.served
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the %s %s: %w", s.name, s.address, err)
	}
	return nil
}

// Shutdown waits for open requests to finish until ctx ends, then closes their connections. Cutting a request off is
// not an error.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err == nil {
		<-s.served
		return nil
	}
	return s.Close()
}
