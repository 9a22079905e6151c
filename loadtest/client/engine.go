package client

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Protocol is what clients speak.
type Protocol string

// The protocols.
const (
	Raw  Protocol = "raw"  // /ws?channel=NAME: one message is one record.
	JSON Protocol = "json" // /connection/websocket: the Centrifugo client protocol.
)

// Channel is what a share of the clients subscribes to.
type Channel struct {
	Name   string
	Format *Format
	// Produced is the number of the last record that was given to Kafka or is about to be; called by any loop.
	Produced func() uint64
}

// Options say what to do. All fields but ConnectRate, Sources and Unmeasured are needed.
type Options struct {
	Server         netip.AddrPort
	Host           string // Of the Host field, with port.
	Protocol       Protocol
	Deflate        bool      // Ask for compression, which the server must then have.
	Channels       []Channel // Client i subscribes to the one at i modulo their number.
	Clients        int
	Loops          int           // Goroutines that share the clients.
	Dials          int           // Attempts under way at a time, all loops together.
	ConnectRate    float64       // Attempts begun a second; 0: as many as Dials allows.
	AttemptTimeout time.Duration // From connect to subscribed.
	Sources        []netip.Addr  // Local addresses, in turn; none: the kernel's choice.
	Now            func() int64  // Nanoseconds since 1970; the clock that records are stamped by.
	Unmeasured     uint64        // Numbers of a channel up to this are in no latency: they only warm up. Default: none.
}

func (o *Options) check() error {
	switch {
	case o.Clients < 1 || o.Clients > 1<<24:
		return fmt.Errorf("clients %d is not between 1 and %d", o.Clients, 1<<24)
	case o.Loops < 1 || o.Loops > o.Clients:
		return fmt.Errorf("loops %d is not between 1 and the number of clients", o.Loops)
	case o.Dials < o.Loops:
		return fmt.Errorf("dials %d is less than one a loop", o.Dials)
	case o.AttemptTimeout <= 0 || o.ConnectRate < 0:
		return errors.New("attempt timeout and connect rate must not be negative, nor the timeout zero")
	case o.Protocol != Raw && o.Protocol != JSON:
		return fmt.Errorf("protocol %q is neither raw nor json", o.Protocol)
	case len(o.Channels) == 0:
		return errors.New("no channel to subscribe to")
	}
	return nil
}

// What a loop does. A phase is followed by a later one only.
const (
	phaseDial  int32 = iota // Dial and retry.
	phaseHold               // Begin no attempt; those under way are dropped.
	phaseDrain              // Count who is behind.
	phaseClose              // Say goodbye and end.
)

// tickInterval is how often loops look at deadlines and publish their counters.
const tickInterval = 25 * time.Millisecond

// Engine is all clients of the process.
type Engine struct {
	o     Options
	loops []*loop
	phase atomic.Int32
	last  []atomic.Uint64 // Per channel, the last record; set before phaseDrain.
	seen  []atomic.Uint64 // Per channel, a record that came; hardly ever not the last that did.
	grace atomic.Int64    // When closing ends, on the clock of Options.Now.

	running sync.WaitGroup
	ticking sync.WaitGroup
	stopped chan struct{} // Closed when the loops have ended.
}

// New returns an engine that has not dialed yet, but holds descriptors: Close releases them, also when Start was not called.
func New(o Options) (*Engine, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	e := &Engine{o: o, last: make([]atomic.Uint64, len(o.Channels)), seen: make([]atomic.Uint64, len(o.Channels)), stopped: make(chan struct{})}
	for i := range o.Loops {
		l, err := newLoop(e, i)
		if err != nil {
			for _, l := range e.loops {
				err = errors.Join(err, l.poller.Close())
			}
			return nil, err
		}
		e.loops = append(e.loops, l)
	}
	return e, nil
}

// Start begins to dial.
func (e *Engine) Start() {
	for _, l := range e.loops {
		e.running.Go(l.run)
	}
	e.ticking.Go(func() {
		ticker := time.NewTicker(tickInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				e.wake()
			case <-e.stopped:
				return
			}
		}
	})
}

func (e *Engine) wake() {
	for _, l := range e.loops {
		l.poller.Wake()
	}
}

// Hold ends dialing: attempts under way are dropped and count as failed.
func (e *Engine) Hold() { e.advance(phaseHold) }

// Drain makes Snapshot tell in Behind how many open clients have not got the last record of their channel; last is per channel. The
// loops take a moment to count: Behind is known once Snapshot says so.
func (e *Engine) Drain(last []uint64) {
	for i, n := range last {
		e.last[i].Store(n)
	}
	e.advance(phaseDrain)
}

func (e *Engine) advance(to int32) {
	for {
		now := e.phase.Load()
		if now >= to || e.phase.CompareAndSwap(now, to) {
			e.wake()
			return
		}
	}
}

// Snapshot returns the counters of all loops, at most some tens of milliseconds old, and whether Behind is known.
func (e *Engine) Snapshot() (n Counters, drained bool) {
	drained = true
	for _, l := range e.loops {
		l.mu.Lock()
		n.add(&l.published)
		drained = drained && l.counted
		l.mu.Unlock()
	}
	return n, drained
}

// Seen returns the number of a record of a channel that some client has got, about the last one.
func (e *Engine) Seen(channel int) uint64 { return e.seen[channel].Load() }

// Close sends close frames, waits at most grace for the server to end the connections, and drops what is left. What clients that were
// subscribed miss then, up to what Drain was told, is in Lost and LostClosed. It returns the final counters and the histograms, in
// microseconds: from connect to subscribed, and from the record's time to the end of the read that brought it. Call it once.
func (e *Engine) Close(grace time.Duration) (n Counters, connect, latency *hdrhistogram.Histogram) {
	e.grace.Store(e.o.Now() + int64(grace))
	e.advance(phaseClose)
	e.running.Wait()
	close(e.stopped)
	e.ticking.Wait() // It uses the pollers.
	connect, latency = newHistogram(), newHistogram()
	for _, l := range e.loops {
		n.add(&l.n)
		connect.Merge(l.connect)
		latency.Merge(l.latency)
		_ = l.poller.Close() // The process ends soon; nothing depends on it.
	}
	return n, connect, latency
}
