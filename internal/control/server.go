package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"
)

// DefaultPath is the socket of the wsd whose clients connect to port.
func DefaultPath(port int) string { return fmt.Sprintf("/run/wsd/%d.sock", port) }

// Options is what Start needs.
type Options struct {
	Path    string       // Of the socket, at most 100 bytes. Its directory is made (0755) if its parent exists or may be made.
	Handler http.Handler // Answers every request; NewHandler makes one that knows what this package's client asks for.
	Logger  *slog.Logger // Gets what net/http complains about, at debug level, and an end of serving that was not asked for.
}

const (
	headerTimeout = 2 * time.Second
	readTimeout   = 5 * time.Second
	writeTimeout  = 10 * time.Second
	idleTimeout   = 30 * time.Second
	headerMax     = 8 << 10
)

// Server answers on one socket from Start to Close.
type Server struct {
	http   *http.Server
	socket *socket
	logger *slog.Logger
	served chan struct{} // Closed when serving has ended.

	closeOnce sync.Once
	closeErr  error
}

// Start makes the socket and serves on it. It is an error when another process answers on the path, when something that is not
// a socket is there (it is left alone), and when the directory may not be written to; each names the remedy.
func Start(o Options) (*Server, error) {
	if o.Handler == nil || o.Logger == nil {
		return nil, errors.New("BUG: control socket without a handler or a logger")
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("find the control socket %s: %w", o.Path, err)
	}
	sock, err := listen(path)
	if err != nil {
		return nil, err
	}
	s := &Server{
		http: &http.Server{
			Handler:           o.Handler,
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    headerMax,
			ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		},
		socket: sock,
		logger: o.Logger,
		served: make(chan struct{}),
	}
	go pprof.Do(context.Background(), pprof.Labels("component", "control"), func(context.Context) { s.serve() })
	return s, nil
}

func (s *Server) serve() {
	defer close(s.served)
	if err := s.http.Serve(s.socket.listener); !errors.Is(err, http.ErrServerClosed) {
		s.logger.Error("control socket ended", "path", s.socket.path, "error", err)
	}
}

// Path returns the socket's absolute path.
func (s *Server) Path() string { return s.socket.path }

// Close ends every connection and removes the socket, unless another process has put its own in its place. Later calls return
// what the first did.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		// The path first: who finds it afterwards finds nobody, not a socket that refuses.
		s.closeErr = s.socket.remove()
		if err := s.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.closeErr = errors.Join(s.closeErr, fmt.Errorf("close the control socket %s: %w", s.socket.path, err))
		}
		<-s.served
	})
	return s.closeErr
}
