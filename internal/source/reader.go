package source

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// Errors of Reader.Read, besides those of Kafka and of the context.
var (
	// ErrRangeGone: the log begins after the range, or has lost a part of it.
	ErrRangeGone = errors.New("the range is no longer in the log")
	// ErrStreamEnded: the topic was deleted, or created again.
	ErrStreamEnded = errors.New("the stream's topic was deleted or created again")
)

// Recent returns the block of the stream that holds the offset before to, if the source still has it. The caller calls
// Block.Done when it has read the block. Any goroutine may call it.
func (s *Source) Recent(st *Stream, to int64) (Block, bool) { return st.p.window.find(to) }

// Reader reads ranges of partitions again, on connections of its own. It keeps one connection for each broker from one
// Read to the next. One goroutine uses it.
type Reader struct {
	s        *Source
	ctx      context.Context
	conns    map[string]readerConn
	walker   *kafka.Walker // It goes from batch to batch only, and decodes no record.
	requests uint64
	fraction fraction
}

// readerConn is a connection to one broker.
type readerConn struct {
	*kafka.Conn
	cancel context.CancelFunc // Ends the context that the connection was dialled with.
}

// drop closes the connection to a broker.
func (r *Reader) drop(addr string) {
	if c, ok := r.conns[addr]; ok {
		c.Close()
		c.cancel()
		delete(r.conns, addr)
	}
}

// NewReader returns a reader without connections. When ctx ends, its connections are closed and Read fails.
func (s *Source) NewReader(ctx context.Context) *Reader {
	return &Reader{s: s, ctx: ctx, conns: make(map[string]readerConn), walker: kafka.NewWalker(0, 0)}
}

// Close closes the connections. The reader can be used again.
func (r *Reader) Close() {
	for addr := range r.conns {
		r.drop(addr)
	}
}

// Requests returns how many fetches were sent.
func (r *Reader) Requests() uint64 { return r.requests }

// Read returns the records of st in [from, to). If the last record batch goes on after to, the block does, too, up to
// toMax: what of a batch is left would have to be read with the whole batch again. The range up to toMax must already
// have been routed. If the log now starts after from, the block starts at the log start. If the range has more than
// bytesMax bytes, the block ends where they do, but not before the first record batch. Read retries after temporary
// errors, until ctx ends.
func (r *Reader) Read(ctx context.Context, st *Stream, from, to, toMax int64, bytesMax int) (Block, error) {
	tries := kafka.Backoff{Min: r.s.o.BackoffMin, Max: r.s.o.BackoffMax}
	b := Block{From: from, To: to}
	next := from
	for next < b.To {
		err := r.fetch(ctx, st, &b, &next, bytesMax)
		if err == nil {
			continue
		}
		switch {
		case r.ctx.Err() != nil:
			return Block{}, r.ctx.Err()
		case errors.Is(err, ErrRangeGone), errors.Is(err, ErrStreamEnded), permanent(err):
			return Block{}, err
		}
		kafka.Sleep(ctx, tries.Next(), nil)
		if ctx.Err() != nil {
			return Block{}, fmt.Errorf("read %s/%d from offset %d to %d again: %w: %w", st.p.topic.name, st.p.id, next,
				b.To-1, ctx.Err(), err)
		}
	}
	b.To = max(b.To, min(next, toMax))
	return b, nil
}

// permanent reports whether err is about a batch that reading again cannot mend.
func permanent(err error) bool {
	var bad *kafka.BatchError
	return errors.As(err, &bad) && bad.Permanent()
}

// fetch makes one request and appends to b what follows next.
func (r *Reader) fetch(ctx context.Context, st *Stream, b *Block, next *int64, bytesMax int) error {
	p := st.p
	epoch := p.vouched.Load()
	if epoch == epochDoubted {
		return errDoubted
	}
	addr, ok := r.s.leaderAddr(p)
	if !ok {
		return r.missing(p, errNoLeader)
	}
	c, err := r.connect(ctx, addr)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	rp, err := r.request(c, p, epoch, *next, min(r.s.o.FetchMaxBytes, bytesMax))
	if err == nil && kafka.Code(rp.ErrorCode) == kafka.OffsetOutOfRange {
		err = r.beginning(c, p, b, next)
		rp = nil
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	switch {
	case errors.Is(err, ErrRangeGone):
		return err
	case err != nil:
		r.drop(addr)
		return kafka.Describe("fetch from broker "+addr, err)
	case rp == nil:
		return nil
	}
	if code := kafka.Code(rp.ErrorCode); code != 0 {
		if kind := kafka.KindOfCode(code); kind == kafka.ErrorUnknownTopic || kind == kafka.ErrorLeader {
			return r.missing(p, code)
		}
		return code
	}
	b.First = b.First || b.From == 0 || rp.LogStartOffset >= b.From
	return r.take(p, rp, b, next, bytesMax)
}

// missing asks for a refresh of the metadata, because the partition is not where it was. It returns err, or
// ErrStreamEnded if the partition is gone for good.
func (r *Reader) missing(p *partition, err error) error {
	r.s.kickWatcher()
	if p.ended.Load() {
		return ErrStreamEnded
	}
	return err
}

// beginning continues at the start of the log, which is after next.
func (r *Reader) beginning(c *kafka.Conn, p *partition, b *Block, next *int64) error {
	start, err := r.logStart(c, p)
	if err != nil {
		return err
	}
	if start <= *next || start >= b.To {
		// Nothing of the range is left, or this broker has less than the one that we read from.
		return ErrRangeGone
	}
	// There is a hole between what was read so far and the start of the log, so the former does not count.
	b.From, b.First, b.batches = start, true, nil
	*next = start
	return nil
}

// take appends the batches of a response to b.
func (r *Reader) take(p *partition, rp *kmsg.FetchResponseTopicPartition, b *Block, next *int64, bytesMax int) error {
	before := *next
	defer r.walker.Close()
	r.walker.Open(rp.RecordBatches, rp.AbortedTransactions, before)
	for *next < b.To && r.walker.NextBatch() {
		batch := r.walker.Batch()
		if batch.Next < batch.Base && p.topic.holesAreLosses() {
			return ErrRangeGone
		}
		holds := batch.Kind == kafka.BatchRecords && batch.Count > 0 && batch.Base < b.To
		if holds && len(b.batches) > 0 && len(b.batches)+len(batch.Raw) > bytesMax {
			b.To = *next
			return nil
		}
		*next = batch.Last() + 1
		if holds {
			b.batches = append(b.batches, batch.Raw...)
		}
	}
	if err := r.walker.Err(); err != nil {
		return err
	}
	compacted := cleanup(p.topic.cleanup.Load()) == cleanupCompact
	if *next == before && len(rp.RecordBatches) == 0 && r.s.o.endOf(rp) >= b.To && compacted {
		// Compaction has removed everything. Any other log has the range, but could not deliver it in time: tiered
		// storage.
		*next = b.To
	}
	if *next == before {
		// Nothing came, although the range is routed: the broker lags behind, or a batch does not fit into a response.
		return errNoRecords
	}
	return nil
}

// request asks for what follows next in the log of a leader's epoch, for so many bytes or one record batch.
func (r *Reader) request(
	c *kafka.Conn, p *partition, epoch int32, next int64, bytesMax int,
) (*kmsg.FetchResponseTopicPartition, error) {
	version := c.FetchVersion()
	if p.topicID == ([16]byte{}) {
		version = min(version, kafka.FetchByName)
	}
	req := kmsg.NewFetchRequest()
	req.Version = version
	req.MinBytes, req.MaxWaitMillis = 1, int32(r.s.o.BackoffMax.Milliseconds())
	req.MaxBytes = math.MaxInt32 // There is one partition, whose limit counts.
	req.IsolationLevel = r.s.o.isolation()
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.CurrentLeaderEpoch, part.FetchOffset, part.PartitionMaxBytes = p.id, epoch, next,
		r.fraction.of(bytesMax)
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = p.topic.name, p.topicID
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	var resp kmsg.FetchResponse
	r.requests++
	_, err := c.Request(&req, &resp, r.s.o.BackoffMax)
	r.fraction.after(err)
	if err != nil {
		return nil, err
	}
	if resp.ErrorCode != 0 {
		return nil, kafka.Code(resp.ErrorCode)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].Partition != p.id {
		return nil, errNoOffset
	}
	return &resp.Topics[0].Partitions[0], nil
}

// logStart asks for the start of the partition's log.
func (r *Reader) logStart(c *kafka.Conn, p *partition) (int64, error) {
	req := newListOffsetsRequest(c, readUncommitted)
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Partition, part.Timestamp = p.id, timeEarliest
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = p.topic.name
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	var resp kmsg.ListOffsetsResponse
	if _, err := c.Request(req, &resp, 0); err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, errNoOffset
	}
	rp := &resp.Topics[0].Partitions[0]
	if rp.ErrorCode != 0 {
		return 0, kafka.Code(rp.ErrorCode)
	}
	return rp.Offset, nil
}

// errNoLeader: no leader of the partition is known.
var errNoLeader = kafka.NewError(kafka.ErrorLeader, errors.New("the partition has no leader now"))

// errDoubted: see epochDoubted.
var errDoubted = kafka.NewError(kafka.ErrorLeader,
	errors.New("the log of the partition's new leader has not been compared yet"))

// connect returns the connection to a broker. It dials if there is none.
func (r *Reader) connect(ctx context.Context, addr string) (*kafka.Conn, error) {
	if c, ok := r.conns[addr]; ok {
		return c.Conn, nil
	}
	// Dialling ends with ctx, but the connection outlives it.
	dialCtx, cancel := context.WithCancel(r.ctx)
	stop := context.AfterFunc(ctx, cancel)
	c, err := r.s.dialer.Dial(dialCtx, addr)
	if !stop() && err == nil {
		c.Close()
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	r.conns[addr] = readerConn{c, cancel}
	return c, nil
}

// leaderAddr returns the address of the broker that leads the partition. Any goroutine may call it.
func (s *Source) leaderAddr(p *partition) (addr string, ok bool) {
	id := p.leaderSeen.Load()
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	addr, ok = s.view.addrs[id]
	return addr, ok && id >= 0
}

// endStreams notes that the partitions' topics are gone for good. Their subscribers have been notified.
func endStreams(parts []*partition) {
	for _, p := range parts {
		p.ended.Store(true)
	}
}
