package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"wsd/loadtest/client"
	"wsd/loadtest/floor"
	"wsd/loadtest/producer"
)

// source makes the records of a run, one server's way.
type source interface {
	// begun is how many records were made or are about to be.
	begun() uint64
	// send makes groups of records, interval apart or, if that is 0, without a pause, and returns how late one was at most.
	send(ctx context.Context, groups int, interval time.Duration) (late time.Duration, err error)
}

// numbering says which record is whose. Records go to all clients, or each to that of the next channel.
type numbering struct {
	channels int // 0: all clients have the same.
	format   *client.Format
	now      func() int64
}

// value appends the n-th record of all, from 1 on.
func (o *numbering) value(dst []byte, n uint64) []byte {
	if o.channels > 0 {
		n = (n-1)/uint64(o.channels) + 1
	}
	return o.format.Append(dst, n, o.now())
}

// channel is where the n-th record goes.
func (o *numbering) channel(n uint64) uint32 { return uint32((n - 1) % uint64(o.channels)) }

// last is the number of the last record of channel i, when there are n of all.
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

// kafkaSource produces to a Kafka.
type kafkaSource struct {
	batch int
	p     *producer.Producer
}

func newKafkaSource(broker string, batch int, o *numbering) *kafkaSource {
	options := producer.Options{Brokers: []string{broker}, Topic: compareTopic, Batch: batch, Append: o.value}
	if o.channels > 0 {
		options.Key = func(dst []byte, n uint64) []byte { return strconv.AppendUint(dst, uint64(o.channel(n)), 10) }
	}
	return &kafkaSource{batch: batch, p: producer.New(options)}
}

func (s *kafkaSource) begun() uint64 { return s.p.Begun() }

func (s *kafkaSource) send(ctx context.Context, groups int, interval time.Duration) (time.Duration, error) {
	s.p.ResetLate()
	// A nanosecond: as fast as Kafka takes them.
	rate := float64(s.batch) / max(interval, 1).Seconds()
	if err := s.p.Run(ctx, rate, groups); err != nil {
		return 0, err
	}
	return s.p.LateMax(), ctx.Err()
}

// floorSource asks the floor to make them.
type floorSource struct {
	f         *floor.Floor
	job       floor.Job
	terminate func() // Ends the floor.
}

func (s *floorSource) begun() uint64 { return s.f.Sent() }

func (s *floorSource) send(ctx context.Context, groups int, interval time.Duration) (time.Duration, error) {
	job := s.job
	job.Groups, job.Interval = groups, interval
	ended := context.AfterFunc(ctx, s.terminate)
	defer ended()
	return s.f.Send(job)
}

// chainSource gives them to the floor's chain.
type chainSource struct {
	numbering
	feed *floor.Feed
	n    atomic.Uint64
	buf  []byte
}

func (s *chainSource) begun() uint64 { return s.n.Load() }

func (s *chainSource) send(ctx context.Context, groups int, interval time.Duration) (late time.Duration, err error) {
	ended := context.AfterFunc(ctx, func() { _ = s.feed.Close() })
	defer ended()
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range groups {
		due := time.Duration(i) * interval
		timer.Reset(time.Until(start.Add(due)))
		select {
		case <-ctx.Done():
			return late, fmt.Errorf("give the chain records: %w", ctx.Err())
		case <-timer.C:
		}
		late = max(late, time.Since(start)-due)
		n := s.n.Add(1)
		s.buf = s.value(s.buf[:0], n)
		if err := s.feed.Write(s.channel(n), s.buf); err != nil {
			return late, err
		}
	}
	return late, nil
}
