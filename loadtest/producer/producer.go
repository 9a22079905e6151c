// Package producer produces numbered records to one partition of a Kafka topic at a steady rate, and knows which
// records are in the log.
//
// Thread rule: Ensure and Run belong to one goroutine. Any goroutine may call the other methods of Producer.
//
// The package does not repeat a produce request. After a request without a response, it is not known whether its
// records are in the log, so the run ends.
package producer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// partition is the partition of all records, because Kafka keeps their order only within a partition.
const partition = 0

// requestTimeout is how long one request to Kafka may take.
const requestTimeout = 10 * time.Second

// Options is what New needs.
type Options struct {
	Brokers []string // Brokers as HOST:PORT.
	Topic   string   // Topic to produce to.
	Batch   int      // Records per produce request.

	// Append appends the value of record seq. It is called right before the request that contains the record, which is
	// late by the given time.
	Append func(dst []byte, seq uint64, late time.Duration) []byte

	// Key appends the key of record seq; nil: records have no key.
	Key func(dst []byte, seq uint64) []byte

	// Headers returns the headers of record seq; nil: records have none.
	Headers func(seq uint64) []kafka.Header
}

// Producer produces to one topic. Numbers begin at 1 and continue from one Run to the next.
type Producer struct {
	o      Options
	client *kafka.Client
	begun  *atomic.Uint64 // Number of the last record in a request.
	acked  atomic.Uint64  // Number of the last record that Kafka has acknowledged.
}

// New returns a producer. It does not connect yet.
func New(o Options) *Producer {
	return &Producer{o: o, begun: new(atomic.Uint64), client: &kafka.Client{
		Addr: kafka.TCP(o.Brokers...), Timeout: requestTimeout,
		Transport: &kafka.Transport{ClientID: "wsd-loadtest", DialTimeout: 5 * time.Second,
			IdleTimeout: 5 * time.Minute},
	}}
}

// SetHeader gives each record a header, before the first Run.
func (p *Producer) SetHeader(name string, value func(seq uint64) string) {
	p.o.Headers = func(seq uint64) []kafka.Header { return []kafka.Header{{Key: name, Value: []byte(value(seq))}} }
}

// ShareBegun keeps the number that Begun returns in n, which may be in memory of several processes. It must be called
// before the first Run.
func (p *Producer) ShareBegun(n *atomic.Uint64) { p.begun = n }

// Begun returns the number of the last record that was sent to Kafka or is about to be.
func (p *Producer) Begun() uint64 { return p.begun.Load() }

// Acked returns the number of the last record that all in-sync replicas have.
func (p *Producer) Acked() uint64 { return p.acked.Load() }

// Ensure creates the topic, with one partition, if it does not exist, and reports whether it did. It returns when the
// partition has a leader.
func (p *Producer) Ensure(ctx context.Context) (created bool, err error) {
	for {
		topic, err := p.lookup(ctx)
		switch {
		case err != nil:
			return created, err
		case topic.Error == nil && len(topic.Partitions) > 0 && topic.Partitions[partition].Error == nil:
			return created, nil
		case errors.Is(topic.Error, kafka.UnknownTopicOrPartition) && !created:
			if err := p.create(ctx); err != nil {
				return false, err
			}
			created = true
		case topic.Error != nil && !errors.Is(topic.Error, kafka.UnknownTopicOrPartition) && !temporary(topic.Error):
			return created, fmt.Errorf("look up topic %s: %w", p.o.Topic, topic.Error)
		}
		select {
		case <-ctx.Done():
			return created, fmt.Errorf("wait for a leader of topic %s: %w", p.o.Topic, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func temporary(err error) bool {
	var e kafka.Error
	return errors.As(err, &e) && e.Temporary()
}

func (p *Producer) lookup(ctx context.Context) (kafka.Topic, error) {
	meta, err := p.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{p.o.Topic}})
	if err != nil {
		return kafka.Topic{}, fmt.Errorf("look up topic %s at Kafka %s: %w", p.o.Topic, strings.Join(p.o.Brokers, ","),
			err)
	}
	if len(meta.Topics) != 1 {
		return kafka.Topic{}, fmt.Errorf("look up topic %s: %d topics in the response", p.o.Topic, len(meta.Topics))
	}
	return meta.Topics[0], nil
}

func (p *Producer) create(ctx context.Context) error {
	response, err := p.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{
		// -1 means the broker's default number of replicas (Kafka 2.4 and later).
		Topics: []kafka.TopicConfig{{Topic: p.o.Topic, NumPartitions: 1, ReplicationFactor: -1}},
	})
	if err == nil {
		err = response.Errors[p.o.Topic]
	}
	if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", p.o.Topic, err)
	}
	return nil
}

// Run sends the given number of requests at the given interval, the first one at once. If Kafka is slower, late
// requests are sent as fast as Kafka accepts them. Run returns the longest delay of a request. If ctx ends, Run returns
// without an error before the next request. After an error, Run must not be called again.
func (p *Producer) Run(ctx context.Context, requests int, interval time.Duration) (late time.Duration, err error) {
	if p.begun.Load() != p.acked.Load() {
		return 0, fmt.Errorf("produce to topic %s: an earlier request had no response", p.o.Topic)
	}
	// Not ctx, so that an interrupted run knows which records are in the log.
	uncancelled := context.WithoutCancel(ctx)
	_, late, err = Pace(ctx, requests, interval, func(late time.Duration) error { return p.produce(uncancelled, late) })
	return late, err
}

// Pace calls do n times, the first time at once and then at the given interval, with the time that the call is late; if
// interval is 0, calls are never late. If a call is late, Pace makes the next ones without a pause until they are in
// time again. It returns the number of calls and the longest delay of one. It
// stops early, without an error, when ctx ends, and at the first error of do, which it returns.
func Pace(ctx context.Context, n int, interval time.Duration, do func(late time.Duration) error) (calls int,
	lateMax time.Duration, err error) {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for calls < n {
		due := time.Duration(calls) * interval
		timer.Reset(time.Until(start.Add(due)))
		select {
		case <-ctx.Done():
			return calls, lateMax, nil
		case <-timer.C:
		}
		late := time.Since(start) - due
		if interval == 0 {
			late = 0
		}
		lateMax = max(lateMax, late)
		calls++
		if err := do(late); err != nil {
			return calls, lateMax, err
		}
	}
	return calls, lateMax, nil
}

// produce sends one request.
func (p *Producer) produce(ctx context.Context, late time.Duration) error {
	last := p.acked.Load()
	// Set begun before the request: a client that subscribes from now on may or may not get these records.
	p.begun.Store(last + uint64(p.o.Batch))
	records := make([]kafka.Record, p.o.Batch)
	for i := range records {
		seq := last + 1 + uint64(i)
		records[i].Value = kafka.NewBytes(p.o.Append(nil, seq, late))
		if p.o.Key != nil {
			records[i].Key = kafka.NewBytes(p.o.Key(nil, seq))
		}
		if p.o.Headers != nil {
			records[i].Headers = p.o.Headers(seq)
		}
	}
	response, err := p.client.Produce(ctx, &kafka.ProduceRequest{
		Topic: p.o.Topic, Partition: partition, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(records...),
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return fmt.Errorf("produce records %d to %d to topic %s: %w", last+1, p.begun.Load(), p.o.Topic, err)
	}
	p.acked.Store(p.begun.Load())
	return nil
}

// Close closes the connections to Kafka.
func (p *Producer) Close() {
	if t, ok := p.client.Transport.(*kafka.Transport); ok {
		t.CloseIdleConnections()
	}
}
