package source

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"wsd/internal/bus"
	"wsd/internal/kafka"
	"wsd/internal/route"
	"wsd/internal/throttle"
)

// Source reads Kafka and publishes on the bus.
type Source struct {
	o      Options // Fixed after New.
	log    *slog.Logger
	stats  *Stats
	dialer kafka.Dialer // Fixed after New.

	// Stop ends fetchCtx immediately, and publishCtx when its own context ends.
	fetchCtx, publishCtx   context.Context
	stopFetch, stopPublish context.CancelFunc
	running                sync.WaitGroup

	// The watcher owns these.
	topics   []*topic
	byName   map[string]*topic // The topics by name, see addTopic.
	table    *route.Table
	patterns []route.Pattern // Patterns for names of topics.
	// The partitions of topics that are no longer read, whose subscribers have not been notified yet.
	forgotten []*partition
	found     time.Time    // When patterns were last matched with all topics. Zero means never.
	full      throttle.Log // Patterns match more topics than TopicsMax.
	// Addresses to ask for metadata: first the brokers that were seen last, then the configured ones.
	seeds       []string
	metaTimeout time.Duration // How long a request of the watcher may take, see metadataTimeout.
	clusterID   string        // The id of the cluster that is read, or "" before the first answer.
	fetchers    map[int32]*fetcher
	addrs       map[int32]string // The addresses of the brokers. It is replaced as a whole.
	metaProblem throttle.Log
	digest      *digest
	// Topics that the cluster does not let wsd read.
	topicOutages *outages
	// New topics wait for their committed positions.
	unansweredProblem throttle.Log
	behindProblem     throttle.Log          // Topics are behind for longer than Options.BehindMax.
	committed         map[partKey]committed // The committed positions of new topics, see askCommitted.
	question          *question             // The one under way, see askCommitted.
	unanswered        map[string]error      // Why the committed positions of new topics are not known.
	noIDsNoted        bool                  // The log says that the brokers have no topic ids.
	// A refresh failed before the first that succeeded, so clients may have subscribed before the topology was known.
	answeredLate bool

	committer *committer // Nil without Options.CommitGroup.

	kick chan struct{} // Asks the watcher for a refresh. It holds one value.
	view view

	throttles throttles

	streams atomic.Pointer[streams]
	begun   atomic.Bool // Reading has begun everywhere, see Ready.

	// mu makes routing the bus's one writer, and guards the fields marked "mu" in topic, partition and fetcher. Whoever
	// waits for a full bus holds it.
	mu             sync.Mutex
	builder        *bus.Builder
	outages        *outages // Partitions that cannot be read.
	losses         lossLog
	refreshes      uint64 // How many refreshes of the metadata have begun.
	refreshed      uint64 // The number of the newest refresh that was applied.
	router         router
	panicLogFrom   time.Time // No panic is logged before.
	panicsUnlogged int       // Since the last that was logged.
	recent         recent
}

// New checks the options and returns a source that does nothing yet.
func New(o Options) (*Source, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	table, err := route.New(o.Routes, o.Overrides)
	if err != nil {
		return nil, err
	}
	if o.Shards == 0 {
		o.Shards = o.Ring.Shards()
	}
	s := &Source{
		o: o, log: o.Logger, stats: newStats(o.TopicsListedMax), table: table, seeds: o.Brokers,
		dialer: kafka.Dialer{
			ClientID: o.ClientID, TLS: o.TLS, SASL: o.SASL, DialTimeout: o.DialTimeout,
			RequestTimeout: o.RequestTimeout,
			ResponseMax:    o.FetchTotalBytes + o.BatchBytesMax + 1<<20, ResponseKept: 2 * o.FetchTotalBytes,
		},
		byName: make(map[string]*topic), fetchers: make(map[int32]*fetcher), kick: make(chan struct{}, 1),
		builder: bus.NewBuilder(o.Builder),
	}
	s.stats.shards = o.Ring.Shards()
	s.dialer.Reauthenticated = func() { s.stats.Reauthentications.Add(1) }
	s.dialer.OnThrottle = s.throttled
	s.view.seeds = o.Brokers
	s.digest = newDigest(s.log, o.LogInterval)
	s.outages, s.topicOutages = partitionOutages(s.digest), topicOutages(s.digest)
	s.metaTimeout, s.clusterID = min(metadataTimeout, o.RequestTimeout), o.ClusterID
	s.metaProblem.Interval, s.unansweredProblem.Interval = o.LogInterval, o.LogInterval
	s.fetchCtx, s.stopFetch = context.WithCancel(context.Background())
	s.publishCtx, s.stopPublish = context.WithCancel(context.Background())
	s.streams.Store(&streams{})
	s.full.Interval, s.behindProblem.Interval = o.LogInterval, o.LogInterval
	for _, text := range o.Topics {
		p, err := route.ParseTopic(text)
		if err != nil {
			return nil, err
		}
		if !p.Exact() {
			s.patterns = append(s.patterns, p)
			continue
		}
		s.addTopic(text)
	}
	if len(s.topics) > o.TopicsMax {
		return nil, fmt.Errorf("kafka.topics names %d topics, but kafka.topics_max is %d", len(s.topics), o.TopicsMax)
	}
	s.stats.setTopics(s.topics)
	s.publishView()
	s.router.s = s
	s.recent.bytesMax, s.recent.total = o.RecentBytesMax, &s.stats.RecentBytes
	if o.CommitGroup != "" {
		s.committer = newCommitter(s)
	}
	return s, nil
}

// Start starts reading.
func (s *Source) Start() {
	s.spawn("watcher", s.watch)
	s.spawn("sweeper", s.sweep)
	if s.committer != nil {
		s.committer.start()
	}
}

// sweep makes the interest table forget channels that have had no subscriber for some time. The source does it because
// it always runs.
func (s *Source) sweep(ctx context.Context) {
	tick := time.NewTicker(s.o.SweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.o.Interest.Sweep()
		case <-ctx.Done():
			return
		}
	}
}

// Stop ends reading immediately. It returns when everything that was read has been published and committed. If ctx ends
// first, the rest is dropped.
func (s *Source) Stop(ctx context.Context) error {
	s.stopFetch()
	defer s.stopPublish()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("stop the Kafka source: %w", ctx.Err())
		s.stopPublish()
		<-done // Whatever waits listens to one of the two contexts.
	}
	if s.committer != nil {
		s.committer.stop(ctx)
	}
	s.digest.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses.flush(s)
	return err
}

// Stats returns the counters. Any goroutine may call it.
func (s *Source) Stats() *Stats { return s.stats }

// spawn runs f as a goroutine of this source, labelled for the profiler.
func (s *Source) spawn(part string, f func(ctx context.Context)) {
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		pprof.Do(s.fetchCtx, pprof.Labels("component", "source", "part", part), f)
	}()
}

// kickWatcher asks the watcher for a refresh of the metadata. Any goroutine may call it.
func (s *Source) kickWatcher() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// refreshBegins returns the number of a refresh that is about to begin.
func (s *Source) refreshBegins() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshes++
	return s.refreshes
}

// everRefreshed reports whether the metadata was ever refreshed.
func (s *Source) everRefreshed() bool {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	return !s.view.metadata.IsZero()
}

// refreshEnds notes that a refresh was applied, and wakes the fetchers that wait for it.
func (s *Source) refreshEnds(number uint64) {
	s.mu.Lock()
	s.refreshed = number
	s.mu.Unlock()
	s.view.mu.Lock()
	s.view.metadata = time.Now()
	if s.view.since.IsZero() {
		s.view.since = s.view.metadata
	}
	s.view.mu.Unlock()
	for _, f := range s.fetchers {
		f.wakeUp()
	}
}
