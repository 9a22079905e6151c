package proxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"wsd/internal/stats"
)

// Options is what a Pool is built from.
type Options struct {
	Endpoints      []Endpoint
	Timeout        time.Duration      // From Call to the end of the answer, waiting included.
	Concurrency    int                // Calls of one kind that are under way at the same time.
	WaitingMax     int                // Calls of one kind that may wait for that.
	BytesMax       int64              // Bytes of requests and answers of all calls.
	AnswerBytesMax int                // Bytes of one answer.
	JSONDepthMax   int                // How deep JSON for clients may be nested.
	Binary         bool               // Send data in base64, so that they may be any bytes.
	Static         [][2]string        // Header fields of each request. Those of the client replace them.
	TLS            func() *tls.Config // Called for each new connection to an https endpoint; nil: the defaults.
	Logger         *slog.Logger
}

// Endpoint is where calls go.
type Endpoint struct {
	Kind    Kind
	Pattern string // Of KindRPC: a method, or a prefix followed by *.
	URL     string
}

// Pool makes calls.
type Pool struct {
	o      Options
	client *http.Client
	queues [kindCount]queue
	stats  *Stats
	ctx    context.Context //nolint:containedctx // It ends with the Pool.
	close  context.CancelFunc
	done   sync.WaitGroup // Goroutines.
}

// Stats counts what a Pool does. Any goroutine may read it.
type Stats struct {
	Results [kindCount][resultCount]atomic.Uint64 // Calls that ended, by Kind and Result.
	Retries [kindCount]atomic.Uint64              // Requests that were sent once more.
	Running [kindCount]atomic.Int64               // Calls under way.
	Waiting [kindCount]atomic.Int64               // Calls that wait for others of their kind to end.
	Bytes   atomic.Int64                          // Bytes of requests and answers of all calls.
	Seconds [kindCount]*stats.Histogram           // Time from Call to the answer, of calls that were not canceled.
}

// New returns a Pool. It starts goroutines only for calls.
func New(o Options) *Pool {
	p := &Pool{o: o, stats: NewStats()}
	p.ctx, p.close = context.WithCancel(context.Background())
	p.client = newClient(&p.o)
	for k := range p.queues {
		p.queues[k].log = throttle{logger: o.Logger, kind: Kind(k)}
	}
	return p
}

// NewStats returns counters of nothing.
func NewStats() *Stats {
	s := &Stats{}
	for k := range s.Seconds {
		s.Seconds[k] = stats.NewHistogram(stats.LatencyBounds())
	}
	return s
}

// Stats returns the pool's counters.
func (p *Pool) Stats() *Stats { return p.stats }

// Serves reports whether there is an endpoint for calls of a kind.
func (p *Pool) Serves(kind Kind) bool {
	for i := range p.o.Endpoints {
		if p.o.Endpoints[i].Kind == kind {
			return true
		}
	}
	return false
}

// endpoint returns the first endpoint that fits a request, nil if none does.
func (p *Pool) endpoint(r *Request) *Endpoint {
	for i := range p.o.Endpoints {
		e := &p.o.Endpoints[i]
		if e.Kind == r.Kind && (r.Kind != KindRPC || fits(e.Pattern, r.Method)) {
			return e
		}
	}
	return nil
}

// fits reports whether a pattern means a method.
func fits(pattern, method string) bool {
	if n := len(pattern) - 1; n >= 0 && pattern[n] == '*' {
		return len(method) >= n && method[:n] == pattern[:n]
	}
	return pattern == method
}

// call is a Request under way.
type call struct {
	r        *Request
	endpoint *Endpoint
	began    time.Time
	answer   func(*Answer, *Failure)
	ctx      context.Context //nolint:containedctx // It ends with the call.
	cancel   context.CancelFunc
	bytes    int64 // Of Stats.Bytes.

	prev, next *call       // In the queue.
	waits      bool        // It is in the queue.
	stop       func() bool // Has the end of ctx not take it out of the queue any longer.
}

// Call makes a call and gives answer what came of it: an Answer, or why there is none. It calls answer exactly once,
// perhaps before it returns, else from another goroutine. cancel, which may be called at any time, ends the call early.
func (p *Pool) Call(r *Request, answer func(*Answer, *Failure)) (cancel func()) {
	c := &call{r: r, began: time.Now(), answer: answer, bytes: int64(r.bytes())}
	c.ctx, c.cancel = context.WithTimeout(p.ctx, p.o.Timeout)
	c.endpoint = p.endpoint(r)
	over := p.stats.Bytes.Add(c.bytes) > p.o.BytesMax
	switch {
	case c.endpoint == nil:
		p.end(c, nil, &Failure{Result: ResultNoEndpoint})
	case !p.o.Binary && !dataFit(r.Data):
		p.end(c, nil, &Failure{Result: ResultBadData})
	case over:
		p.end(c, nil, &Failure{Result: ResultBusy, Cause: "calls take too many bytes (proxy.bytes_max)"})
	default:
		p.enter(c)
	}
	return c.cancel
}

// queue is the calls of one kind: some under way, others waiting, in order.
type queue struct {
	log throttle

	mu          sync.Mutex
	running     int
	waiting     int
	first, last *call
}

// enter has a call made now, or when others have ended.
func (p *Pool) enter(c *call) {
	k := c.r.Kind
	q := &p.queues[k]
	q.mu.Lock()
	switch {
	case p.ctx.Err() != nil:
		q.mu.Unlock()
		p.end(c, nil, &Failure{Result: ResultCanceled})
	case q.running < p.o.Concurrency:
		q.running++
		p.done.Add(1)
		q.mu.Unlock()
		go p.run(c)
	case q.waiting >= p.o.WaitingMax:
		q.mu.Unlock()
		p.end(c, nil, &Failure{Result: ResultBusy, Cause: "too many calls wait (proxy.waiting_max)"})
	default:
		q.push(c)
		p.stats.Waiting[k].Store(int64(q.waiting))
		c.stop = context.AfterFunc(c.ctx, func() { p.leave(c) })
		q.mu.Unlock()
	}
}

// leave takes a call that waits out of the queue, because it has taken too long or its client has gone.
func (p *Pool) leave(c *call) {
	k := c.r.Kind
	q := &p.queues[k]
	q.mu.Lock()
	waits := c.waits
	if waits {
		q.remove(c)
		p.stats.Waiting[k].Store(int64(q.waiting))
		p.done.Add(1)
	}
	q.mu.Unlock()
	if waits {
		p.end(c, nil, whyOver(c.ctx))
		p.done.Done()
	}
}

func (q *queue) push(c *call) {
	c.waits, c.prev = true, q.last
	if q.last == nil {
		q.first = c
	} else {
		q.last.next = c
	}
	q.last = c
	q.waiting++
}

func (q *queue) remove(c *call) {
	if c.prev == nil {
		q.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		q.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.waits, c.prev, c.next = false, nil, nil
	q.waiting--
}

// run makes a call, and then those that wait, until none does.
func (p *Pool) run(c *call) {
	defer p.done.Done()
	k := c.r.Kind
	q := &p.queues[k]
	p.stats.Running[k].Add(1)
	pprof.Do(context.Background(), pprof.Labels("component", "proxy", "kind", k.String()), func(context.Context) {
		for c != nil {
			a, f := p.make(c)
			p.end(c, a, f)
			q.mu.Lock()
			if c = q.first; c != nil {
				c.stop()
				q.remove(c)
				p.stats.Waiting[k].Store(int64(q.waiting))
			} else {
				q.running--
			}
			q.mu.Unlock()
		}
	})
	p.stats.Running[k].Add(-1)
}

// end gives a call its answer.
func (p *Pool) end(c *call, a *Answer, f *Failure) {
	k := c.r.Kind
	result := ResultOK
	switch {
	case f != nil:
		result = f.Result
	case a.Error != nil:
		result = ResultError
	case a.Disconnect != nil:
		result = ResultDisconnect
	}
	c.cancel()
	p.stats.Results[k][result].Add(1)
	if result != ResultCanceled {
		p.stats.Seconds[k].Observe(time.Since(c.began).Seconds(), 1)
		p.queues[k].log.note(c.endpoint, f)
	}
	c.answer(a, f)
	p.stats.Bytes.Add(-c.bytes)
}

// whyOver returns why a context has ended.
func whyOver(ctx context.Context) *Failure {
	if ctx.Err() == context.DeadlineExceeded {
		return &Failure{Result: ResultTimeout}
	}
	return &Failure{Result: ResultCanceled}
}

// Close ends all calls with ResultCanceled, and returns when they have ended. Later ones end at once.
func (p *Pool) Close() {
	p.close()
	for k := range p.queues {
		q := &p.queues[k]
		for c := q.take(); c != nil; c = q.take() {
			p.end(c, nil, &Failure{Result: ResultCanceled})
		}
		p.stats.Waiting[k].Store(0)
	}
	p.done.Wait()
	p.client.CloseIdleConnections()
}

// take removes the call that has waited longest, and returns it; nil: none waits.
func (q *queue) take() *call {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.first
	if c != nil {
		c.stop()
		q.remove(c)
	}
	return c
}
