package produce

import (
	"cmp"
	"context"
	"fmt"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Producer writes records to one cluster.
type Producer struct {
	o     Options
	cl    *kgo.Client
	log   *failureLog
	stats *Stats

	wake    chan struct{} // Has room for one.
	closing chan struct{}
	stopped chan struct{} // Closed when run has returned.

	gathering gathering // Of run.

	mu      sync.Mutex
	closed  bool
	records int      // Under way, until their outcome is known.
	bytes   int      // Of these records.
	fresh   []*entry // Not yet given to the client.
	pending entryList
	idle    chan struct{} // Close waits for it; closed when records is 0.
}

// Open returns a Producer. It connects to Kafka when there is something to write. Errors are those of the options.
func Open(o Options) (*Producer, error) {
	p := &Producer{
		o: o, log: newFailureLog(o.Logger), wake: make(chan struct{}, 1), closing: make(chan struct{}),
		stopped: make(chan struct{}), stats: NewStats(), gathering: gathering{period: gatherFor},
	}
	var err error
	if p.cl, err = kgo.NewClient(p.clientOptions()...); err != nil {
		return nil, fmt.Errorf("open producer: %w", err)
	}
	go pprof.Do(context.Background(), pprof.Labels("component", "produce"), func(context.Context) { p.run() })
	return p, nil
}

// The pauses between attempts to reach a broker. After an outage the first record waits for the last pause.
const firstPause, longestPause = 50 * time.Millisecond, time.Second

func (p *Producer) clientOptions() []kgo.Opt {
	o := &p.o
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...), kgo.ClientID(o.ClientID), kgo.WithLogger(p.log),
		kgo.Dialer(o.dial), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(partitioner{o.Partition}),
		// The Producer gathers records itself. With a linger, the client leaves what it gets alone until flush, so that
		// a hand-over is one request to each broker.
		kgo.ProducerLinger(cmp.Or(o.linger, gatherFor)),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
			return int32(o.recordBytesMax(topic) + batchOverhead) //nolint:gosec // Options are some MB at most.
		}),
		// The Producer counts itself, so these are never reached.
		kgo.MaxBufferedRecords(2*o.RecordsMax + 1), kgo.MaxBufferedBytes(2*o.BytesMax + 1),
		kgo.RecordDeliveryTimeout(max(o.Timeout, time.Second)), kgo.ProduceRequestTimeout(o.RequestTimeout),
		kgo.RetryBackoffFn(backoff), kgo.MetadataMinAge(250 * time.Millisecond), kgo.MetadataMaxAge(time.Minute),
		kgo.DisableClientMetrics(), kgo.WithHooks(p.stats),
	}
	if o.SASL != nil {
		opts = append(opts, kgo.SASL(mechanism{o.SASL}))
	}
	return opts
}

// batchOverhead is what a batch may have beside the bytes of a record alone in it.
const batchOverhead = 4096

// Produce writes r. It never blocks. An error means that the record was not taken, and that done is never called: a
// *Error with the kind Full, TooLarge or Closed. Otherwise done is called once, from another goroutine, within
// Options.Timeout and a little. Its error is nil or a *Error. It must not block, and may call Produce.
func (p *Producer) Produce(r Record, done func(Ack, error)) error {
	size := r.size()
	if most := p.o.recordBytesMax(r.Topic); size-recordOverhead > most {
		return p.refuse(&Error{TooLarge, fmt.Errorf("the record has %d bytes, at most %d are allowed",
			size-recordOverhead, most)})
	}
	e := newEntry(&r, size, done)
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return p.refuse(errClosed)
	case p.records >= p.o.RecordsMax || p.bytes+size > p.o.BytesMax:
		p.mu.Unlock()
		return p.refuse(errFull)
	}
	p.records++
	p.bytes += size
	p.note()
	p.fresh = append(p.fresh, e)
	p.pending.push(e)
	first := len(p.fresh) == 1
	p.mu.Unlock()
	if first {
		p.wakeUp()
	}
	return nil
}

func (p *Producer) wakeUp() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// refuse counts a record that was not taken.
func (p *Producer) refuse(err *Error) error {
	p.stats.Failed[err.Kind].Add(1)
	return err
}

// note tells the statistics what is under way. The caller holds mu.
func (p *Producer) note() {
	p.stats.Records.Store(int64(p.records))
	p.stats.Bytes.Store(int64(p.bytes))
}

// run gives records to the client, and answers those whose deadline passes. The client's own locks and its work for a
// record so cost no caller of Produce anything.
func (p *Producer) run() {
	defer close(p.stopped)
	timer := time.NewTimer(p.o.Timeout)
	defer timer.Stop()
	var spare []*entry
	for {
		select {
		case <-p.closing:
			return
		case <-p.wake:
		case <-timer.C:
		}
		fresh, wait := p.take(time.Now(), spare)
		if len(fresh) > 0 {
			p.handOver(fresh)
			spare = emptied(fresh)
		}
		next := p.expire(time.Now())
		if wait > 0 {
			next = min(next, wait)
		}
		timer.Reset(next)
	}
}

// take returns the new records, if they are to be handed over now. Otherwise it returns how long they are to be
// gathered, or 0 if there are none. Spare, which is empty, becomes the list of new records.
func (p *Producer) take(now time.Time, spare []*entry) (fresh []*entry, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.fresh) == 0 {
		return nil, 0
	}
	if wait := p.gathering.wait(now, p.records-len(p.fresh)); wait > 0 {
		return nil, wait
	}
	fresh, p.fresh = p.fresh, spare
	p.gathering.handOver(now, len(fresh))
	return fresh, 0
}

// handOver gives records to the client, and has it send them.
func (p *Producer) handOver(fresh []*entry) {
	for _, e := range fresh {
		if err := e.complete(); err != nil {
			p.settle(e, err)
			continue
		}
		p.cl.TryProduce(context.Background(), &e.record, func(_ *kgo.Record, err error) { p.settle(e, err) })
	}
	p.flush()
}

// spareMax is the most records for which the list of new ones keeps its memory.
const spareMax = 4096

// emptied returns the memory of a list, to be used again.
func emptied(list []*entry) []*entry {
	if cap(list) > spareMax {
		return nil
	}
	clear(list)
	return list[:0]
}

// expire answers the records whose deadline has passed, and returns how long the next one has left.
func (p *Producer) expire(now time.Time) time.Duration {
	for {
		p.mu.Lock()
		e := p.pending.head
		left := p.o.Timeout
		if e != nil {
			left = e.began.Add(p.o.Timeout).Sub(now)
		}
		if e == nil || left > 0 {
			p.mu.Unlock()
			return left
		}
		p.pending.remove(e)
		p.mu.Unlock()
		p.answer(e, Ack{}, errTimeout)
	}
}

// settle is called when the outcome of a record is known, perhaps after it was answered.
func (p *Producer) settle(e *entry, err error) {
	p.mu.Lock()
	p.records--
	p.bytes -= e.size
	p.note()
	waits := p.pending.remove(e)
	if p.records == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
	if p.records > 0 && p.records == len(p.fresh) {
		p.wakeUp() // What was gathered need not wait any longer.
	}
	p.mu.Unlock()
	if !waits && err == nil {
		p.stats.Late.Add(1)
	}
	switch {
	case !waits && e.late == nil:
	case !waits && err == nil:
		e.late(Ack{e.record.Partition, e.record.Offset}, nil)
	case !waits:
		e.late(Ack{}, kindOf(err))
	case err != nil && e.record.Partition == noSuchPartition:
		p.answer(e, Ack{}, errPartition)
	case err != nil:
		why := kindOf(err)
		p.answer(e, Ack{}, why)
		if why.Kind == Timeout && e.late != nil {
			e.late(Ack{}, why) // The client has given it up at its deadline.
		}
	default:
		p.answer(e, Ack{e.record.Partition, e.record.Offset}, nil)
	}
}

// answer calls the callback. Only whoever has taken e out of pending calls it.
func (p *Producer) answer(e *entry, ack Ack, err *Error) {
	if err != nil {
		p.stats.Failed[err.Kind].Add(1)
		p.log.failed(err)
		e.done(Ack{}, err)
		return
	}
	p.stats.Acked.Add(1)
	p.stats.Latency.Observe(time.Since(e.began).Seconds(), 1)
	p.log.succeeded()
	e.done(ack, nil)
}

// Close takes no more records and waits until the outcome of all others is known, or until ctx ends. Then it answers
// the rest with the kind Closed and returns ctx's error. Only the first call does anything.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	var idle chan struct{}
	if p.records > 0 {
		idle = make(chan struct{})
		p.idle = idle
	}
	p.mu.Unlock()
	var err error
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	close(p.closing)
	<-p.stopped
	p.mu.Lock()
	fresh := p.fresh
	p.fresh = nil
	p.mu.Unlock()
	for _, e := range fresh {
		p.settle(e, kgo.ErrClientClosed) // The client never gets them.
	}
	for {
		p.mu.Lock()
		e := p.pending.head
		if e == nil {
			p.mu.Unlock()
			break
		}
		p.pending.remove(e)
		p.mu.Unlock()
		p.answer(e, Ack{}, errClosed)
	}
	p.cl.Close()
	return err
}

// Stats returns the Producer's counters.
func (p *Producer) Stats() *Stats { return p.stats }

// Usage returns the records under way and their bytes. Any goroutine may call it.
func (p *Producer) Usage() (records, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records, p.bytes
}

// backoff is the pause before the next attempt to reach a broker.
func backoff(failures int) time.Duration {
	return jitter(min(firstPause<<min(failures, 10), longestPause))
}
