package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"wsd/loadtest/client"
)

// settle is how long connections are idle before their memory is read.
const settle = time.Second

// measure is what one run has measured. A figure is 0 where there was nothing to divide by.
type measure struct {
	Held          int64   `json:"held"`           // Clients that count.
	Opened        int64   `json:"opened"`         // Clients that opened in time.
	Closed        int64   `json:"closed"`         // Of them, those that were closed.
	Incomplete    int64   `json:"incomplete"`     // Of them, those that missed a record, at most.
	CPUConnection float64 `json:"cpu_connection"` // CPU per connection without records, in microseconds.
	CPUDelivery   float64 `json:"cpu_delivery"`   // CPU in the hold per delivery, in microseconds.
	CPUShare      float64 `json:"cpu_share"`      // CPU in the hold, in CPUs.
	Memory        float64 `json:"memory"`         // Resident bytes per connection without records.
	Goroutines    float64 `json:"goroutines"`     // At the end of the hold.
	P99           float64 `json:"p99"`            // Latency of all records, in milliseconds.
	Refused       int64   `json:"refused"`        // Attempts refused.
	Late          float64 `json:"late"`           // Longest delay of the producers, in milliseconds.
	Busy          float64 `json:"busy"`           // CPUs that clients and Kafka used while records were produced.
	Failure       string  `json:"failure,omitempty"`
}

// String is one line for the log.
func (m measure) String() string {
	if m.Failure != "" {
		return "failed: " + m.Failure
	}
	return fmt.Sprintf("held %d (opened %d, closed %d, incomplete %d, refused %d times), %.0f µs/connection, "+
		"%.1f µs/delivery, %.2f CPUs, %.1f KiB/connection, %.0f goroutines, p99 %.0f ms; clients and Kafka %.2f CPUs, "+
		"producers late by %.0f ms",
		m.Held, m.Opened, m.Closed, m.Incomplete, m.Refused, m.CPUConnection, m.CPUDelivery, m.CPUShare,
		m.Memory/1024, m.Goroutines, m.P99, m.Busy, m.Late)
}

// trial is one run of one row.
type trial struct {
	*config
	server  *server
	feed    *feed
	wall    int64
	begun   time.Time
	cohorts []*cohort
	dialing sync.WaitGroup
	m       measure
}

// now is a wall clock that never jumps.
func (t *trial) now() int64 { return t.wall + int64(time.Since(t.begun)) }

// measureRow runs a row once.
func (c *config) measureRow(ctx context.Context, r row) (m measure, err error) {
	begun := time.Now()
	t := &trial{config: c, wall: begun.UnixNano(), begun: begun}
	t.server, err = c.start(r)
	defer func() { err = errors.Join(err, t.server.stop()) }()
	if err != nil {
		return m, err
	}
	if t.feed, err = newFeed(c, t.server.broker, t.now); err != nil {
		return m, err
	}
	defer t.feed.close()
	// The topics exist; this waits until the producers know their leaders.
	for _, p := range t.feed.producers {
		if _, err := p.Ensure(ctx); err != nil {
			return m, err
		}
	}
	err = t.run(ctx)
	return t.m, err
}

func (t *trial) run(ctx context.Context) error {
	size := int(t.Rate * cohortInterval.Seconds())
	idle := t.Clients / 8 / size * size
	if idle == 0 {
		idle = min(size, t.Clients)
	}
	if err := t.idle(ctx, idle, size); err != nil {
		return err
	}
	producing, stop := context.WithCancel(ctx)
	defer stop()
	busy, began := t.server.load(), time.Now()
	t.feed.start(producing)
	t.launch(ctx, cohorts(idle, t.Clients, size))
	t.dialing.Wait()
	err := t.hold(ctx)
	t.m.Busy = (t.server.load() - busy).Seconds() / time.Since(began).Seconds()
	stop()
	err = errors.Join(err, t.feed.wait())
	n := t.drain(ctx)
	t.count(&n)
	if latency := t.close(); latency != nil {
		t.m.P99 = float64(latency.ValueAtQuantile(99)) / 1000
	}
	t.m.Late = t.feed.late()
	for _, k := range t.cohorts {
		err = errors.Join(err, k.err)
	}
	return err
}

// idle connects the first clients without records, and measures what each takes.
func (t *trial) idle(ctx context.Context, clients, size int) error {
	wait(ctx, settle)
	before, err := t.server.memory()
	if err != nil {
		return err
	}
	used, err := t.server.group.used()
	if err != nil {
		return err
	}
	t.launch(ctx, cohorts(0, clients, size))
	t.dialing.Wait()
	usedAfter, err := t.server.group.used()
	if err != nil {
		return err
	}
	wait(ctx, settle)
	after, err := t.server.memory()
	if err != nil {
		return err
	}
	if n := t.counters(); n.Held > 0 {
		t.m.CPUConnection = (usedAfter - used).Seconds() * 1e6 / float64(n.Held)
		t.m.Memory = (after - before) / float64(n.Held)
	}
	return nil
}

// hold measures while nobody connects.
func (t *trial) hold(ctx context.Context) error {
	before := t.counters()
	begun := time.Now()
	used, err := t.server.group.used()
	if err != nil {
		return err
	}
	wait(ctx, t.Hold)
	usedAfter, err := t.server.group.used()
	if err != nil {
		return err
	}
	after := t.counters()
	took := time.Since(begun).Seconds()
	t.m.CPUShare = (usedAfter - used).Seconds() / took
	if n := after.Deliveries - before.Deliveries; n > 0 {
		t.m.CPUDelivery = (usedAfter - used).Seconds() * 1e6 / float64(n)
	}
	t.m.Goroutines, err = t.server.goroutines(ctx)
	return err
}

// count says how many clients are held: opened in time, open at the end, no record missing. A client with a gap may
// have several, so at least those without any are counted.
func (t *trial) count(n *client.Counters) {
	t.m.Opened, t.m.Closed, t.m.Refused = n.Held, n.Closed, n.Refused
	t.m.Incomplete = min(n.Open, n.Behind+n.Gaps)
	t.m.Held = n.Open - t.m.Incomplete
}
