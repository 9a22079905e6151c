package tlshandshake

import (
	"cmp"
	"container/list"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Options is what New needs.
type Options struct {
	Workers    int         // Handshakes that compute at the same time, at least 1.
	PendingMax int         // Handshakes that wait for their client, and as many that compute or wait to; at least 1.
	Config     *tls.Config // See SetConfig.
	// Patience is how long a handshake may wait to begin and still be in time, so that the first to come is the first
	// to begin: half of the time that clients have. 0: 2.5 s.
	Patience time.Duration
}

// Pool does handshakes.
type Pool struct {
	o      Options
	config atomic.Pointer[tls.Config]
	stats  *Stats

	mu        sync.Mutex
	turns     turns
	computing int       // Handshakes that compute or wait to.
	waiting   list.List // Of *Handshake: those that wait for their client, the longest first.
}

// New returns a Pool. It starts no goroutine; each handshake has one of its own from when it begins to compute until it
// ends.
func New(o Options) (*Pool, error) {
	if o.Workers < 1 || o.PendingMax < 1 || o.Config == nil {
		return nil, fmt.Errorf("BUG: TLS handshakes with %d workers, at most %d", o.Workers, o.PendingMax)
	}
	p := &Pool{o: o, stats: NewStats(), turns: turns{free: o.Workers, patience: cmp.Or(o.Patience, patience)}}
	p.SetConfig(o.Config)
	return p, nil
}

// SetConfig has all handshakes that begin from now on use a configuration. It must come from NewConfig and have ticket
// keys set by SetSessionTicketKeys: each handshake uses a copy, and without keys a copy makes its own, so that no
// session would ever be resumed. The configuration must not be changed afterwards.
func (p *Pool) SetConfig(c *tls.Config) { p.config.Store(c) }

// Config returns the configuration of new handshakes, which must not be changed.
func (p *Pool) Config() *tls.Config { return p.config.Load() }

// Stats returns the pool's counters.
func (p *Pool) Stats() *Stats { return p.stats }

// Begin begins a handshake with the client's first records, which must be whole; the Handshake takes over the slice. It
// returns nil when too many handshakes compute or wait to compute, unless one of them has waited so long that it gives
// way. report is called once, by another goroutine, for the first step: see Handshake.Await.
func (p *Pool) Begin(records []byte, report func(Step)) *Handshake {
	h := &Handshake{pool: p, in: records, report: report, began: time.Now(), wake: make(chan struct{}, 1),
		turn: make(chan struct{}, 1)}
	h.secrets.hello(records)
	p.stats.Pending.Add(1)
	gives, ok := p.start(h)
	if !ok {
		p.stats.Pending.Add(-1)
		p.stats.Results[ResultRefused].Add(1)
		return nil
	}
	if gives != nil {
		gives.stop(ResultEvicted)
		go gives.run()
	}
	return h
}

// await puts h among those that wait for their client. If there are too many, the one that has waited longest ends. It
// returns an error if h itself is to end, which must not cost another one its place.
func (p *Pool) await(h *Handshake) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if why := h.stoppedWhy(); why != nil {
		return why
	}
	p.computing--
	h.place = p.waiting.PushBack(h)
	if p.waiting.Len() > p.o.PendingMax {
		oldest, _ := p.waiting.Front().Value.(*Handshake)
		p.leaveLocked(oldest)
		oldest.stop(ResultEvicted)
	}
	return nil
}

// leave takes h out of those that wait. It is then among those that compute.
func (p *Pool) leave(h *Handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaveLocked(h)
}

func (p *Pool) leaveLocked(h *Handshake) {
	if h.place != nil {
		p.waiting.Remove(h.place)
		h.place = nil
		p.computing++
	}
}

// done counts the end of a handshake.
func (p *Pool) done(h *Handshake, result Result) {
	p.mu.Lock()
	p.leaveLocked(h)
	p.computing--
	p.mu.Unlock()
	p.stats.Pending.Add(-1)
	p.stats.Results[result].Add(1)
	p.stats.Duration.Observe(time.Since(h.began).Seconds(), 1)
}
