package server

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/admin"
	"wsd/internal/auth"
	"wsd/internal/bus"
	"wsd/internal/config"
	"wsd/internal/deflate"
	"wsd/internal/listen"
	"wsd/internal/metrics"
	"wsd/internal/recovery"
	"wsd/internal/route"
	"wsd/internal/routing"
	"wsd/internal/shard"
	"wsd/internal/source"
	"wsd/internal/steering"
)

func (s *Server) listenOptions(shards int) listen.Options {
	c := s.cfg.Client
	return listen.Options{
		Addresses: c.Addresses(), Shards: shards, SendBuffer: int(c.KernelSendBuffer), DeferAccept: c.DeferAccept,
		ProgressTimeout: c.ProgressTimeout, Opened: s.steering.Attach, Listening: s.steering.Add,
		Logger: s.log,
	}
}

func (s *Server) steeringOptions(shards int) (steering.Options, error) {
	c := s.cfg.Steering
	group, err := c.PinGroupID()
	if err != nil {
		return steering.Options{}, err
	}
	values := steering.DefaultValues(shards)
	if len(c.Weights) > shards {
		return steering.Options{}, fmt.Errorf("steering.weights has %d weights, but there are %d shards: remove some "+
			"weights, or set shards", len(c.Weights), shards)
	}
	for i, weight := range c.Weights {
		values["weight"][i] = uint32(weight) //nolint:gosec // Load has checked the range.
	}
	for name, value := range map[string]int{
		"policy": slices.Index(steering.Policies(), c.Policy), "stall_bound": int(c.StallBound.Milliseconds()),
		"ramp":        int(c.Ramp.Milliseconds()),
		"pending_max": c.PendingMax, "cpu_local_bound": c.CPULocalBound,
		"admission": c.Limits.Admission, "admission_dry_run": asInt(c.Limits.AdmissionDryRun),
		"source_rate": c.Limits.SourceRate, "source_burst": c.Limits.SourceBurst,
		"source_prefix4": c.Limits.SourcePrefix4,
		"source_prefix6": c.Limits.SourcePrefix6, "source_dry_run": asInt(c.Limits.SourceDryRun),
	} {
		values[name][0] = uint32(value) //nolint:gosec // Load has checked the range.
	}
	return steering.Options{
		Mode: steering.Mode(c.Mode), PinDir: c.PinDir, PinGroup: group, Port: portOf(s.cfg.Client.Addresses()[0]),
		Shards: shards, Groups: len(s.cfg.Client.Addresses()),
		Values: values, Exempt: s.cfg.Exempt(), SourcesMax: c.Limits.SourcesMax, Logger: s.log,
	}, nil
}

// feeds returns a function that reports whether anything can ever feed a channel.
func feeds(cfg *config.Config) (func(channel string) bool, error) {
	table, err := route.New(cfg.Rules(), cfg.RouteOverrides())
	if err != nil {
		return nil, err
	}
	return table.Feeds(cfg.Kafka.Topics)
}

func asInt(on bool) int {
	if on {
		return 1
	}
	return 0
}

// portOf returns the port of an address, or 0 if it is not a number.
func portOf(address string) int {
	_, port, _ := net.SplitHostPort(address)
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

func (s *Server) busOptions(shards int) bus.Options {
	b := s.cfg.Bus
	return bus.Options{
		Shards: shards, Slots: b.RingBatches, BytesMax: int(b.RingBytesMax), StallMax: b.StallMax,
		Wake: func(id routing.ShardID) { s.shards[id].PostWake() }, Logger: s.log,
	}
}

func (s *Server) sourceOptions(shards int) (o source.Options, err error) {
	k, b := s.cfg.Kafka, s.cfg.Bus
	if err = s.login.set(k, s.log); err != nil {
		return o, err
	}
	o = source.Options{
		Brokers: k.Brokers, Topics: k.Topics, ClusterID: k.ClusterID,
		ClientID: k.ClientID, TLS: s.login.tls, SASL: s.login.sasl,
		Rack: k.Rack, ReadUncommitted: k.Isolation == "read_uncommitted",
		CommitGroup: k.CommitGroup, RecordBytesMax: int(k.MaxRecordBytes),
		FetchMaxWait: k.FetchMaxWait, FetchMaxBytes: int(k.FetchMaxBytes), MetadataInterval: k.MetadataInterval,
		Interest: s.interest, Ring: s.ring, Builder: bus.BuilderOptions{RecordsMax: b.BatchMax,
			BytesMax: int(b.BatchBytesMax)},
		BatchAge: b.BatchAge, Shards: shards, ClientIDs: s.clientIDs, TopicsMax: k.TopicsMax,
		TopicsListedMax: cmp.Or(s.cfg.Metrics.TopicsMax, -1), // Zero would be the default.
		DialTimeout:     k.DialTimeout, RequestTimeout: k.RequestTimeout,
		JSONDepthMax: k.JSONDepthMax, BehindMax: k.BehindMax, Logger: s.log,
	}
	for _, p := range s.slowPolicies() {
		o.Keys = o.Keys || p.Policy == shard.PolicyConflate
	}
	startTime, isTime := k.StartTime()
	switch {
	case isTime:
		o.Start = source.Start{Mode: source.StartTime, Time: startTime}
	case k.Start == "earliest":
		o.Start.Mode = source.StartEarliest
	case k.Start == "committed":
		o.Start.Mode = source.StartCommitted
	}
	o.Routes, o.Overrides = s.cfg.Rules(), s.cfg.RouteOverrides()
	if s.cfg.Publish.On() {
		if o.Published, err = published(s.cfg); err != nil {
			return o, err
		}
	}
	if s.cfg.Recovery.Enabled {
		o.RecentBytesMax = int(s.cfg.Recovery.CacheBytes)
	}
	return o, nil
}

func (s *Server) recoveryOptions() recovery.Options {
	r := s.cfg.Recovery
	return recovery.Options{
		Source: s.source, BytesMax: int(r.MaxBytes), ReadBytesMax: int(r.ReadBytes),
		Timeout: r.Timeout, Concurrency: r.Concurrency, WaitingMax: r.WaitingMax,
		AddressMax: r.WaitingAddressMax, Logger: s.log,
	}
}

// shardRecovery returns the recovery options of shards. Without recovery the Recoverer must be a nil interface, not an
// interface that contains a nil pointer.
func (s *Server) shardRecovery() shard.RecoveryOptions {
	if s.recovery == nil {
		return shard.RecoveryOptions{}
	}
	r := s.cfg.Recovery
	return shard.RecoveryOptions{
		Recoverer: s.recovery, PublicationsMax: r.MaxPublications, HistoryMax: min(r.MaxPublications, historyMax),
		BytesMax: int(r.MaxBytes), Cached: r.CacheChannels, Depths: s.depths,
	}
}

// depths returns recovery.channels in the form of package shard.
func depths(list []config.Depth) (out []shard.Depth) {
	for _, d := range list {
		out = append(out, shard.Depth(d))
	}
	return out
}

// historyMax bounds the publications of a reply to a history command.
const historyMax = 1000

// slowPolicies returns client.slow_policies in the form of package shard. Load has checked the names.
func (s *Server) slowPolicies() (list []shard.SlowPolicy) {
	for _, p := range s.cfg.Client.SlowPolicies {
		for _, policy := range shard.Policies() {
			if policy.String() == p.Policy {
				list = append(list, shard.SlowPolicy{Pattern: p.Channel, Policy: policy})
			}
		}
	}
	return list
}

// closeGrace is how long a client may take to read the last messages and answer a close frame, unless shutdown.drain is
// shorter.
const closeGrace = 5 * time.Second

// batchBytesPerTurn is how many bytes of batches a shard takes in one turn before it writes. A larger value gives fewer
// writes under load, a smaller one shorter turns. The benchmarks of internal/shard show the difference.
const batchBytesPerTurn = 64 << 10

// deflateInline is the largest segment, in bytes, that a shard compresses itself. At level 3 that takes 70 µs, about as
// long as ten writes.
const deflateInline = 16 << 10

// deflateQueue is the number of segments that may wait for each compression worker. A longer queue would delay messages
// by more than compression is worth. At level 3 a worker compresses about 250 MB/s.
const deflateQueue = 16

func (s *Server) deflateOptions(shards int) deflate.Options {
	c := s.cfg.Client
	workers := c.CompressionWorkers
	if workers == 0 {
		workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	return deflate.Options{
		Level: c.CompressionLevel, Workers: workers, Queue: workers * deflateQueue,
		Inline: min(shards, runtime.GOMAXPROCS(0)),
	}
}

// shardDeflate returns the compression options of shards. Without a pool the Deflater must be a nil interface, not an
// interface that contains a nil pointer.
func (s *Server) shardDeflate() shard.Deflate {
	if s.deflate == nil {
		return shard.Deflate{}
	}
	return shard.Deflate{Deflater: s.deflate, Least: int(s.cfg.Client.CompressionThreshold), Inline: deflateInline}
}

func (s *Server) shardOptions(id routing.ShardID, listeners []int) shard.Options {
	c := s.cfg.Limits.Enforced(s.cfg.Client)
	var positions shard.Positions = s.source
	if s.hooks.positions != nil {
		positions = s.hooks.positions(positions)
	}
	return shard.Options{
		ID: id, Listeners: listeners, Cursor: s.ring.Cursor(id), Head: s.ring.Head, Interest: s.interest,
		Positions: positions,
		Load:      s.steering.Slot(id), Serving: &s.serving, Descriptors: &s.descriptors, Memory: &s.memory,
		Quotas:    &s.quotas,
		Admission: s.admit, Drain: &s.drain.pace,
		Limits: shard.Limits{
			OutboundMax: int(c.OutboundMax), MessageMax: int(c.MessageMax), FirstMessageMax: int(c.FirstMessageMax),
			MessageOutMax: int(c.MessageOutMax),
			HeadMax:       int(c.HeadMax), ChannelsMax: c.ChannelsMax, ChannelLengthMax: c.ChannelLengthMax,
			HandshakeTimeout: c.HandshakeTimeout, StaleCloseDelay: c.StaleCloseDelay, FrameTimeout: c.FrameTimeout,
			PingInterval: c.PingInterval, PongTimeout: c.PongTimeout,
			CloseGrace: min(closeGrace, s.cfg.Shutdown.Drain/2), BatchBytesPerTurn: batchBytesPerTurn,
			PinnedMax: int(s.cfg.Bus.PinnedMax), Rates: s.shardRates(),
		},
		TLS:  s.tls.shard(len(c.Listen)),
		Late: s.late,
		Slow: s.slowPolicies(), Deflate: s.shardDeflate(), Recovery: s.shardRecovery(),
		Auth:       s.shardAuth(),
		Calls:      s.shardCalls(),
		Publish:    s.shardPublish(),
		CanFeed:    s.canFeed,
		PathPrefix: c.PathPrefix, Proxies: s.proxies(), AllowsOrigin: c.AllowsOrigin(),
		Version: "wsd " + s.build.Version, ClientIDs: s.clientIDs,
		ShardHeader: s.cfg.Debug.ShardHeader, Logger: s.log, TokenIgnored: s.tokenIgnored,
	}
}

// memoryMax returns limits.memory, or without it a quarter of the machine's memory.
func memoryMax(limit config.Bytes) int64 {
	var info unix.Sysinfo_t
	if limit > 0 || unix.Sysinfo(&info) != nil {
		return int64(max(limit, 1<<20))
	}
	return int64(info.Totalram) * int64(info.Unit) / 4 //nolint:gosec // No machine has so much.
}

// quotaLimits returns the limits of what clients take together and of how long they stay.
func (s *Server) quotaLimits() (limits shard.QuotaLimits) {
	l, c := &s.cfg.Limits, &s.cfg.Client
	for quota, most := range map[shard.Quota]int64{
		shard.QuotaConnections: int64(l.Connections), shard.QuotaAddressConnections: int64(l.AddressConnections),
		shard.QuotaHandshakes: int64(l.Handshakes), shard.QuotaAddressHandshakes: int64(l.AddressHandshakes),
		shard.QuotaChannels: int64(l.Channels), shard.QuotaChannelsRate: int64(l.ChannelsRate),
		shard.QuotaAge: int64(l.Age), shard.QuotaIdle: int64(l.Idle), shard.QuotaMemory: s.memory.Limit,
		shard.QuotaAnswers: s.memory.AnswersLimit, shard.QuotaSubscriptions: int64(c.ChannelsMax),
		shard.QuotaHead: int64(c.HeadMax), shard.QuotaMessage: int64(c.MessageMax),
		shard.QuotaFirstMessage: int64(min(c.FirstMessageMax, c.MessageMax)), shard.QuotaOutbound: int64(c.OutboundMax),
		shard.QuotaPinned: int64(s.cfg.Bus.PinnedMax), shard.QuotaUserConnections: int64(l.UserConnections),
		shard.QuotaPublishRate: int64(l.PublishRate), shard.QuotaPublishUnderWay: int64(l.PublishUnderWay),
	} {
		limits[quota] = shard.QuotaLimit{Max: most, DryRun: l.DryRuns(quota.String())}
	}
	return limits
}

// shardRates returns the rates that a connection may have.
func (s *Server) shardRates() (rates shard.RateLimits) {
	l := &s.cfg.Limits
	for kind, perSecond := range map[shard.Rate]int{
		shard.RateCommands: l.CommandsRate, shard.RateFrames: l.FramesRate, shard.RateInflated: int(l.InflatedRate),
		shard.RateRecoveries: l.RecoveriesRate,
	} {
		rates[kind] = shard.RateLimit{PerSecond: perSecond, DryRun: l.DryRuns(kind.String())}
	}
	return rates
}

func (s *Server) adminOptions() admin.Options {
	stats := make([]*shard.Stats, len(s.shards))
	for i, sh := range s.shards {
		stats[i] = sh.Stats()
	}
	var recoveryStats *recovery.Stats
	if s.recovery != nil {
		recoveryStats = s.recovery.Stats()
	}
	var tokens *auth.Stats
	if s.identity != nil {
		tokens = s.identity.pool.Stats()
	}
	o := admin.Options{
		Listen: s.cfg.Admin.Listen, Health: s.Health, Ready: s.Ready,
		Metrics: metrics.Handler(metrics.Options{
			Version: s.build.Version, Commit: s.build.Commit, Shards: stats, Ring: s.ring.Stats(),
			Source: s.source.Stats(), Recovery: recoveryStats, Deflate: s.deflate,
			Auth: tokens, Proxy: s.backend.stats(), Steering: s.steering, Admission: s.admission, Files: &s.descriptors,
			Memory:   &s.memory,
			Channels: s.interest.Len,
			Ready:    func() bool { ready, _ := s.Ready(); return ready },
			Produce:  s.produceStats(),
			API:      s.api.stats(), Commands: s.commandsStats(), CommandsLate: s.commandsLate(),
			Drain: s.drainMetrics, TLS: s.tls.stats(), CertificateExpires: s.tls.expires,
		}),
		API:   s.api.adminHandler(),
		Pprof: enabled(os.Getenv("ENABLE_PPROF")), ClientPort: int(s.groups[0].Address.Port()), Channels: s.channels,
		Page: s.pageQuestions(), Changes: s.pageChanges(), Hosts: s.cfg.Admin.Hosts, Logger: s.log,
	}
	s.access.grant(&o)
	if o.TLS != nil && len(s.cfg.Client.TLSListen) > 0 { // A page that came by TLS may use nothing else.
		o.ClientPort = int(s.groups[len(s.cfg.Client.Listen)].Address.Port())
	}
	return o
}

// enabled reports whether an environment variable is true, 1, t or the like.
func enabled(value string) bool {
	on, err := strconv.ParseBool(value)
	return err == nil && on
}

// channelsShown is the maximum number of subscribed channels that the page offers.
const channelsShown = 1000

func (s *Server) channels() []string {
	return append(s.source.Channels(), s.interest.Names(channelsShown)...)
}
