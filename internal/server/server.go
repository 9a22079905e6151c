package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"wsd/internal/admin"
	"wsd/internal/admission"
	"wsd/internal/bus"
	"wsd/internal/commands"
	"wsd/internal/config"
	"wsd/internal/control"
	"wsd/internal/deflate"
	"wsd/internal/listen"
	"wsd/internal/privilege"
	"wsd/internal/produce"
	"wsd/internal/publish"
	"wsd/internal/recovery"
	"wsd/internal/routing"
	"wsd/internal/shard"
	"wsd/internal/source"
	"wsd/internal/steering"
)

// Build identifies the program.
type Build struct {
	Version string // Version of wsd.
	Commit  string // Commit that wsd was built from.
}

// Server is one wsd.
type Server struct {
	cfg   *config.Config
	build Build
	log   *slog.Logger
	began time.Time
	// Logs once that a client has sent a token.
	tokenIgnored func()

	// Fixed after New, in the order in which they are built. A field is nil until its part is built.
	groups    []listen.Group
	steering  *steering.Steering
	interest  *routing.Interest
	ring      *bus.Ring
	login     login
	source    *source.Source
	recovery  *recovery.Recovery // Nil if recovery.enabled is false.
	depths    []shard.Depth      // recovery.channels.
	producer  *produce.Producer  // Nil unless something writes to Kafka.
	publisher *publisher         // Nil if no client may publish.
	// Publishes for clients and for the server API; nil without either.
	publishing *publish.Publisher
	commands   *commands.Topic // Nil without commands.topic.
	handOver   handOver        // Of commands that were read.
	api        *serverAPI      // Nil without a key for it.
	node       [16]byte        // Names this process, at random.
	tls        clientTLS
	access     adminAccess
	deflate    *deflate.Pool    // Nil if client.compression is false.
	admit      *shard.Admission // Nil if admission.mode is off, like admission.
	shards     []*shard.Shard
	admission  *admission.Sampler
	clientIDs  *routing.ClientIDs
	identity   *identity                 // Nil if auth.mode is none.
	backend    *backend                  // Nil if nothing is asked of the application's backend.
	canFeed    func(channel string) bool // Whether anything can ever feed a channel; nil: not asked.
	control    *control.Server
	admin      *admin.Server

	hooks hooks

	privileges atomic.Pointer[privilege.State] // Nil before DropPrivileges.

	memory      shard.Memory      // What connections of all shards hold, and its limit.
	descriptors shard.Descriptors // Number of connections of all shards, and its limit.
	late        *shard.Late       // What is done about late deliveries. Nil without health.delivery_max.
	quotas      shard.Quotas      // What clients may take together, and what they have taken.
	drain       drain
	serving     atomic.Bool                  // Whether GET /healthz on the client port returns 200.
	stage       atomic.Pointer[admin.Status] // Starting, ok, draining (shutdown.delay) or stopping.
	lameDuck    atomic.Pointer[lameDuck]     // Nil until the server is asked to stop.
}

// New opens the ports, loads the steering program and builds everything that Run starts. If it fails, it leaves nothing
// behind. Clients that connect before Run wait in the kernel.
func New(cfg *config.Config, build Build, logger *slog.Logger) (*Server, error) {
	return newServer(cfg, build, logger, hooks{})
}

// hooks let a test replace parts of a server.
type hooks struct {
	positions func(shard.Positions) shard.Positions // Wraps the source that shards ask for positions; nil: no wrapper.
	after     func(time.Duration) <-chan time.Time  // Waits for shutdown.delay; nil: time.After.
}

func newServer(cfg *config.Config, build Build, logger *slog.Logger, h hooks) (*Server, error) {
	s := &Server{cfg: cfg, build: build, log: logger, began: time.Now(), interest: routing.NewInterest(),
		hooks: h}
	var key [16]byte
	_, _ = rand.Read(key[:]) // Never fails.
	s.clientIDs = routing.NewClientIDs(key)
	s.depths = depths(cfg.Recovery.Depths())
	_, _ = rand.Read(s.node[:])
	s.tokenIgnored = sync.OnceFunc(func() {
		s.log.Warn("a client sent a token, but this server does not verify tokens: it may subscribe like everyone else")
	})
	s.setStage(admin.StatusStarting)
	if err := s.assemble(); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

// assemble builds everything in order. If it fails, discard releases what has been built.
func (s *Server) assemble() (err error) {
	cfg := s.cfg
	shards := cfg.ShardCount()
	if err := s.tls.set(&cfg.Client, s.log); err != nil {
		return err
	}
	if err := s.access.set(&cfg.Admin, s.log); err != nil {
		return err
	}
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
	if cfg.Client.UnknownChannels == "refuse" {
		if s.canFeed, err = feeds(cfg); err != nil {
			return err
		}
	}
	if s.identity, err = newIdentity(cfg, s.log); err != nil {
		return err
	}
	if s.identity != nil {
		s.identity.start(cfg)
	}
	if err := s.openBackend(); err != nil {
		return err
	}
	if err := s.openPublisher(); err != nil {
		return err
	}
	s.admit = s.shardAdmission()
	if err := s.buildShards(shards); err != nil {
		return err
	}
	if s.admit != nil {
		if s.admission, err = admission.New(s.admissionOptions()); err != nil {
			return fmt.Errorf("read the limits of this process (admission.mode off does without): %w", err)
		}
	}
	if err := s.openCommands(); err != nil {
		return err
	}
	if s.api, err = s.newAPI(); err != nil {
		return err
	}
	return s.openPorts()
}

// listen opens the client ports. The steering program is in place from the first connection on.
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
	// Shards may run before Run: if something fails later, discard lets them end in order.
	s.descriptors.Max = connectionsMax(s.backend.connections())
	s.memory.Limit = memoryMax(s.cfg.Limits.Memory)
	s.memory.AnswersLimit = s.cfg.Limits.AnswersMax(s.memory.Limit)
	s.quotas.Limits = s.quotaLimits()
	s.late = s.newLate()
	groups := s.groups
	s.groups = nil // From here on each shard owns its listeners, even if building it fails.
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

// openPorts opens the control socket and the admin port. wsd can serve clients without a control socket, so an error is
// fatal only if its path was configured.
func (s *Server) openPorts() (err error) {
	health := admin.HealthHandler(s.Health)
	path := s.cfg.Control.Socket
	if path == "" {
		path = control.DefaultPath(int(s.groups[0].Address.Port()))
	}
	s.control, err = control.Start(control.Options{
		Path: path, Handler: control.NewHandler(health, s, s, s, s, s), Logger: s.log,
	})
	if err != nil {
		if s.cfg.Control.Socket != "" {
			return err
		}
		s.log.Warn("no control socket: wsd health, top, steer, drain and others cannot reach this server", "reason",
			err.Error())
	}
	if err := s.api.listen(&s.cfg.API, s.log); err != nil {
		return err
	}
	if s.cfg.Admin.Listen == "" {
		return nil
	}
	s.admin, err = admin.Start(s.adminOptions())
	return err
}

// Addresses returns the addresses that clients connect to, in the order of client.listen and then client.tls_listen.
func (s *Server) Addresses() []netip.AddrPort {
	var list []netip.AddrPort
	for _, g := range s.groups {
		list = append(list, g.Address)
	}
	return list
}

// AdminAddress returns the address of the admin port, or "" if there is none.
func (s *Server) AdminAddress() string {
	if s.admin == nil {
		return ""
	}
	return s.admin.Addr().String()
}

// Run serves until ctx ends and for shutdown.delay more, and then stops within shutdown.drain. It returns an error only
// if a shard did not stop in time. It calls served, which may be nil, when everything has started.
func (s *Server) Run(ctx context.Context, served func()) error {
	s.descriptors.Max = connectionsMax(s.backend.connections())
	stopWatching := s.login.watch(context.WithoutCancel(ctx))
	defer stopWatching()
	stopTLS := s.tls.watch(ctx)
	defer stopTLS()
	stopAccess := s.access.watch(context.WithoutCancel(ctx)) // The port is open until the end.
	defer stopAccess()
	stopKeys := s.identity.watch(context.WithoutCancel(ctx)) // Clients come and go during shutdown.delay, too.
	defer stopKeys()
	stopAPI := s.api.watch(ctx)
	defer stopAPI()
	if s.commands != nil {
		s.commands.Start()
	}
	s.source.Start()
	if s.recovery != nil {
		s.recovery.Start()
	}
	s.awaitKafka(ctx)
	for _, sh := range s.shards {
		sh.Start()
	}
	if s.admission != nil {
		s.admission.Start()
	}
	s.serving.Store(true)
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

// awaitKafka returns when the source knows its positions, after client.listen_wait, or when ctx ends. Meanwhile clients
// wait in the kernel: one that is back before Kafka has answered could not recover, and would be told to try again.
func (s *Server) awaitKafka(ctx context.Context) {
	const interval = 5 * time.Millisecond
	wait := s.cfg.Client.ListenWait
	if wait == 0 {
		return
	}
	late := time.After(wait)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !s.source.Ready() {
		select {
		case <-tick.C:
		case <-late:
			s.log.Warn("accepting clients although Kafka's positions are not known yet",
				"waited", wait, "option", "client.listen_wait", "kafka", s.source.Status().Error)
			return
		case <-ctx.Done():
			return
		}
	}
}

// settingsInterval is the time between two checks of the steering settings for changes by operators.
const settingsInterval = time.Second

// steer corrects the load figures and reports changed settings until ctx has ended and shutdown.delay has passed. The
// listeners stay open meanwhile.
func (s *Server) steer(ctx context.Context) {
	reconcile, settings := time.NewTicker(steering.ReconcileInterval), time.NewTicker(settingsInterval)
	defer reconcile.Stop()
	defer settings.Stop()
	asked := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case <-reconcile.C:
			s.steering.Reconcile()
		case <-settings.C:
			s.steering.Watch()
		case <-asked:
			asked, late = nil, s.after(s.announce())
		case <-late:
			return
		}
	}
}

// stop stops serving within shutdown.drain.
func (s *Server) stop() error {
	began := time.Now()
	deadline := began.Add(s.cfg.Shutdown.Drain)
	s.setStage(admin.StatusStopping)
	s.serving.Store(false)
	if s.admission != nil {
		s.admission.Stop()
	}
	clients := s.clients()
	s.log.Info("stopping", "clients", clients, "drain", s.cfg.Shutdown.Drain)
	for i, sh := range s.shards {
		s.steering.Slot(routing.ShardID(i)).SetDraining(true)
		sh.PostStopAccepting()
	}
	s.leave()
	s.stopAPI()
	// The source gets a third of what is left of the time, the shards the rest.
	sourceCtx, cancel := context.WithTimeout(context.Background(), time.Until(deadline)/3)
	err := s.source.Stop(sourceCtx)
	cancel()
	if err != nil {
		s.log.Warn("some records that were read are not delivered", "error", err)
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

// discard releases what New has built before it failed.
func (s *Server) discard() {
	for _, sh := range s.shards {
		sh.Start()
		sh.PostShutdown(time.Now())
		<-sh.Done()
	}
	s.stopAPI()
	s.close()
}

// close releases everything except the shards, which close what they own when their loop ends.
func (s *Server) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var errs []error
	if s.deflate != nil {
		s.deflate.Close()
	}
	s.identity.close()
	s.backend.close()
	if s.producer != nil {
		errs = append(errs, s.producer.Close(ctx))
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
		s.log.Warn("errors while closing", "error", err)
	}
}

func (s *Server) setStage(stage admin.Status) { s.stage.Store(&stage) }

func (s *Server) clients() (n int64) {
	for _, sh := range s.shards {
		n += sh.Stats().Clients.Load()
	}
	return n
}

// logStart logs one line about the server that has started, and a warning if everyone may subscribe.
func (s *Server) logStart() {
	st := s.steering.Status()
	controlPath := ""
	if s.control != nil {
		controlPath = s.control.Path()
	}
	s.log.Info("serving", "version", s.build.Version, "commit", s.build.Commit, "clients", s.plainAddresses(),
		"clients_tls", s.tlsAddresses(), "admin", s.AdminAddress(), "control", controlPath, "shards", len(s.shards),
		"steering", st.Mode, "steering_reason", st.Reason, "pins", st.PinPath, "kafka", s.cfg.Kafka.Brokers,
		"topics", s.cfg.Kafka.Topics, "nofile", openFilesMax(), "connections_max", s.descriptors.Max)
	if files := openFilesMax(); files < filesFew {
		s.log.Warn("few open files are allowed, and so few clients", "nofile", files, "connections_max",
			s.descriptors.Max, "remedy", "raise the hard limit, to which wsd raises the soft one: LimitNOFILE= of "+
				"systemd, docker run --ulimit nofile=, or ulimit -Hn; wsd doctor says how much is needed")
	}
	if most := int64(s.cfg.Limits.Connections); most > s.descriptors.Max {
		s.log.Warn("limits.connections has no effect: file descriptors allow fewer", "limits.connections", most,
			"connections_max", s.descriptors.Max, "remedy", "raise the limit of open files (nofile), or lower it")
	}
	for _, g := range s.groups {
		if s.identity == nil && !g.Address.Addr().IsLoopback() {
			s.log.Warn("no authentication: everyone who can reach this address may subscribe to every channel",
				"clients", g.Address.String())
			break
		}
	}
}
