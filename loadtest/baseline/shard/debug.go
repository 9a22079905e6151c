package shard

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"path/filepath"
	"time"

	"wsd/internal/httpserve"
)

// DebugPath returns the unix socket on which a shard serves its profiles.
func DebugPath(dir string, shard int) string {
	return filepath.Join(dir, fmt.Sprintf("debug-%d.sock", shard))
}

// profileMax is how long a response may take: a CPU profile of a minute.
const profileMax = 70 * time.Second

// serveProfiles serves /debug/pprof/.
func (s *Shard) serveProfiles() (*httpserve.Server, error) {
	path := DebugPath(s.o.Dir, s.o.Index)
	if err := removeSocket(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path) //nolint:noctx // It does not block.
	if err != nil {
		return nil, fmt.Errorf("listen for profiles: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	return httpserve.Start(httpserve.Options{Name: "profiles", Component: "profiles", Listener: l, Handler: mux,
		Probe: func(*http.Request) bool { return false }, WriteTimeout: profileMax, Logger: s.o.Log}), nil
}
