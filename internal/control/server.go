package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"wsd/internal/httpserve"
)

// DefaultPath returns the path of the socket of the wsd whose clients connect to port.
func DefaultPath(port int) string { return fmt.Sprintf("/run/wsd/%d.sock", port) }

// Options is what Start needs.
type Options struct {
	Path    string       // Path of the socket, at most 100 bytes. Its directory is created (0755) if necessary.
	Handler http.Handler // Handler of all requests. NewHandler returns one for this package's client.
	Logger  *slog.Logger // Gets what net/http complains about, at debug level, and an error if serving ends unasked.
}

// writeTimeout leaves the steering settings of 256 shards time to be read and written.
const writeTimeout = 10 * time.Second

// Server serves on one socket from Start to Close.
type Server struct {
	http   *httpserve.Server
	socket *socket

	closeOnce sync.Once
	closeErr  error
}

// Start creates the socket and serves on it. It returns an error if another process serves a socket at the path, if the
// path is a file other than a socket, which it leaves alone, or if the directory is not writable. The error names the
// remedy.
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
	return &Server{socket: sock, http: httpserve.Start(httpserve.Options{
		Name: "control socket", Component: "control", Listener: sock.listener, Handler: o.Handler,
		Probe:        func(r *http.Request) bool { return r.URL.Path == HealthPath },
		WriteTimeout: writeTimeout, Logger: o.Logger,
	})}, nil
}

// Path returns the socket's absolute path.
func (s *Server) Path() string { return s.socket.path }

// Close ends every connection and removes the socket, unless another process has replaced it. Later calls return the
// error of the first.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		// Remove the path first, so that a client that finds the socket can use it.
		s.closeErr = errors.Join(s.socket.remove(), s.http.Close())
	})
	return s.closeErr
}
