package tlshandshake

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"wsd/internal/tlsrecord"
)

// Step is what a handshake reports.
type Step struct {
	Out []byte // To be sent to the client, if anything.

	// Done says that the handshake has ended, with Err or with the rest.
	Done bool
	Err  error           // Why it failed.
	Conn *tlsrecord.Conn // What goes on from here.
	Rest []byte          // Records that were fed and are for Conn.
	Info Info            // What was agreed on.
}

// Info is what client and server have agreed on.
type Info struct {
	Version uint16 // tls.VersionTLS12 or tls.VersionTLS13.
	Suite   uint16
	Resumed bool // By a session ticket.
}

// The errors of a handshake that ended for another reason than what the client sent.
var (
	ErrEvicted = errors.New("too many TLS handshakes are under way, and this one has waited longest")
	errGone    = errors.New("the client is gone")
)

// Handshake is one handshake under way.
type Handshake struct {
	pool  *Pool
	began time.Time

	// Under the pool's lock.
	place  *list.Element // In Pool.waiting.
	queued *list.Element // In Pool.turns.
	begun  bool          // It has had a turn.

	wake chan struct{} // Has an element when the client has sent something, or stopped is set.
	turn chan struct{} // Has an element when it has waited for a turn and has one.

	mu      sync.Mutex
	in      []byte     // Whole records that were fed and not read.
	report  func(Step) // Of the next step; nil until Await.
	owed    *Step      // A report that waits for Await.
	stopped Result     // ResultEvicted or ResultGone: it is to end.

	// Of the handshake's own goroutine, once it runs.
	has     bool   // It has a turn.
	body    int    // Bytes that are left of the record being read.
	written []byte // All that was written.
	sent    int    // Bytes of written that were reported.
	secrets secrets
}

// Feed gives the handshake more whole records of the client. It takes over the slice.
func (h *Handshake) Feed(records []byte) {
	h.pool.leave(h)
	h.mu.Lock()
	if len(h.in) == 0 {
		h.in = records
	} else {
		h.in = append(h.in, records...)
	}
	h.mu.Unlock()
	h.signal()
}

// Await has the next step reported: by another goroutine, or if it ended meanwhile by this call. It must be called
// after each step that was not the last one.
func (h *Handshake) Await(report func(Step)) {
	h.mu.Lock()
	owed := h.owed
	if owed == nil {
		h.report = report
	}
	h.owed = nil
	h.mu.Unlock()
	if owed != nil {
		report(*owed)
	}
}

// Abandon ends a handshake whose client is gone. Its last step is still reported.
func (h *Handshake) Abandon() {
	h.stop(ResultGone) // Before it leaves: it must not enter again.
	h.pool.leave(h)
	if h.pool.leaveFresh(h) {
		go h.run() // To its end.
	}
}

func (h *Handshake) stop(why Result) {
	h.mu.Lock()
	if h.stopped == 0 {
		h.stopped = why
	}
	h.mu.Unlock()
	h.signal()
}

func (h *Handshake) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// tell reports a step, now or when it is awaited.
func (h *Handshake) tell(s Step) {
	s.Out = h.written[h.sent:]
	h.sent = len(h.written)
	h.mu.Lock()
	report := h.report
	h.report = nil
	if report == nil {
		h.owed = &s
	}
	h.mu.Unlock()
	if report != nil {
		report(s)
	}
}

// run is the handshake's goroutine. It has a turn, or is to end.
func (h *Handshake) run() {
	pprof.Do(context.Background(), pprof.Labels("component", "tls"), func(context.Context) { h.finish() })
}

func (h *Handshake) finish() {
	p := h.pool
	runtime.Gosched()
	step := h.shake()
	p.pass(h)
	h.mu.Lock()
	step.Done, step.Rest = true, h.in
	stopped := h.stopped
	h.mu.Unlock()
	result := ResultFull
	switch {
	case step.Err == nil && step.Info.Resumed:
		result = ResultResumed
	case step.Err == nil:
	case stopped != 0:
		result = stopped
	default:
		result = ResultFailed
	}
	if step.Err == nil && step.Info.Version == tls.VersionTLS13 {
		p.stats.TLS13.Add(1)
	} else if step.Err == nil {
		p.stats.TLS12.Add(1)
	}
	p.done(h, result)
	h.tell(step)
}

// shake does the handshake.
func (h *Handshake) shake() Step {
	if why := h.stoppedWhy(); why != nil {
		return Step{Err: why}
	}
	config := h.pool.config.Load().Clone()
	// One for each connection: the client chooses its random, and two clients may choose the same.
	config.KeyLogWriter = &h.secrets
	h.secrets.resumable(config)
	conn := tls.Server(stream{h: h}, config)
	// Abandon and eviction end it by an error of Read, so there is nothing for a context to do.
	if err := conn.HandshakeContext(context.Background()); err != nil {
		if why := h.stoppedWhy(); why != nil {
			err = why
		}
		return Step{Err: err}
	}
	cs := conn.ConnectionState()
	records, err := h.secrets.conn(&cs, h.written)
	if err != nil {
		return Step{Err: err}
	}
	return Step{Conn: records, Info: Info{Version: cs.Version, Suite: cs.CipherSuite, Resumed: cs.DidResume}}
}

func (h *Handshake) stoppedWhy() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.stopped {
	case ResultEvicted:
		return ErrEvicted
	case ResultGone:
		return errGone
	default:
		return nil
	}
}

// take returns at most n bytes of what was fed, nil if there is none.
func (h *Handshake) take(n int) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.in[:min(n, len(h.in))]
	h.in = h.in[len(b):]
	return b
}

// stream is the connection that crypto/tls sees: what was fed and what is to be sent.
type stream struct {
	net.Conn // Nil: crypto/tls calls Read and Write only, as nobody closes it or sets deadlines.
	h        *Handshake
}

// Read reads the header of a record, then its rest, and never beyond it: what comes after the client's last message
// is for the record layer.
func (s stream) Read(b []byte) (int, error) {
	h := s.h
	n := h.body
	if n == 0 {
		n = tlsrecord.HeaderLen
	}
	part := h.take(min(n, len(b)))
	for len(part) == 0 {
		if err := h.wait(); err != nil {
			return 0, err
		}
		part = h.take(min(n, len(b)))
	}
	if h.body > 0 {
		h.body -= len(part)
		return copy(b, part), nil
	}
	if len(part) < tlsrecord.HeaderLen { // Records are fed whole, and crypto/tls asks for a header at least.
		return 0, io.ErrUnexpectedEOF
	}
	h.body = int(part[3])<<8 + int(part[4])
	return copy(b, part), nil
}

// Write keeps what is to be sent until the handshake waits or ends.
func (s stream) Write(b []byte) (int, error) {
	s.h.written = append(s.h.written, b...)
	return len(b), nil
}

// wait reports a step and waits until the client has sent more. Another handshake may compute meanwhile.
func (h *Handshake) wait() error {
	p := h.pool
	p.pass(h)
	if err := p.await(h); err != nil {
		return err
	}
	h.tell(Step{})
	<-h.wake
	return p.take(h)
}
