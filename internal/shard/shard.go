package shard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"time"

	"wsd/internal/epoll"
	"wsd/internal/routing"
	"wsd/internal/stats"
	"wsd/internal/wire"
)

// Shard is one event loop with the connections that it owns. See the package comment for who may touch what.
type Shard struct {
	opts Options // Fixed after New.

	// For every goroutine.
	stats    *Stats
	poller   *epoll.Poller // Its Wake only.
	inbox    inbox         // Its signals, and posts of completions.
	deadline atomic.Int64  // Of the shutdown, in nanoseconds since start.
	done     chan struct{}

	// Connections.
	slab        slab
	wheel       *wheel
	connections int      // Sockets that the shard owns, handshakes included.
	clients     int      // Upgraded connections that are not at their end.
	released    []uint32 // Slots that become free at the end of the turn.
	accepting   accepting

	// Both ways.
	secured secured

	// Outbound.
	sender     sender
	outlet     outlet
	compressor compressor
	layouts    layouts
	wrote      []uint32 // Slots of connections that were flushed before in this turn.
	pinnedTick uint32   // Tick of the last look at who holds the oldest batches.

	// Inbound, and memory for reuse.
	inbound   inbound
	accounted int64 // Of ownMemory, in Options.Memory.
	// Of ownAnswers, in Options.Memory.
	accountedAnswers int64
	answersFull      uint32 // Tick from which on those that hold most answers are closed; 0: they are not full.
	fullTick         uint32 // Tick in which a dry run has counted that memory is full.

	readBuf   []byte
	replies   []byte
	inflater  wire.Inflater
	inflated  int // Bytes that the inflater has given, ever.
	largeFrom int // Bytes of a message from which on a dry run counts it; mostly none does.
	work      work
	dryRuns   map[uint32]uint32 // As conn.whole, by slot, for rates in a dry run.

	// Channels, and what is delivered to them.
	channels   channels
	gatherer   gatherer
	latency    latency
	recoveries recoveries
	flows      flows
	recalls    recalls
	resyncs    resyncs

	pings    pings
	emptying emptying

	completions completions
	orders      orders

	// Time.
	clock
	lastTurn  uint64 // Nanoseconds that the turn before took.
	heldTurns int    // Turns for which timers have been put off, see expireTimers.
	timer     *time.Timer
	timerAt   uint32 // Tick for which timer is set; 0: not set.

	publishers publishers // Nil until somebody publishes.

	places     places
	proxied    proxied
	identities identities
	calls      calls
	agePace    agePace

	draining draining

	surveys   surveys
	surveying bool // There is one to go on with.

	// Shutdown.
	closing   bool
	closeNext uint32 // Slot that closeSome goes on with.

	peaks peaks
	turn  turnCounts
	doing doing // For the report of a panic.
}

// clock is the time of a shard. A tick is tickLength since start.
type clock struct {
	start     time.Time
	startMono uint64 // start as CLOCK_MONOTONIC nanoseconds.
	// start as stats.Clock has it.
	startClock int64
	tick       uint32 // The turn's.
}

// turnCounts collects in plain fields what is added to Stats once a turn.
type turnCounts struct {
	bytesIn, framesIn uint64
}

// New returns a shard that is ready to Start. Its Post methods work from now on, so that the bus may wake it before. If
// New fails, it has closed the listeners.
func New(o Options) (*Shard, error) {
	s, err := newShard(o)
	if err != nil {
		for _, fd := range o.Listeners {
			epoll.Close(fd)
		}
		return nil, err
	}
	return s, nil
}

func newShard(o Options) (*Shard, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	poller, err := epoll.New(eventsPerTurn)
	if err != nil {
		return nil, err
	}
	for i, fd := range o.Listeners {
		if err := poller.Add(fd, epoll.Readable, listenerKey(i), 0); err != nil {
			return nil, errors.Join(fmt.Errorf("watch listener: %w", err), poller.Close())
		}
	}
	s := &Shard{
		opts: o, stats: newStats(), poller: poller, done: make(chan struct{}),
		accepting: accepting{listeners: o.Listeners},
		readBuf:   make([]byte, readBufSize),
	}
	s.init()
	s.start, s.startMono = time.Now(), epoll.Monotonic()
	s.startClock = stats.Clock(s.start)
	s.timer = time.AfterFunc(time.Hour, poller.Wake)
	s.timer.Stop()
	return s, nil
}

// init makes the parts of a shard that need nothing of the kernel.
func (s *Shard) init() {
	s.wheel = newWheel(&s.slab)
	s.places = newPlaces(s.opts.Quotas)
	s.proxied.opts, s.flows.proxied = &s.opts, &s.proxied
	s.largeFrom = largeFrom(s.opts.Quotas)
	s.work = work{clock: &s.clock, max: workTurn}
	s.dryRuns = make(map[uint32]uint32)
	s.sender = newSender(s.opts.Limits.OutboundMax)
	s.sender.exceeded = func() bool { return s.exceeded(QuotaOutbound) }
	s.layouts = newLayouts(s.opts.Limits.MessageOutMax)
	s.sender.layouts = &s.layouts
	s.secured.stats, s.sender.secured = s.stats, &s.secured
	s.compressor = compressor{
		Deflate: s.opts.Deflate, layouts: &s.layouts, ready: func() { s.inbox.signal(signalLayouts) },
	}
	s.inbox.wake, s.inbox.memory = s.PostWake, s.opts.Memory
	s.channels = newChannels(&s.opts, &s.slab, s.stats)
	s.channels.sender, s.channels.recoveries = &s.sender, &s.recoveries
	s.channels.identities = &s.identities
	if s.places.idle > 0 {
		s.channels.alone = s.alone
	}
	s.outlet = outlet{opts: &s.opts, stats: s.stats, sender: &s.sender}
	s.gatherer = gatherer{opts: &s.opts, channels: &s.channels}
	s.recoveries = recoveries{
		opts: &s.opts, clock: &s.clock, stats: s.stats, slab: &s.slab, channels: &s.channels, inbox: &s.inbox,
		outlet: &s.outlet, flows: &s.flows, pings: &s.pings, layouts: &s.layouts, compressor: &s.compressor,
		work: &s.work, refuses: s.refusesAnswers, admit: s.admit, waiting: make(map[recoveryKey]*recovery),
		joined: s.answerJoin,
	}
	s.recalls.channels = make(map[uint32][]string)
	s.emptying = make(emptying)
	s.flows.bySlot = make(map[uint32]*flow)
	s.pings = pings{
		limits: &s.opts.Limits, clock: &s.clock, stats: s.stats, wheel: s.wheel, emptying: &s.emptying, flows: &s.flows,
		outlet: &s.outlet,
		//nolint:gosec // It only spreads pings.
		random: rand.New(rand.NewPCG(rand.Uint64(), uint64(s.opts.ID))),
	}
	s.resyncs.last = make(map[uint32]resyncTicks)
	s.completions = completions{sender: &s.sender, putOff: make(map[uint32][]*completion)}
}

// readBufSize is how much a turn reads from one connection at once. What is larger is read behind what is kept of it,
// see Shard.fill.
const readBufSize = 64 << 10

// Start runs the loop in a goroutine of its own until PostShutdown. It must be called once.
func (s *Shard) Start() {
	labels := pprof.Labels("component", "shard", "shard", strconv.Itoa(int(s.opts.ID)))
	go pprof.Do(context.Background(), labels, func(context.Context) { s.run() })
}

// ID returns Options.ID. Any goroutine.
func (s *Shard) ID() routing.ShardID { return s.opts.ID }

// Stats returns the shard's counters.
func (s *Shard) Stats() *Stats { return s.stats }

// PostWake makes the loop look at the bus. Any goroutine; it costs an atomic operation unless the shard waits.
func (s *Shard) PostWake() { s.poller.Wake() }

// PostStopAccepting makes the shard accept what is in its accept queues and close its listeners. Any goroutine.
func (s *Shard) PostStopAccepting() { s.inbox.signal(signalStopAccepting) }

// Joining reports whether a client's connect command waits for what it missed, so that the interest table does not have
// its user yet. Any goroutine may call it.
func (s *Shard) Joining() bool { return s.identities.joining.Load() }

// PostDrain makes the shard take notice that Options.Drain has begun, changed or ended. Any goroutine.
func (s *Shard) PostDrain() { s.inbox.signal(signalDrain) }

// PostShutdown makes the shard deliver what is on the bus, close its connections with 3001 or 1001, and end its loop
// when all are closed, or at the deadline by force. It implies PostStopAccepting. Any goroutine; nothing may be
// published on the bus after it. A later call moves the deadline.
func (s *Shard) PostShutdown(deadline time.Time) {
	s.deadline.Store(int64(deadline.Sub(s.start)))
	s.inbox.signal(signalStopAccepting | signalShutdown)
}

// Done is closed when the loop has ended; never if Start was not called. Any goroutine.
func (s *Shard) Done() <-chan struct{} { return s.done }
