package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"wsd/loadtest/client"
	"wsd/loadtest/floor"
	"wsd/loadtest/producer"
)

// source produces the records of a run.
type source interface {
	// begun returns the number of records that were produced or are about to be.
	begun() uint64
	// acked returns the number of records that have been accepted.
	acked() uint64
	// send produces bursts of records at the given interval, or without a pause if that is 0. It returns the longest
	// delay of a burst. It returns early, without an error, when ctx ends.
	send(ctx context.Context, groups int, interval time.Duration) (late time.Duration, err error)
	close()
}

// bursts returns the number of bursts of batch records for rate records per second during a duration.
func bursts(rate float64, batch int, duration time.Duration) int {
	return int(math.Ceil(duration.Seconds()*rate/float64(batch) - 1e-9))
}

// interval returns the time between two bursts.
func interval(rate float64, batch int) time.Duration {
	return time.Duration(float64(batch) / rate * float64(time.Second))
}

// channelName returns the name of channel i.
func channelName(pattern string, i int) string {
	return strings.ReplaceAll(pattern, "{key}", strconv.Itoa(i))
}

// numbering numbers the records. Each record goes to all clients, or to the clients of the next channel.
type numbering struct {
	channels int // Number of channels; 0: all clients have the same one.
	format   *client.Format
	now      func() int64
}

// value appends the n-th record, counted from 1. The record is late by the given time, so its time is the one at which
// it was due: a delay of the load generator or of Kafka is in the latency.
func (o *numbering) value(dst []byte, n uint64, late time.Duration) []byte {
	if o.channels > 0 {
		n = (n-1)/uint64(o.channels) + 1
	}
	return o.format.Append(dst, n, o.now()-int64(late))
}

// channel returns the channel of the n-th record.
func (o *numbering) channel(n uint64) uint32 { return uint32((n - 1) % uint64(o.channels)) }

// last returns the number of the last record of channel i, out of n records in all.
func (o *numbering) last(i int, n uint64) uint64 {
	switch {
	case o.channels == 0:
		return n
	case n <= uint64(i):
		return 0
	default:
		return (n-uint64(i)-1)/uint64(o.channels) + 1
	}
}

// kafkaSource produces records to a Kafka.
type kafkaSource struct{ p *producer.Producer }

func newKafkaSource(brokers []string, topic string, batch int, o *numbering) *kafkaSource {
	options := producer.Options{Brokers: brokers, Topic: topic, Batch: batch, Append: o.value}
	if o.channels > 0 {
		options.Key = func(dst []byte, n uint64) []byte { return strconv.AppendUint(dst, uint64(o.channel(n)), 10) }
	}
	return &kafkaSource{p: producer.New(options)}
}

func (s *kafkaSource) begun() uint64 { return s.p.Begun() }
func (s *kafkaSource) acked() uint64 { return s.p.Acked() }
func (s *kafkaSource) close()        { s.p.Close() }

func (s *kafkaSource) send(ctx context.Context, groups int, interval time.Duration) (time.Duration, error) {
	return s.p.Run(ctx, groups, interval)
}

// floorSource lets the floor itself produce the records.
type floorSource struct {
	f         *floor.Floor
	job       floor.Job
	terminate func() // Stops the floor.
}

func (s *floorSource) begun() uint64 { return s.f.Sent() }
func (s *floorSource) acked() uint64 { return s.f.Sent() }
func (s *floorSource) close()        {}

func (s *floorSource) send(ctx context.Context, groups int, interval time.Duration) (time.Duration, error) {
	job := s.job
	job.Groups, job.Interval = groups, interval
	ended := context.AfterFunc(ctx, s.terminate)
	defer ended()
	return s.f.Send(job)
}

// chainSource sends records to the chain of the floor.
type chainSource struct {
	numbering
	feed *floor.Feed
	n    atomic.Uint64
	buf  []byte
}

func (s *chainSource) begun() uint64 { return s.n.Load() }
func (s *chainSource) acked() uint64 { return s.n.Load() }
func (s *chainSource) close()        {}

func (s *chainSource) send(ctx context.Context, groups int, interval time.Duration) (late time.Duration, err error) {
	ended := context.AfterFunc(ctx, func() { _ = s.feed.Close() })
	defer ended()
	sent, late, err := producer.Pace(ctx, groups, interval, func(late time.Duration) error {
		n := s.n.Add(1)
		s.buf = s.value(s.buf[:0], n, late)
		return s.feed.Write(s.channel(n), s.buf)
	})
	if err == nil && sent < groups {
		err = fmt.Errorf("send records to the chain: %w", ctx.Err())
	}
	return late, err
}
