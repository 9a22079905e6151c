// Package producer gives numbered records to one partition of a Kafka topic at a steady rate, and knows what the log holds.
//
// Thread rule: Ensure and Run belong to one goroutine; the other methods of Producer may be called from any.
//
// It repeats no produce request: after one without an answer nobody knows whether its records are in the log, so the run ends.
package producer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// partition is the one that records go to: only there is their order kept.
const partition = 0

// requestTimeout is how long one request to Kafka may take.
const requestTimeout = 10 * time.Second

// Options say what to produce.
type Options struct {
	Brokers []string // host:port.
	Topic   string
	Batch   int // Records of one produce request.
	// Append appends the value of record seq as of now; called right before the request that carries it.
	Append func(dst []byte, seq uint64) []byte
	// Key appends the key of record seq. Default: records have none.
	Key func(dst []byte, seq uint64) []byte
}

// Producer produces to one topic. Numbers begin at 1 and go on from one Run to the next.
type Producer struct {
	o       Options
	client  *kafka.Client
	begun   atomic.Uint64 // Last record given to a request.
	acked   atomic.Uint64 // Last record that Kafka has acknowledged.
	lateMax atomic.Int64  // Nanoseconds.
}

// New returns a producer; nothing is connected yet.
func New(o Options) *Producer {
	return &Producer{o: o, client: &kafka.Client{
		Addr: kafka.TCP(o.Brokers...), Timeout: requestTimeout,
		Transport: &kafka.Transport{ClientID: "wsd-loadtest", DialTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute},
	}}
}

// Begun is the number of the last record that was given to Kafka or is about to be.
func (p *Producer) Begun() uint64 { return p.begun.Load() }

// Acked is the number of the last record that all replicas in sync have.
func (p *Producer) Acked() uint64 { return p.acked.Load() }

// LateMax is how late a request was sent at most, after the time that the rate asks for, since the start or the last ResetLate.
func (p *Producer) LateMax() time.Duration { return time.Duration(p.lateMax.Load()) }

// ResetLate makes LateMax begin anew, between two Runs.
func (p *Producer) ResetLate() { p.lateMax.Store(0) }

// Ensure makes the topic, with one partition, if Kafka does not know it, and reports whether it did. It returns when the partition
// has a leader.
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
		return kafka.Topic{}, fmt.Errorf("ask Kafka at %s for topic %s: %w", strings.Join(p.o.Brokers, ","), p.o.Topic, err)
	}
	if len(meta.Topics) != 1 {
		return kafka.Topic{}, fmt.Errorf("ask Kafka for topic %s: %d topics in the answer", p.o.Topic, len(meta.Topics))
	}
	return meta.Topics[0], nil
}

func (p *Producer) create(ctx context.Context) error {
	answer, err := p.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{
		// The broker's default of replicas: -1 is understood by Kafka from 2.4 on.
		Topics: []kafka.TopicConfig{{Topic: p.o.Topic, NumPartitions: 1, ReplicationFactor: -1}},
	})
	if err == nil {
		err = answer.Errors[p.o.Topic]
	}
	if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", p.o.Topic, err)
	}
	return nil
}

// Requests is how many produce requests of batch records rate records a second are in a duration.
func Requests(rate float64, batch int, duration time.Duration) int {
	return int(math.Ceil(duration.Seconds()*rate/float64(batch) - 1e-9))
}

// Run sends the given number of requests, so far apart that they make rate records a second, the first one at once. When Kafka is
// slower, what is late is sent as fast as Kafka takes it. The end of ctx ends it before the next request and is no error. After an
// error there is no further Run.
func (p *Producer) Run(ctx context.Context, rate float64, requests int) error {
	if p.begun.Load() != p.acked.Load() {
		return fmt.Errorf("produce to topic %s: an earlier request had no answer", p.o.Topic)
	}
	interval := time.Duration(float64(p.o.Batch) / rate * float64(time.Second))
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range requests {
		due := time.Duration(i) * interval
		timer.Reset(time.Until(start.Add(due)))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		p.lateMax.Store(max(p.lateMax.Load(), int64(time.Since(start)-due)))
		// Not ctx: an interrupted run is to know what is in the log.
		if err := p.produce(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// produce sends one request.
func (p *Producer) produce(ctx context.Context) error {
	last := p.acked.Load()
	// Before the request: a client that subscribes from now on may or may not get these records.
	p.begun.Store(last + uint64(p.o.Batch))
	records := make([]kafka.Record, p.o.Batch)
	for i := range records {
		seq := last + 1 + uint64(i)
		records[i].Value = kafka.NewBytes(p.o.Append(nil, seq))
		if p.o.Key != nil {
			records[i].Key = kafka.NewBytes(p.o.Key(nil, seq))
		}
	}
	answer, err := p.client.Produce(ctx, &kafka.ProduceRequest{
		Topic: p.o.Topic, Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
	})
	if err == nil {
		err = answer.Error
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
