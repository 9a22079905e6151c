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

// DefaultPath is the socket of the wsd whose clients connect to port.
func DefaultPath(port int) string { return fmt.Sprintf("/run/wsd/%d.sock", port) }

// Options is what Start needs.
type Options struct {
	Path    string       // Of the socket, at most 100 bytes. Its directory is made (0755) if its parent exists or may be made.
	Handler http.Handler // Answers every request; NewHandler makes one that knows what this package's client asks for.
	Logger  *slog.Logger // Gets what net/http complains about, at debug level, and an end of serving that was not asked for.
}

// writeTimeout leaves the steering settings of 256 shards time to be read and written.
const writeTimeout = 10 * time.Second

// Server answers on one socket from Start to Close.
type Server struct {
	http   *httpserve.Server
	socket *socket

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
	return &Server{socket: sock, http: httpserve.Start(httpserve.Options{
		Name: "control socket", Component: "control", Listener: sock.listener, Handler: o.Handler, WriteTimeout: writeTimeout, Logger: o.Logger,
	})}, nil
}

// Path returns the socket's absolute path.
func (s *Server) Path() string { return s.socket.path }

// Close ends every connection and removes the socket, unless another process has put its own in its place. Later calls return
// what the first did.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		// The path first, so that a client that finds the path finds a server.
		s.closeErr = errors.Join(s.socket.remove(), s.http.Close())
	})
	return s.closeErr
}
