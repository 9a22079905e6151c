package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/admin"
	"wsd/internal/bus"
	"wsd/internal/config"
	"wsd/internal/control"
	"wsd/internal/deflate"
	"wsd/internal/listen"
	"wsd/internal/recovery"
	"wsd/internal/routing"
	"wsd/internal/shard"
	"wsd/internal/source"
	"wsd/internal/steering"
)

// Build names what runs.
type Build struct {
	Version, Commit string
}

// Server is one wsd.
type Server struct {
	cfg   *config.Config
	build Build
	log   *slog.Logger
	began time.Time
	nonce uint64 // That the ids of this process's connections begin with.

	// Fixed after New, in the order in which they are built. What New did not get to is nil.
	groups   []listen.Group
	steering *steering.Steering
	interest *routing.Interest
	ring     *bus.Ring
	source   *source.Source
	recovery *recovery.Recovery // Nil without recovery.enabled.
	deflate  *deflate.Pool      // Nil without client.compression.
	shards   []*shard.Shard
	control  *control.Server
	admin    *admin.Server

	hooks hooks

	descriptors shard.Descriptors
	serving     atomic.Bool // GET /healthz of the client port says 200.
	stage       atomic.Pointer[admin.Status]
}

// New opens the ports, loads the steering program and builds what Run starts. When it fails nothing is left behind. Clients that
// connect before Run wait in the kernel.
func New(cfg *config.Config, build Build, logger *slog.Logger) (*Server, error) {
	return newServer(cfg, build, logger, hooks{})
}

// hooks let a test come between parts of a server.
type hooks struct {
	positions func(shard.Positions) shard.Positions // What shards ask in place of the source; nil: the source.
}

func newServer(cfg *config.Config, build Build, logger *slog.Logger, h hooks) (*Server, error) {
	s := &Server{cfg: cfg, build: build, log: logger, began: time.Now(), nonce: rand.Uint64(), interest: routing.NewInterest(), hooks: h}
	s.setStage(admin.StatusStarting)
	if err := s.assemble(); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

// assemble builds everything in order. What it got to when it fails is discard's to give up.
func (s *Server) assemble() (err error) {
	cfg := s.cfg
	shards := cfg.ShardCount()
	if err := s.listen(shards); err != nil {
		return err
	}
	if s.ring, err = bus.New(s.busOptions(shards)); err != nil {
		return err
	}
	sourceOptions, err := s.sourceOptions(shards)
	if err != nil {
		return err
	}
	if s.source, err = source.New(sourceOptions); err != nil {
		return err
	}
	if cfg.Recovery.Enabled {
		if s.recovery, err = recovery.New(s.recoveryOptions()); err != nil {
			return err
		}
	}
	if cfg.Client.Compression {
		if s.deflate, err = deflate.New(s.deflateOptions(shards)); err != nil {
			return err
		}
	}
	if err := s.buildShards(shards); err != nil {
		return err
	}
	return s.openPorts()
}

// listen opens the client ports with the steering program in place from the first connection on.
func (s *Server) listen(shards int) error {
	options, err := s.steeringOptions(shards)
	if err != nil {
		return err
	}
	if s.steering, err = steering.New(options); err != nil {
		return err
	}
	if s.groups, err = listen.Open(s.listenOptions(shards)); err != nil {
		return err
	}
	s.steering.Publish(int(s.groups[0].Address.Port()))
	return nil
}

func (s *Server) buildShards(n int) error {
	groups := s.groups
	s.groups = nil // From here on each shard owns its listeners, also when building it fails.
	for id := range n {
		var listeners []int
		for _, g := range groups {
			listeners = append(listeners, g.FDs[id])
		}
		built, err := shard.New(s.shardOptions(routing.ShardID(id), listeners))
		if err != nil {
			for _, g := range groups {
				err = errors.Join(err, listen.Group{FDs: g.FDs[id+1:]}.Close())
			}
			return err
		}
		s.shards = append(s.shards, built)
	}
	s.groups = make([]listen.Group, len(groups))
	for i, g := range groups {
		s.groups[i].Address = g.Address
	}
	return nil
}

// openPorts opens what operators use. Without a control socket wsd still serves its clients, so only a path that somebody chose
// must work.
func (s *Server) openPorts() (err error) {
	health := admin.HealthHandler(s.Health)
	path := s.cfg.Control.Socket
	if path == "" {
		path = control.DefaultPath(int(s.groups[0].Address.Port()))
	}
	s.control, err = control.Start(control.Options{Path: path, Handler: control.NewHandler(health, s), Logger: s.log})
	if err != nil {
		if s.cfg.Control.Socket != "" {
			return err
		}
		s.log.Warn("no control socket, so `wsd health` and `wsd steer` cannot reach this server", "reason", err.Error())
	}
	if s.cfg.Admin.Listen == "" {
		return nil
	}
	s.admin, err = admin.Start(s.adminOptions())
	return err
}

// Addresses returns the addresses that clients connect to, in the order of client.listen.
func (s *Server) Addresses() []netip.AddrPort {
	var list []netip.AddrPort
	for _, g := range s.groups {
		list = append(list, g.Address)
	}
	return list
}

// AdminAddress returns the address of the admin port, empty when there is none.
func (s *Server) AdminAddress() string {
	if s.admin == nil {
		return ""
	}
	return s.admin.Addr().String()
}

// Run serves until ctx ends and then stops within shutdown.drain. It returns an error only when something did not stop in time.
// served, which may be nil, is called once everything is up.
func (s *Server) Run(ctx context.Context, served func()) error {
	s.descriptors.Max = connectionsMax()
	for _, sh := range s.shards {
		sh.Start()
	}
	s.serving.Store(true)
	s.source.Start()
	if s.recovery != nil {
		s.recovery.Start()
	}
	s.setStage(admin.StatusOK)
	s.logStart()
	if served != nil {
		served()
	}

	pprof.Do(ctx, pprof.Labels("component", "steering"), s.steer)

	err := s.stop()
	s.close()
	return err
}

// settingsInterval is how often the operator's settings are looked at, to report them.
const settingsInterval = time.Second

// steer keeps the load figures true and reports settings until ctx ends, when listeners are still open.
func (s *Server) steer(ctx context.Context) {
	reconcile, settings := time.NewTicker(steering.ReconcileInterval), time.NewTicker(settingsInterval)
	defer reconcile.Stop()
	defer settings.Stop()
	for {
		select {
		case <-reconcile.C:
			s.steering.Reconcile()
		case <-settings.C:
			s.steering.Watch()
		case <-ctx.Done():
			return
		}
	}
}

// stop ends serving within shutdown.drain.
func (s *Server) stop() error {
	began := time.Now()
	deadline := began.Add(s.cfg.Shutdown.Drain)
	s.setStage(admin.StatusStopping)
	s.serving.Store(false)
	clients := s.clients()
	s.log.Info("stopping", "clients", clients, "drain", s.cfg.Shutdown.Drain)
	for i, sh := range s.shards {
		s.steering.Slot(routing.ShardID(i)).SetDraining(true)
		sh.PostStopAccepting()
	}
	// The rest of the time is for the shards.
	sourceCtx, cancel := context.WithDeadline(context.Background(), began.Add(s.cfg.Shutdown.Drain/4))
	err := s.source.Stop(sourceCtx)
	cancel()
	if err != nil {
		s.log.Warn("records that were read are not delivered", "error", err)
	}
	if s.recovery != nil {
		s.recovery.Stop()
	}
	for _, sh := range s.shards {
		sh.PostShutdown(deadline)
	}
	var stuck []int
	late := time.After(time.Until(deadline) + time.Second)
	for i, sh := range s.shards {
		select {
		case <-sh.Done():
		case <-late:
			stuck = append(stuck, i)
			late = time.After(0)
		}
	}
	if len(stuck) > 0 {
		return fmt.Errorf("shards %v did not stop within shutdown.drain (%v)", stuck, s.cfg.Shutdown.Drain)
	}
	s.log.Info("stopped", "clients", clients, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// discard gives up what New has built when it fails.
func (s *Server) discard() {
	for _, sh := range s.shards {
		sh.Start()
		sh.PostShutdown(time.Now())
		<-sh.Done()
	}
	s.close()
}

// close gives up everything but the shards, which close what they own when their loop ends.
func (s *Server) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var errs []error
	if s.deflate != nil {
		s.deflate.Close()
	}
	if s.admin != nil {
		errs = append(errs, s.admin.Close(ctx))
	}
	if s.control != nil {
		errs = append(errs, s.control.Close())
	}
	if s.steering != nil {
		errs = append(errs, s.steering.Close())
	}
	for _, g := range s.groups {
		errs = append(errs, g.Close())
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Warn("not everything was given up cleanly", "error", err)
	}
}

func (s *Server) setStage(stage admin.Status) { s.stage.Store(&stage) }

func (s *Server) clients() (n int64) {
	for _, sh := range s.shards {
		n += sh.Stats().Clients.Load()
	}
	return n
}

// descriptorsKept is how many descriptors clients leave for the rest: the admin port has at most 64 connections, a broker one or two.
const descriptorsKept = 128

// connectionsMax is how many connections fit into the limit of open files, beside what is open already.
func connectionsMax() int64 {
	inUse := 0
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		inUse = len(open)
	}
	limit := int64(min(openFilesMax(), 1<<40)) // "unlimited" is the largest number there is.
	// A small limit is shared evenly rather than not serving at all.
	return max(limit-int64(inUse)-descriptorsKept, limit/2, 1)
}

// openFilesMax is the limit of open files.
func openFilesMax() uint64 {
	var files unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files) // Cannot fail for this process.
	return files.Cur
}

// logStart writes the one line that says what was started, and what an operator should know about it.
func (s *Server) logStart() {
	st := s.steering.Status()
	controlPath := ""
	if s.control != nil {
		controlPath = s.control.Path()
	}
	s.log.Info("serving", "version", s.build.Version, "commit", s.build.Commit, "clients", s.listenAddresses(), "admin", s.AdminAddress(),
		"control", controlPath, "shards", len(s.shards), "steering", st.Mode, "steering_reason", st.Reason, "pins", st.PinPath,
		"kafka", s.cfg.Kafka.Brokers, "topics", s.cfg.Kafka.Topics, "nofile", openFilesMax(), "connections_max", s.descriptors.Max)
	for _, g := range s.groups {
		if !g.Address.Addr().IsLoopback() {
			s.log.Warn("auth: none: whoever reaches this address may subscribe to every channel", "clients", g.Address.String())
			break
		}
	}
}
