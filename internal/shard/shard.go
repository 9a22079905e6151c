package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"time"

	"wsd/internal/bus"
	"wsd/internal/epoll"
	"wsd/internal/routing"
	"wsd/internal/wire"
)

// eventsPerTurn bounds the ready sockets that one turn serves.
const eventsPerTurn = 256

// Requests that other goroutines post, as bits of Shard.requests.
const (
	requestStopAccepting uint32 = 1 << iota
	requestShutdown
	requestLayouts // A segment that this shard waits for has been compressed.
	requestAnswers // There is something in Shard.answers.
)

// Shard is one event loop with the connections that it owns. See the package comment for who may touch what.
type Shard struct {
	id          routing.ShardID
	limits      Limits
	cursor      *bus.Cursor
	head        func() uint64
	interest    *routing.Interest
	positions   Positions
	load        LoadReporter
	descriptors *Descriptors
	serving     *atomic.Bool
	slow        []SlowPolicy
	logger      *slog.Logger
	deflate     Deflate
	recovery    RecoveryOptions

	version     string
	nonce       uint64
	shardHeader bool

	// For every goroutine.
	stats    *Stats
	poller   *epoll.Poller // Its Wake only.
	requests atomic.Uint32
	answers  atomic.Pointer[answer] // Newest first.
	deadline atomic.Int64           // Of the shutdown, in nanoseconds since start.
	done     chan struct{}

	// Connections.
	slab     slab
	released []uint32 // Slots that become free at the end of the turn.
	doomed   []uint32 // Slots of connections that end with the current part of the turn.
	recalls  []recall // Connections that are to be told to come back, from recallNext on.
	dirty    []uint32 // Slots of connections that the flush looks at.
	wrote    []uint32 // Slots of connections that were flushed before in this turn.
	queues   [][]chunk
	readBuf  []byte
	replies  []byte
	iovecs   epoll.Iovecs
	pendings []pending
	oldest   []time.Time // Oldest record of each batch delivered in this turn.
	aheadSeq uint64      // Next batch that takeAhead looks at.
	singles  singles     // Of the segment being delivered.
	pins     []pin       // The first is none.
	freePins []uint32
	pinLook  uint32 // Tick of the last look at who holds the oldest batches.
	inflater wire.Inflater

	recallNext int

	// Compression elsewhere.
	layoutReady func() // Posts requestLayouts; any goroutine.
	waits       []wait
	holders     [][]holder // Empty lists for reuse.

	// Channels.
	channels     []channel
	channelIndex map[string]uint32
	channelByID  map[routing.ChannelID]uint32
	freeChannels []uint32
	everybody    routing.ChannelID // Of routing.Everybody while there are clients.

	// Subscriptions whose reply waits for an answer.
	recoverings map[recoveringKey]*recovering
	heldBytes   int                  // Of publications held for them, and of answers put off.
	answered    []*answer            // Answers that came, in order, and wait for a turn.
	putOff      map[uint32][]*answer // By slot: answers for which the connection had no room.

	// Slow clients that are to resubscribe.
	resyncing []resync
	resynced  map[uint32]resyncs // By slot.

	// Listeners.
	listeners     []int
	stopAccepting bool
	acceptAgainAt uint32 // Tick at which a pause ends; 0: no pause.

	// Time. A tick is tickLength since start.
	start     time.Time
	startMono uint64 // start as CLOCK_MONOTONIC nanoseconds.
	tick      uint32 // The turn's.
	wheel     *wheel
	heldTurns int // Turns for which timers have been put off, see expireTimers.
	timer     *time.Timer
	timerAt   uint32 // Tick for which timer is set; 0: not set.
	random    *rand.Rand

	// Shutdown.
	closing   bool
	closeNext uint32 // Slot that the next portion of closes begins with.

	turn          turnCounts
	turnNumber    uint32 // Of deliver's turns; it may wrap around.
	outboundBytes int64
	pacing        pacing

	// For the load reporter.
	acceptedInTurn uint64
	accepting      bool // The turn before has accepted somebody.
	closedInTurn   uint64
}

// turnCounts collects in plain fields what is added to Stats once a turn.
type turnCounts struct {
	writes, bytesOut, deliveries, bytesIn, framesIn, batches, records, conflated uint64
}

// New returns a shard that is ready to Start. The caller may hand it to the bus as a sleeper before that: Post methods work from
// now on.
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
		id: o.ID, limits: o.Limits, cursor: o.Cursor, head: o.Head, interest: o.Interest, positions: o.Positions, load: o.Load, descriptors: o.Descriptors,
		serving: o.Serving, slow: o.Slow, deflate: o.Deflate, recovery: o.Recovery, logger: o.Logger, version: o.Version, nonce: o.Nonce, shardHeader: o.ShardHeader,
		stats: newStats(), poller: poller, done: make(chan struct{}),
		// Whatever is incomplete fits in with room to spare: a message with its header, or a head.
		readBuf:      make([]byte, max(o.Limits.HeadMax, wire.DeflatedMax(o.Limits.MessageMax)+readMargin)+readMargin),
		channelIndex: make(map[string]uint32), channelByID: make(map[routing.ChannelID]uint32), recoverings: make(map[recoveringKey]*recovering), putOff: make(map[uint32][]*answer), resynced: make(map[uint32]resyncs),
		listeners: o.Listeners, wheel: newWheel(), random: rand.New(rand.NewPCG(o.Nonce, uint64(o.ID))),
	}
	s.pacing.moment, s.pins = 1, make([]pin, 1)
	s.layoutReady = func() { s.post(requestLayouts) }
	s.start, s.startMono = time.Now(), epoll.Monotonic()
	s.timer = time.AfterFunc(time.Hour, poller.Wake)
	s.timer.Stop()
	return s, nil
}

// readMargin is more than any frame header and keeps reads from becoming tiny while a large frame arrives.
const readMargin = 4096

// Start runs the loop in a goroutine of its own until PostShutdown. It must be called once.
func (s *Shard) Start() {
	labels := pprof.Labels("component", "shard", "shard", strconv.Itoa(int(s.id)))
	go pprof.Do(context.Background(), labels, func(context.Context) { s.run() })
}

// Stats returns the shard's counters.
func (s *Shard) Stats() *Stats { return s.stats }

// PostWake makes the loop look at the bus. Any goroutine; it costs an atomic operation unless the shard waits.
func (s *Shard) PostWake() { s.poller.Wake() }

// PostStopAccepting makes the shard take what is in its accept queues and close its listeners. Any goroutine.
func (s *Shard) PostStopAccepting() { s.post(requestStopAccepting) }

// PostShutdown makes the shard deliver what is on the bus, close its connections with 3001 or 1001, and end its loop when all are
// closed, or at the deadline by force. It implies PostStopAccepting. Any goroutine; nothing may be published on the bus after it.
func (s *Shard) PostShutdown(deadline time.Time) {
	s.deadline.Store(int64(deadline.Sub(s.start)))
	s.post(requestStopAccepting | requestShutdown)
}

// Done is closed when the loop has ended.
func (s *Shard) Done() <-chan struct{} { return s.done }

func (s *Shard) post(bits uint32) {
	s.requests.Or(bits)
	s.poller.Wake()
}
