package publishing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// timeout is for connecting, and for each answer before the load begins.
const timeout = 30 * time.Second

// Options are what to do.
type Options struct {
	URL, Admin, Token string
	Publishers        int     // Clients that publish.
	Rate              float64 // Publications a second of each.
	Abusers           int     // Clients that publish at Abuse times the rate, in the second half of Duration.
	Abuse             float64
	Subscribers       int    // Clients that subscribe to the first channel.
	Channels          int    // Publishers are spread over as many channels.
	Channel           string // Beginning of their names, before a number.
	Size              int    // Bytes of a publication, roughly.
	Duration, Warmup  time.Duration
	// Brokers and topic of a bare loop beside it; without brokers there is none.
	Brokers []string
	Topic   string
	// Topic to which Brokers get records for the first channel at the rate, their key, and the header that names the
	// channel. Empty: none.
	Feed, FeedKey, FeedHeader string
}

// Run is one run.
type Run struct {
	o       Options
	began   time.Time
	padding string
	warm    atomic.Bool

	sent, acked, received, garbled atomic.Int64
	ackedAbusers                   atomic.Int64
	abused                         atomic.Bool // The abusers have begun.

	mu     sync.Mutex
	halves [2]half // Before the abusers begin, and beside them.
	bare   *hdrhistogram.Histogram
	errors map[string]int64
}

// half is what was measured in a part of the run, in microseconds.
type half struct{ ack, receive *hdrhistogram.Histogram }

func newHalf() half { return half{histogram(), histogram()} }

// half returns where to record what comes now.
func (r *Run) half() *half {
	if r.abused.Load() {
		return &r.halves[1]
	}
	return &r.halves[0]
}

func histogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
}

func (r *Run) record(h *hdrhistogram.Histogram, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = h.RecordValue(max(d.Microseconds(), 1))
}

func (r *Run) refused(code uint32, abuser bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	who := "publishers"
	if abuser {
		who = "abusers"
	}
	r.errors[fmt.Sprintf("%d (%s)", code, who)]++
}

// failed notes a record of the feed that was not written.
func (r *Run) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors[err.Error()+" (publishers)"]++
}

// Execute runs and writes the result. The error says what failed, also if publishers got errors that they should not.
func Execute(ctx context.Context, o Options, out io.Writer) error {
	r := &Run{o: o, began: time.Now(), padding: strings.Repeat("x", max(0, o.Size-40)),
		halves: [2]half{newHalf(), newHalf()}, bare: histogram(), errors: make(map[string]int64)}
	var clients []*client
	defer func() {
		for _, c := range clients {
			_ = c.conn.Close()
		}
	}()
	add := func(n int, rate float64, abuser bool) error {
		for i := range n {
			number := i % o.Channels
			if abuser {
				number = o.Channels - 1 - number // Not the first one, which subscribers have.
			}
			c, err := r.open(ctx, o.Channel+strconv.Itoa(number), rate, rate == 0)
			if err != nil {
				return err
			}
			c.abuser = abuser
			clients = append(clients, c)
		}
		return nil
	}
	o.Channels = max(o.Channels, 1)
	if err := errors.Join(add(o.Publishers, o.Rate, false), add(o.Abusers, o.Abuse*o.Rate, true)); err != nil {
		return err
	}
	o.Channels = 1
	if err := add(o.Subscribers, 0, false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Warmup+o.Duration)
	defer cancel()
	var reading, publishing sync.WaitGroup
	if o.Feed != "" {
		producer, err := r.openFeed()
		if err != nil {
			return err
		}
		defer producer.Close()
		publishing.Go(func() { r.feed(ctx, producer) })
	}
	for i, c := range clients {
		reading.Go(c.read)
		if c.rate > 0 {
			phase := time.Duration(float64(time.Second) / c.rate * float64(i%97) / 97)
			if c.abuser {
				phase += o.Warmup + o.Duration/2
			}
			publishing.Go(func() { c.publish(ctx, phase) })
		}
	}
	if len(o.Brokers) > 0 {
		publishing.Go(func() { r.bareLoop(ctx) })
	}
	if o.Abusers > 0 {
		begin := time.AfterFunc(o.Warmup+o.Duration/2, func() { r.abused.Store(true) })
		defer begin.Stop()
	}
	select {
	case <-ctx.Done():
	case <-time.After(o.Warmup):
	}
	before, sent := r.usage(ctx), r.sent.Load()
	r.warm.Store(true)
	publishing.Wait()
	after := r.usage(context.WithoutCancel(ctx))
	r.drain(clients)
	ended, closed := 0, 0
	for _, c := range clients {
		switch {
		case !c.closed.Load():
		case c.abuser:
			closed++
		default:
			ended++
		}
		_ = c.conn.Close()
	}
	reading.Wait()
	return r.report(out, usage{after.cpu - before.cpu, after.memory, true}, r.sent.Load()-sent, ended, closed)
}

// drain waits until all is answered, for some seconds at most.
func (r *Run) drain(clients []*client) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if !slices.ContainsFunc(clients, (*client).waits) {
			return
		}
	}
}

// usage is what the server has used.
type usage struct {
	cpu    float64 // Seconds.
	memory float64 // Resident bytes.
	known  bool
}

// usage asks the server's admin port.
func (r *Run) usage(ctx context.Context) (u usage) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.o.Admin+"/metrics", nil)
	if err != nil {
		return u
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return u
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(io.LimitReader(response.Body, 64<<20)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case name == "process_cpu_seconds_total":
			u.cpu, u.known = number, true
		case name == "process_resident_memory_bytes":
			u.memory = number
		}
	}
	return u
}

func (r *Run) report(out io.Writer, used usage, sent int64, ended, closed int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	row := func(name string, h *hdrhistogram.Histogram) {
		if h.TotalCount() > 0 {
			fmt.Fprintf(out, "%-28s p50 %8.2f ms  p99 %8.2f ms  max %8.2f ms  (%d)\n", name, ms(h, 50), ms(h, 99),
				float64(h.Max())/1000, h.TotalCount())
		}
	}
	row("publish to acknowledgement", r.halves[0].ack)
	row("publish to receive", r.halves[0].receive)
	row("beside abusers: ack", r.halves[1].ack)
	row("beside abusers: receive", r.halves[1].receive)
	row("bare produce to fetch", r.bare)
	fmt.Fprintf(out, "%d sent, %d acknowledged, %d received\n", r.sent.Load(), r.acked.Load(), r.received.Load())
	for _, code := range slices.Sorted(maps.Keys(r.errors)) {
		fmt.Fprintf(out, "error %s: %d\n", code, r.errors[code])
	}
	if r.o.Abusers > 0 {
		fmt.Fprintf(out, "abusers: %d acknowledged, %d of %d closed\n", r.ackedAbusers.Load(), closed, r.o.Abusers)
	}
	if sent > 0 {
		fmt.Fprintf(out, "server: %.1f µs of CPU for each publication, %.0f MB resident\n", used.cpu*1e6/float64(sent),
			used.memory/1e6)
	}
	var faults []string
	for code, n := range r.errors {
		if strings.HasSuffix(code, "(publishers)") {
			faults = append(faults, fmt.Sprintf("publishers got error %s %d times", code, n))
		}
	}
	if ended > 0 {
		faults = append(faults, fmt.Sprintf("%d connections ended", ended))
	}
	if n := r.garbled.Load(); n > 0 {
		faults = append(faults, fmt.Sprintf("%d lines were no JSON", n))
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
}

func ms(h *hdrhistogram.Histogram, quantile float64) float64 {
	return float64(h.ValueAtQuantile(quantile)) / 1000
}
