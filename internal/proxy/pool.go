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
	BytesMax       int64              // Bytes of requests and answers of all calls; half of it for those of one kind.
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

// target is an Endpoint with what is logged of it.
type target struct {
	Endpoint
	log throttle
}

// Pool makes calls.
type Pool struct {
	o       Options
	client  *http.Client
	targets []*target
	queues  [kindCount]queue
	stats   *Stats
	bytes   atomic.Int64    // Of requests and answers of all calls.
	ctx     context.Context //nolint:containedctx // It ends with the Pool.
	close   context.CancelFunc
	done    sync.WaitGroup // Goroutines.
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
	for _, e := range o.Endpoints {
		p.targets = append(p.targets, &target{Endpoint: e, log: throttle{logger: o.Logger}})
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

// Connections returns how many connections the calls under way may need.
func (p *Pool) Connections() (n int) {
	for _, k := range Kinds() {
		if p.Serves(k) {
			n += p.o.Concurrency
		}
	}
	return n
}

// target returns the first endpoint that fits a request, nil if none does.
func (p *Pool) target(r *Request) *target {
	for _, e := range p.targets {
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
	r      *Request
	target *target // Nil: there is none.
	began  time.Time
	answer func(*Answer, *Failure)
	ctx    context.Context //nolint:containedctx // It ends with the call.
	cancel context.CancelFunc
	bytes  int64 // Of Pool.bytes.

	number uint64      // Among the calls of its kind that have waited.
	place  int         // In queue.waiting, or placeNone.
	stop   func() bool // Has the end of ctx not take it out of the queue any longer.
}

// Call makes a call and gives answer what came of it: an Answer, or why there is none. It calls answer exactly once,
// perhaps before it returns, else from another goroutine. cancel, which may be called at any time, ends the call early.
func (p *Pool) Call(r *Request, answer func(*Answer, *Failure)) (cancel func()) {
	c := &call{r: r, began: time.Now(), answer: answer, place: placeNone}
	c.ctx, c.cancel = context.WithTimeout(p.ctx, p.o.Timeout)
	c.target = p.target(r)
	fits := p.addBytes(c, int64(r.bytes()))
	switch {
	case c.target == nil:
		p.end(c, nil, &Failure{Result: ResultNoEndpoint})
	case !p.o.Binary && !dataFit(r.Data):
		p.end(c, nil, &Failure{Result: ResultBadData})
	case !fits:
		p.end(c, nil, tooManyBytes())
	default:
		p.enter(c)
	}
	return c.cancel
}

// addBytes counts n more bytes of a call, and reports whether there is room for them. Calls of a kind may take as much
// as is free: those of one kind alone half of BytesMax, so that there is always some room for other kinds.
func (p *Pool) addBytes(c *call, n int64) bool {
	c.bytes += n
	p.stats.Bytes.Add(n)
	all, own := p.bytes.Add(n), p.queues[c.r.Kind].bytes.Add(n)
	return own <= p.o.BytesMax-all
}

func tooManyBytes() *Failure {
	return &Failure{Result: ResultBusy, Cause: "calls take too many bytes (proxy.bytes_max)"}
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
			if c = p.next(k); c == nil {
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
		if c.target != nil {
			c.target.log.note(&c.target.Endpoint, f)
		}
	}
	c.answer(a, f)
	p.addBytes(c, -c.bytes)
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
		for c := p.takeNext(Kind(k)); c != nil; c = p.takeNext(Kind(k)) {
			p.end(c, nil, &Failure{Result: ResultCanceled})
		}
	}
	p.done.Wait()
	p.client.CloseIdleConnections()
}

// takeNext is next for who has not locked the queue.
func (p *Pool) takeNext(k Kind) *call {
	q := &p.queues[k]
	q.mu.Lock()
	defer q.mu.Unlock()
	return p.next(k)
}
