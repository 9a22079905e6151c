package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"wsd/internal/command"
	"wsd/loadtest/client"
	"wsd/loadtest/producer"
	"wsd/loadtest/progress"
	"wsd/loadtest/serverstat"
)

// Limits of waiting, in addition to --timeout.
const (
	pollInterval = 20 * time.Millisecond
	quietMax     = 3 * time.Second // After this time without a delivery, missing records are lost.
	closeGrace   = 5 * time.Second
)

// test is one run.
type test struct {
	plan
	display *progress.Display
	log     io.Writer

	clock     clock
	engine    *client.Engine
	producers []*producer.Producer
	meter     meter

	health   *serverstat.Health // Health after the ramp; nil without an admin port.
	ramp     time.Duration      // Duration of the ramp.
	hold     time.Duration      // Duration of the hold.
	planned  uint64             // Number of records to produce in the hold, in all topics.
	held     int64              // Number of clients at the end of the ramp.
	before   uint64             // Number of records produced in the ramp.
	early    int64              // Number of deliveries in the ramp.
	problems []string           // Why the test has not passed.

	channel client.Channel // Channel of the last topic.
	note    func() string  // Returns further text for the progress of the hold; may be nil.
}

// clock is a wall clock that never jumps, so that a step of the machine's clock does not distort latencies.
type clock struct {
	wall  int64
	start time.Time
}

func newClock() clock { now := time.Now(); return clock{wall: now.UnixNano(), start: now} }

func (c clock) now() int64 { return c.wall + int64(time.Since(c.start)) }

// problem adds a reason why the test has not passed.
func (t *test) problem(format string, args ...any) {
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

// prepare prepares the topics and the engine, and finds the server's process.
func (t *test) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	server, host, err := t.server()
	if err != nil {
		return command.UsageError{Err: err}
	}
	sources, err := t.sources(server.Addr())
	if err != nil {
		return command.UsageError{Err: err}
	}
	t.clock = newClock()
	channels, err := t.channels()
	if err != nil {
		return command.UsageError{Err: err}
	}
	if err := t.checkServed(ctx); err != nil {
		return err
	}
	for i, p := range t.producers {
		created, err := p.Ensure(ctx)
		if err != nil {
			return err
		}
		if created {
			_, _ = fmt.Fprintf(t.log, "created topic %s\n", t.Topic[i])
		}
	}
	if err := t.waitForServer(ctx); err != nil {
		return err
	}
	return t.makeEngine(server, host, sources, channels)
}

// channels creates a producer for each topic.
func (t *test) channels() ([]client.Channel, error) {
	var list []client.Channel
	run := rand.Uint32()
	for i, topic := range t.Topic {
		format, err := client.NewFormat(run+uint32(i), t.Size)
		if err != nil {
			return nil, err
		}
		p := producer.New(producer.Options{
			Brokers: t.Kafka, Topic: topic, Batch: t.Batch,
			Append: func(dst []byte, seq uint64) []byte { return format.Append(dst, seq, t.clock.now()) },
		})
		t.producers = append(t.producers, p)
		t.channel = client.Channel{Name: topic, Format: format, Produced: p.Begun}
		list = append(list, t.channel)
	}
	return list, nil
}

func (t *test) makeEngine(server netip.AddrPort, host string, sources []netip.Addr,
	channels []client.Channel) (err error) {
	t.engine, err = client.New(client.Options{
		Server: server, Host: host, Protocol: client.Protocol(t.Protocol), Channels: channels, Clients: t.clients,
		Loops: t.Loops,
		Dials: t.Dials, ConnectRate: t.ConnectRate, AttemptTimeout: t.AttemptTimeout, Sources: sources,
		Now: t.clock.now,
	})
	return err
}

// checkServed checks that the server serves the topics, before they are created.
func (t *test) checkServed(ctx context.Context) error {
	if t.Admin == "none" {
		return nil
	}
	h, err := serverstat.ReadHealth(ctx, t.Admin)
	if err != nil {
		return nil //nolint:nilerr // An admin port is optional; waitForServer notes its absence.
	}
	for _, topic := range t.Topic {
		if h.Topic(topic) == "" {
			return fmt.Errorf("the server does not serve topic %s: add it to its option kafka.topics", topic)
		}
	}
	return nil
}

// waitForServer finds the server's process, and waits until the server knows the topics.
func (t *test) waitForServer(ctx context.Context) error {
	t.meter = meter{proc: serverstat.Proc{Root: "/proc"}, pid: t.PID}
	if t.Admin == "none" {
		t.meter.note = "no --pid and no --admin"
		return nil
	}
	for {
		h, err := serverstat.ReadHealth(ctx, t.Admin)
		if err != nil {
			t.meter.note = err.Error()
			return nil //nolint:nilerr // The report says why it lacks the server's figures.
		}
		missing := ""
		for _, topic := range t.Topic {
			if h.Topic(topic) != "present" {
				missing = topic
			}
		}
		if missing == "" {
			t.health = &h
			if t.meter.pid == 0 && h.Local(t.meter.proc) {
				t.meter.pid = h.Process.PID
			} else if t.meter.pid == 0 {
				t.meter.note = "the server at --admin runs on another machine or in a container"
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server does not see topic %s, which exists: %w", missing, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// connect is the ramp. It returns when all clients are subscribed or have given up, or when the time is over.
func (t *test) connect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	begin := time.Now()
	var producing sync.WaitGroup
	if t.RampRate > 0 {
		rampCtx, stop := context.WithCancel(ctx)
		defer producing.Wait()
		defer stop()
		t.produce(rampCtx, &producing, t.RampRate, producer.Requests(t.RampRate, t.Batch, t.Timeout))
	}
	shown := t.display.Start("connect", func() progress.State {
		n, _ := t.engine.Snapshot()
		return progress.State{Done: n.Open, Total: int64(t.clients),
			Note: fmt.Sprintf("attempts %d, refused %d, failed %d", n.Attempts, n.Refused, n.Failed)}
	})
	defer shown()
	t.engine.Start()
	poll(ctx, func() bool {
		n, _ := t.engine.Snapshot()
		return n.Held+n.GivenUp >= int64(t.clients)
	})
	t.ramp = time.Since(begin)
	t.engine.Hold()
	n, _ := t.engine.Snapshot()
	t.held = n.Held
}

// produce starts a goroutine for each topic. Their errors become problems when they have ended.
func (t *test) produce(ctx context.Context, running *sync.WaitGroup, rate float64, requests int) {
	errs := make([]error, len(t.producers))
	var each sync.WaitGroup
	for i, p := range t.producers {
		each.Go(func() { errs[i] = p.Run(ctx, rate, requests) })
	}
	running.Go(func() {
		each.Wait()
		if err := errors.Join(errs...); err != nil {
			t.problem("%v", err)
		}
	})
}

// deliver is the hold. It produces, and waits until all clients have the last record or no more records arrive.
func (t *test) deliver(ctx context.Context) {
	begin := time.Now()
	requests := producer.Requests(t.rate, t.Batch, t.duration)
	t.planned = uint64(requests) * uint64(t.Batch) * uint64(len(t.producers))
	t.before = t.produced()
	n, _ := t.engine.Snapshot()
	t.early = n.Deliveries
	shown := t.display.Start(t.mode, func() progress.State {
		n, _ := t.engine.Snapshot()
		s := progress.State{Done: n.Deliveries, Total: t.held * int64(t.before+t.planned) / int64(len(t.producers)),
			Note: fmt.Sprintf("lost %d, duplicates %d, reordered %d, disconnected %d", n.Lost, n.Duplicates,
				n.Reordered, n.Closed)}
		if t.note != nil {
			s.Note += t.note()
		}
		return s
	})
	defer shown()
	produceCtx, cancel := context.WithTimeout(ctx, t.duration+t.Timeout)
	defer cancel()
	var producing sync.WaitGroup
	t.produce(produceCtx, &producing, t.rate, requests)
	producing.Wait()
	// The last record is sent one interval before the end; hold the clients until the end.
	if len(t.problems) == 0 {
		select {
		case <-time.After(time.Until(begin.Add(t.duration))):
		case <-ctx.Done():
		}
	}
	t.drain()
	t.hold = time.Since(begin)
}

// drain waits for the last records, also after an interruption, because they can still be checked.
func (t *test) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), t.Timeout)
	defer cancel()
	last := make([]uint64, len(t.producers))
	for i, p := range t.producers {
		last[i] = p.Acked()
	}
	t.engine.Drain(last)
	var seen int64
	progressed := time.Now()
	poll(ctx, func() bool {
		n, drained := t.engine.Snapshot()
		if n.Deliveries > seen {
			seen, progressed = n.Deliveries, time.Now()
		}
		return drained && n.Behind == 0 || time.Since(progressed) > quietMax
	})
}

// produced returns the number of records that Kafka has acknowledged, in all topics.
func (t *test) produced() (n uint64) {
	for _, p := range t.producers {
		n += p.Acked()
	}
	return n
}

// poll calls done until it returns true or ctx ends.
func poll(ctx context.Context, done func() bool) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
