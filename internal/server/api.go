package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"wsd/internal/api"
	"wsd/internal/apikey"
	"wsd/internal/config"
	"wsd/internal/httpserve"
	"wsd/internal/reload"
)

// serverAPI is the server API: its handler, its keys, and its own listener if it has one.
type serverAPI struct {
	handler *api.Handler
	keys    *reload.Value[[]apikey.Key]
	certs   *reload.Value[[]tls.Certificate] // Nil without TLS.
	http    *httpserve.Server                // Nil if the admin port serves it.
	addr    net.Addr
}

// newAPI builds the server API; nil: there is none. Load has checked the options.
func (s *Server) newAPI() (*serverAPI, error) {
	o := &s.cfg.API
	if !o.On() {
		return nil, nil //nolint:nilnil // Nil is no server API.
	}
	a := &serverAPI{}
	first, err := readWith(o.Files(), o.Parse)
	if err != nil {
		return nil, fmt.Errorf("api.keys_file: %w", err)
	}
	a.keys = reload.New(first, reload.Options[[]apikey.Key]{
		Name: "keys of the server API", Paths: o.Files(), Parse: o.Parse, Logger: s.log,
	})
	if len(o.TLS.Certificates) > 0 {
		certs, err := readWith(o.CertificateFiles(), o.ParseCertificates)
		if err != nil {
			return nil, err
		}
		a.certs = reload.New(certs, reload.Options[[]tls.Certificate]{
			Name: "TLS certificates of the server API", Paths: o.CertificateFiles(), Parse: o.ParseCertificates,
			Logger: s.log,
		})
	}
	a.handler = api.NewHandler(api.Options{
		Keys: a.keys.Last, Backend: s.apiBackend(), BytesMax: int64(o.BodyMax), JSONDepth: s.cfg.Kafka.JSONDepthMax,
		Timeout: o.Timeout, Memory: &s.memory, Logger: s.log,
	})
	return a, nil
}

// readWith returns what parse makes of files.
func readWith[T any](files []string, parse func([][]byte) (T, error)) (value T, err error) {
	var contents [][]byte
	for _, file := range files {
		content, err := reload.ReadRegular(file)
		if err != nil {
			return value, err
		}
		contents = append(contents, content)
	}
	return parse(contents)
}

// apiWriteTimeout is how long a client of api.listen may take to read a response, beside api.timeout.
const apiWriteTimeout = 10 * time.Second

// listen opens api.listen, unless it is empty.
func (a *serverAPI) listen(o *config.API, log *slog.Logger) error {
	if a == nil || o.Listen == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s for the server API: %w: set api.listen to another address", o.Listen,
			errors.Unwrap(err))
	}
	a.addr = listener.Addr()
	if a.certs != nil {
		listener = tls.NewListener(listener, &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return &tls.Config{
					MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: a.certs.Last(),
				}, nil
			},
		})
	}
	a.http = httpserve.Start(httpserve.Options{
		Name: "server API", Component: "api", Listener: listener, Handler: a.handler,
		Probe:        func(*http.Request) bool { return false },
		WriteTimeout: o.Timeout + apiWriteTimeout, Connections: o.ConnectionsMax, Logger: log,
	})
	return nil
}

// watch follows files until the returned function is called, which returns when that has ended.
func (a *serverAPI) watch(ctx context.Context) (stop func()) {
	if a == nil {
		return func() {}
	}
	values := []reload.Refresher{a.keys}
	if a.certs != nil {
		values = append(values, a.certs)
	}
	return watchFiles(ctx, "api", "files", keysInterval, values...)
}

// close ends open requests when ctx does.
func (a *serverAPI) close(ctx context.Context) error {
	if a == nil || a.http == nil {
		return nil
	}
	return a.http.Shutdown(ctx)
}

// adminHandler returns what the admin port serves of the API: a nil interface if nothing.
func (a *serverAPI) adminHandler() http.Handler {
	if a == nil || a.http != nil {
		return nil
	}
	return a.handler
}

// stats returns the counters, nil if there is no server API.
func (a *serverAPI) stats() *api.Stats {
	if a == nil {
		return nil
	}
	return a.handler.Stats()
}

// address returns the address of api.listen, "" if there is none.
func (a *serverAPI) address() string {
	if a == nil || a.addr == nil {
		return ""
	}
	return a.addr.String()
}

// APIAddress returns the address of api.listen, "" if there is none.
func (s *Server) APIAddress() string { return s.api.address() }

// nodeName returns the name of this node: its host's name and its first client port.
func (s *Server) nodeName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "wsd"
	}
	return fmt.Sprintf("%s:%d", host, s.groups[0].Address.Port())
}
