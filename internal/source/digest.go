package source

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// digest logs what happens to topics and partitions. One cause, such as a broker that restarts or a permission that is
// taken away, may hit thousands of them. So an event has one line for all that it hits: with everything about it if it
// hits one, else with the number and the first names. While an event goes on, the time between two of its lines
// doubles, from digestGather to the interval. Any goroutine may use a digest. Its lock is a leaf.
type digest struct {
	log      *slog.Logger
	interval time.Duration

	mu     sync.Mutex
	noted  map[noteKey]*noted
	order  []*noted    // The entries of noted by age.
	timer  *time.Timer // Nil if nothing waits for time to pass.
	closed bool        // Everything is logged at once.
}

const (
	// digestGather is how long an event that a fetcher notes waits for more of its kind.
	digestGather = time.Second
	// digestNames is how many topics or partitions a line names.
	digestNames = 5
)

// when says when an event's first line is logged.
type when uint8

const (
	atOnce   when = iota
	atFlush       // At the next flush: the watcher flushes after it has looked at all topics.
	gathered      // After digestGather.
	atEnd         // When nothing more of it is to come, see over, or after the interval. So is every further line.
)

// event is something that may happen to many topics or partitions.
type event struct {
	level     slog.Level
	one, many string // What is logged if it happened to one, or to several.
	unit      string // What it happens to: topics or partitions.
	first     when
}

// noteKey tells lines apart. Events of different causes do not share one.
type noteKey struct {
	event *event
	cause string
}

// noted is an event of one cause.
type noted struct {
	noteKey
	count int // Since the last line.
	names []string
	attrs []any     // About the first one. Those that are only about it come first.
	alone int       // How many of attrs are only about it.
	next  time.Time // No line before.
	pause time.Duration
}

func newDigest(log *slog.Logger, interval time.Duration) *digest {
	return &digest{log: log, interval: interval, noted: make(map[noteKey]*noted)}
}

// add notes that e happened to name because of cause. Shared is logged in any case, single only if it happened to
// nothing else in the meantime.
func (d *digest) add(e *event, cause, name string, shared, single []any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	n := d.noted[noteKey{e, cause}]
	if n == nil {
		d.forget(now)
		n = &noted{noteKey: noteKey{e, cause}, pause: digestGather}
		d.noted[n.noteKey] = n
		d.order = append(d.order, n)
		if e.first == gathered {
			n.next = now.Add(digestGather)
		}
	}
	switch n.count++; {
	case n.count == 1:
		if e.first == atEnd {
			n.next = now.Add(d.interval)
		}
		n.attrs, n.alone = append(append([]any(nil), single...), shared...), len(single)
		n.names = append(n.names[:0], name)
	case n.count <= digestNames:
		n.names = append(n.names, name)
	}
	if d.closed || e.first == atOnce && !now.Before(n.next) {
		d.line(n, now)
	} else {
		d.arm(now)
	}
}

// over says that nothing more of an event that is logged atEnd is to come.
func (d *digest) over(e *event, cause string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.noted[noteKey{e, cause}]; n != nil && n.count > 0 {
		now := time.Now()
		n.next = now.Add(digestGather)
		d.arm(now)
	}
}

// flush logs the lines that are due.
func (d *digest) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, n := range d.order {
		if n.count > 0 && !now.Before(n.next) {
			d.line(n, now)
		}
	}
	d.arm(now)
}

// close logs everything that waits. What is noted later is logged at once.
func (d *digest) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	for _, n := range d.order {
		if n.count > 0 {
			d.line(n, time.Now())
		}
	}
}

// line logs the line of n. The caller holds d.mu.
func (d *digest) line(n *noted, now time.Time) {
	text, attrs := n.event.one, n.attrs
	if n.count > 1 {
		text = n.event.many
		attrs = append([]any{n.event.unit, n.count, "first", n.names}, attrs[n.alone:]...)
	}
	if now.Sub(n.next) > d.interval { // It has been quiet.
		n.pause = digestGather
	}
	n.next, n.count, n.attrs = now.Add(n.pause), 0, nil
	n.pause = min(2*n.pause, d.interval)
	d.log.Log(context.Background(), n.event.level, text, attrs...) //nolint:sloglint // events.go has the constants.
}

// arm sets the timer for the next line that waits for time to pass. The caller holds d.mu.
func (d *digest) arm(now time.Time) {
	wait := time.Duration(-1)
	for _, n := range d.order {
		if n.count == 0 {
			continue
		}
		left := n.next.Sub(now)
		if left <= 0 { // It waits for a flush that is about to come.
			left = digestGather
		}
		if wait < 0 || left < wait {
			wait = left
		}
	}
	switch {
	case wait < 0 || d.closed:
	case d.timer == nil:
		d.timer = time.AfterFunc(wait, d.flush)
	default:
		d.timer.Reset(wait)
	}
}

// forget drops the events of which nothing has been heard for some time. The caller holds d.mu.
func (d *digest) forget(now time.Time) {
	kept := d.order[:0]
	for _, n := range d.order {
		if n.count == 0 && now.Sub(n.next) > d.interval {
			delete(d.noted, n.noteKey)
			continue
		}
		kept = append(kept, n)
	}
	clear(d.order[len(kept):])
	d.order = kept
}
