package source

import (
	"log/slog"
	"strconv"
	"time"

	"wsd/internal/kafka"
)

// outages logs topics or partitions that cannot be read: one line for all that cannot because of one broker and kind of
// error, one now and then while that lasts, and one when they can be read again. Whoever guards the troubles guards
// outages: Source.mu for those of partitions, the watcher for those of topics.
type outages struct {
	digest     *digest
	fail, over *event
	last       *event // It goes on.
	byCause    map[outageCause]*outage
}

// outageCause is what an outage's members have in common.
type outageCause struct {
	broker int32 // The broker that was asked, or -1 if that does not matter.
	kind   kafka.ErrorKind
}

// outage is what fails because of one cause.
type outage struct {
	outageCause
	failing int // How many fail now.
	next    time.Time
	repeats int // Errors since the last line, without those that began.
}

// trouble is what a topic or partition that cannot be read belongs to. The zero value means that it can.
type trouble struct {
	outage *outage
	since  time.Time
}

func newOutages(d *digest, unit, fail, failing, over, overMany string, first when) *outages {
	return &outages{digest: d, byCause: make(map[outageCause]*outage),
		fail: &event{level: slog.LevelWarn, one: fail, many: failing, unit: unit, first: first},
		last: &event{level: slog.LevelWarn, one: fail, many: failing, unit: unit, first: atOnce},
		over: &event{level: slog.LevelInfo, one: over, many: overMany, unit: unit, first: atEnd}}
}

// failed notes an error of what t belongs to. Single is as for digest.add.
func (o *outages) failed(t *trouble, cause outageCause, name string, err error, single ...any) {
	shared := cause.attrs("err", err)
	now := time.Now()
	if t.outage != nil && t.outage.outageCause == cause {
		out := t.outage
		if out.repeats++; !now.Before(out.next) {
			shared = append(shared, "failing", out.failing, "repeats", out.repeats, "for",
				now.Sub(t.since).Round(time.Millisecond))
			o.digest.add(o.last, cause.key(), name, shared, single)
			out.next, out.repeats = now.Add(o.digest.interval), 0
		}
		return
	}
	since := now
	if t.outage != nil { // It fails for another reason now.
		since = t.since
		o.left(t)
	}
	out := o.byCause[cause]
	if out == nil {
		out = &outage{outageCause: cause}
		o.byCause[cause] = out
	}
	out.failing++
	out.next = now.Add(o.digest.interval)
	*t = trouble{out, since}
	o.digest.add(o.fail, cause.key(), name, shared, single)
}

// ended notes that what t belongs to works again.
func (o *outages) ended(t *trouble, name string, single ...any) {
	if t.outage == nil {
		return
	}
	out, cause := t.outage, t.outage.outageCause
	single = append(single, "after", time.Since(t.since).Round(time.Millisecond))
	o.left(t)
	o.digest.add(o.over, cause.key(), name, cause.attrs(), single)
	if out.failing == 0 {
		o.digest.over(o.over, cause.key())
	}
}

// left takes what t belongs to out of its outage: it is gone, or fails for another reason.
func (o *outages) left(t *trouble) {
	if t.outage == nil {
		return
	}
	if t.outage.failing--; t.outage.failing == 0 {
		delete(o.byCause, t.outage.outageCause)
		o.digest.over(o.over, t.outage.key())
	}
	*t = trouble{}
}

func (c outageCause) key() string { return strconv.Itoa(int(c.broker)) + " " + c.kind.String() }

// attrs returns what a line says about the cause, followed by the arguments.
func (c outageCause) attrs(more ...any) []any {
	attrs := []any{"kind", c.kind}
	if c.broker >= 0 {
		attrs = append(attrs, "broker", c.broker)
	}
	return append(attrs, more...)
}
