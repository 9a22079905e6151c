package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Protocol is the protocol of the clients.
type Protocol string

// The protocols.
const (
	Raw      Protocol = "raw"      // /ws?channel=NAME, one message per record.
	JSON     Protocol = "json"     // /connection/websocket, Centrifugo's client protocol.
	Protobuf Protocol = "protobuf" // The same with Protobuf.
)

// Channel is a channel that a share of the clients subscribes to.
type Channel struct {
	Name   string  // Name of the channel.
	Format *Format // Format of its records.

	// Produced returns the number of the last record that was sent to Kafka or is about to be. Any loop may call it.
	Produced func() uint64
}

// Options is what New needs. All fields are required except for Path, TLS, Tokens, Deflate, Recover, Disturb,
// ConnectRate, Sources and Unmeasured.
type Options struct {
	Server netip.AddrPort // Address of the server.
	Host   string         // Value of the Host field, with port.
	// Path of the upgrade request, in which {channel} is the channel's name. Default: wsd's.
	Path     string
	Protocol Protocol    // Protocol of the clients.
	TLS      *tls.Config // TLS for all connections; nil: none. It needs a ServerName or InsecureSkipVerify.
	Tokens   []string    // Tokens of the clients, used in turn; empty: none.
	Deflate  bool        // Whether to ask for compression, which the server must then accept.
	// Whether clients that come back ask for what they missed, and must get it. Not with Raw.
	Recover        bool
	Channels       []Channel     // Channels; client i subscribes to number i modulo their count.
	Clients        int           // Number of good clients.
	Loops          int           // Number of goroutines that share the clients.
	Dials          int           // Maximum number of attempts at the same time, in all loops.
	ConnectRate    float64       // Attempts per second; 0: as many as Dials allows.
	AttemptTimeout time.Duration // Timeout of an attempt, until it is subscribed.
	Sources        []netip.Addr  // Local addresses, used in turn; empty: the kernel chooses.
	Now            func() int64  // Returns nanoseconds since 1970, of the clock that the times of records come from.
	Disturb        Disturb       // Further clients that disturb the server; see Engine.Disturb.
	// Numbers of a channel up to this are in no latency: they only warm up. Default: none.
	Unmeasured uint64
}

func (o *Options) check() error {
	switch {
	case o.Clients < 1 || o.Clients+o.Disturb.Count > 1<<24:
		return fmt.Errorf("clients %d is not between 1 and %d", o.Clients, 1<<24)
	case o.Loops < 1 || o.Loops > o.Clients:
		return fmt.Errorf("loops %d is not between 1 and the number of clients", o.Loops)
	case o.Dials < o.Loops:
		return fmt.Errorf("dials %d is less than one a loop", o.Dials)
	case o.AttemptTimeout <= 0 || o.ConnectRate < 0:
		return errors.New("attempt timeout and connect rate must not be negative, nor the timeout zero")
	case o.Protocol != Raw && o.Protocol != JSON && o.Protocol != Protobuf:
		return fmt.Errorf("protocol %q is neither raw nor json nor protobuf", o.Protocol)
	case len(o.Channels) == 0:
		return errors.New("no channel to subscribe to")
	case o.Recover && o.Protocol == Raw:
		return errors.New("clients cannot recover with the protocol raw")
	}
	return o.Disturb.check()
}

// Phases of the loops, in order.
const (
	phaseDial  int32 = iota // Connect, and try again.
	phaseHold               // Begin no attempt, and drop current ones.
	phaseClose              // Close all connections and end.
)

// tickInterval is the time between two checks of deadlines, after which loops also publish their counters.
const tickInterval = 25 * time.Millisecond

// timesInterval is the time after which loops publish histograms.
const timesInterval = 500 * time.Millisecond

// Engine is all clients of the process.
type Engine struct {
	o        Options
	loops    []*loop
	phase    atomic.Int32
	draining atomic.Int64    // Number of calls of Drain.
	last     []atomic.Uint64 // Number of the last record, by channel; set before draining is.
	seen     []atomic.Uint64 // Number of a record that has arrived, by channel; almost always the last one.
	grace    atomic.Int64    // Time at which closing ends, on the clock of Options.Now.

	running    sync.WaitGroup
	ticking    sync.WaitGroup
	handshakes sync.WaitGroup // TLS handshakes.
	shaking    chan struct{}  // Limits concurrent TLS handshakes.
	stopped    chan struct{}  // Closed when the loops have ended.
}

// New returns an engine that has not connected yet. The caller must call Close to release its descriptors, even without
// Start.
func New(o Options) (*Engine, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	e := &Engine{o: o, last: make([]atomic.Uint64, len(o.Channels)), seen: make([]atomic.Uint64, len(o.Channels)),
		shaking: make(chan struct{}, handshakesMax), stopped: make(chan struct{})}
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

// Start begins to connect.
func (e *Engine) Start() {
	for _, l := range e.loops {
		e.running.Go(l.run)
	}
	e.ticking.Go(func() {
		ticker := time.NewTicker(tickInterval)
		defer ticker.Stop()
		start := time.Now()
		for {
			select {
			case <-ticker.C:
				// The time that was intended, so that a late goroutine counts as lag too.
				due := start.Add(time.Since(start).Truncate(tickInterval))
				for _, l := range e.loops {
					l.probe.CompareAndSwap(nil, &due)
				}
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

// do calls f in each loop soon.
func (e *Engine) do(f func(l *loop)) {
	for _, l := range e.loops {
		l.post(f)
	}
}

// ForgetLag forgets how late the loops were up to now, such as by the work of connecting.
func (e *Engine) ForgetLag() {
	e.do(func(l *loop) {
		l.recent.Lag.Reset()
		l.times.Lag.Reset()
	})
}

// Hold stops connecting. Current attempts are dropped and count as failed.
func (e *Engine) Hold() { e.advance(phaseHold) }

// Reconnect ends the connections of all held clients at once, with a RST if abrupt is true, else with a close frame.
// The clients connect again at once.
func (e *Engine) Reconnect(abrupt bool) { e.do(func(l *loop) { l.reconnect(abrupt) }) }

// Churn lets held clients leave with a close frame and come back, perSecond in all, one after the other; 0 stops that.
func (e *Engine) Churn(perSecond float64) {
	e.do(func(l *loop) { l.churn = churn{rate: perSecond / float64(len(e.loops)), since: l.now} })
}

// Drain lets Snapshot count in Behind how many open clients have not got the last record of their channel. last is the
// number of the last record, by channel. Behind is valid once Snapshot returns drained. Drain may be called again.
func (e *Engine) Drain(last []uint64) {
	for i, n := range last {
		e.last[i].Store(n)
	}
	e.draining.Add(1)
	e.wake()
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

// Snapshot returns the counters of all loops, at most some tens of milliseconds old, and whether Behind is valid.
func (e *Engine) Snapshot() (n Counters, drained bool) {
	drained = true
	for _, l := range e.loops {
		l.mu.Lock()
		Add(&n, &l.published)
		drained = drained && l.counted > 0 && l.counted == e.draining.Load()
		l.mu.Unlock()
	}
	return n, drained
}

// Disturbed returns what the disturbing clients have done and seen on connections that have ended, and how many of them
// are connected or will be.
func (e *Engine) Disturbed() (n Disturbed, active int64) {
	for _, l := range e.loops {
		l.mu.Lock()
		Add(&n, &l.publishedBad)
		active += l.badActive
		l.mu.Unlock()
	}
	return n, active
}

// Window returns what was measured since the last call of Window or Close.
func (e *Engine) Window() Times {
	t := NewTimes()
	for _, l := range e.loops {
		l.mu.Lock()
		t.Merge(&l.window)
		l.window.reset()
		l.mu.Unlock()
	}
	return t
}

// Seen returns the number of a record of a channel that some client has got, usually the last one.
func (e *Engine) Seen(channel int) uint64 { return e.seen[channel].Load() }

// Close sends close frames, waits at most grace for the server to close the connections, and drops the rest. Records
// that held clients miss then, up to the last ones passed to Drain, count in Lost and LostClosed. It returns the final
// counters and all that was measured. Close must be called once.
func (e *Engine) Close(grace time.Duration) (n Counters, t Times) {
	e.grace.Store(e.o.Now() + int64(grace))
	e.advance(phaseClose)
	e.running.Wait()
	close(e.stopped)
	e.ticking.Wait() // The ticking goroutine uses the pollers.
	t = NewTimes()
	for _, l := range e.loops {
		Add(&n, &l.n)
		t.Merge(&l.times)
		_ = l.poller.Close() // The process ends soon; nothing depends on it.
	}
	return n, t
}
