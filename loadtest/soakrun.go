package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wsd/loadtest/client"
	"wsd/loadtest/report"
	"wsd/loadtest/serverstat"
)

// Limits of waiting in a soak.
const (
	// endedMax is how long the server may take to close connections whose clients are gone. It is longer than wsd's own
	// limit.
	endedMax     = 30 * time.Second
	endedSettled = 200 * time.Millisecond // Two readings of its counters at this interval must be equal.
)

// soakTest is one soak.
type soakTest struct {
	*test
	soak       *soak
	disturbers *client.Disturbers
	disturbed  client.Disturbed
	memory     *memory
	sustained  float64 // Highest rate in records per second; 0: not measured.
}

// run runs a whole soak. An error means that nothing was measured.
func (s *soakTest) run(ctx context.Context) (*report.Report, error) {
	defer func() {
		for _, p := range s.producers {
			p.Close()
		}
	}()
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	before, err := s.readAdmin(ctx)
	if err != nil {
		return nil, err
	}
	if n := before.metrics["wsd_connections"]; n != 0 {
		return nil, fmt.Errorf("the server already has %g connections, which would also change its counters", n)
	}
	var m [3]sample // Before the ramp, after it, after the hold.
	m[0] = s.meter.read()
	if !m[0].present {
		return nil, fmt.Errorf("cannot read the server's memory: %s", s.meter.note)
	}
	s.connect(ctx)
	m[1] = s.meter.read()
	s.readShards(ctx)
	if s.held > 0 && ctx.Err() == nil {
		err = s.disturb(ctx)
	} else {
		s.drain()
	}
	if err != nil {
		s.problem("%v", err)
	}
	m[2] = s.meter.read()
	n, connect, latency := s.engine.Close(closeGrace)
	after, err := s.settled(ctx)
	if err != nil {
		s.problem("%v", err)
	}
	r := s.report(&n, connect, latency)
	s.costs(r, m)
	r.Interrupted = ctx.Err() != nil
	s.soakReport(r, &n, before, after)
	s.judge(r, &n)
	return r, nil
}

// disturb determines the rate, and produces while some clients disturb.
func (s *soakTest) disturb(ctx context.Context) (err error) {
	if s.soak.Rate == 0 {
		if s.sustained, err = s.calibrate(ctx); err != nil {
			return fmt.Errorf("measure the highest rate: %w", err)
		}
		s.rate = max(1, s.soak.Load*s.sustained)
	}
	_, _ = fmt.Fprintf(s.log, "soak: %.1f records per second for %s, %d good and %d disturbing clients, seed %d\n",
		s.rate, s.duration, s.clients, s.soak.disturbers(), s.soak.Seed)
	server, host, err := s.server()
	if err != nil {
		return err
	}
	s.disturbers, err = client.NewDisturbers(client.DisturberOptions{
		Server: server, Host: host, Channel: s.channel, Seen: func() uint64 { return s.engine.Seen(0) },
		Now:   s.clock.now,
		Count: s.soak.disturbers(), Seed: s.soak.Seed, OutboundMax: s.soak.OutboundMax, StopMax: s.soak.StopMax,
	})
	if err != nil {
		return err
	}
	s.memory = newMemory(s.meter.proc, s.meter.pid)
	stopMemory := s.memory.start()
	disturbing, end := context.WithCancel(ctx)
	s.disturbers.Start(disturbing)
	s.deliver(ctx)
	stopMemory()
	end()
	s.disturbed = s.disturbers.Wait()
	return nil
}

// note returns the progress of the disturbing clients.
func (s *soakTest) note() string {
	if s.disturbers == nil {
		return ""
	}
	d := s.disturbers.Snapshot()
	var closed int64
	for _, n := range d.Frames {
		closed += n
	}
	return fmt.Sprintf("; disturbed connections %d: reset %d, closed by the server %d, recovered %d; server %d MB",
		d.Connected, d.ResetUpgrade+d.ResetClear+d.ResetBehind, closed+d.Cut, d.Recovered, s.memory.last()>>20)
}

// reading is one reading of the admin port.
type reading struct {
	metrics serverstat.Metrics
	health  serverstat.Health
}

func (s *soakTest) readAdmin(ctx context.Context) (l reading, err error) {
	if l.metrics, err = serverstat.ReadMetrics(ctx, s.Admin); err != nil {
		return reading{}, err
	}
	l.health, err = serverstat.ReadHealth(ctx, s.Admin)
	return l, err
}

// settled waits until the server has closed all connections and its counters no longer change.
func (s *soakTest) settled(ctx context.Context) (reading, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endedMax)
	defer cancel()
	var last reading
	for {
		now, err := s.readAdmin(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return last, fmt.Errorf("the server still has %g connections %s after all clients have gone",
				last.metrics["wsd_connections"], endedMax)
		case err != nil:
			return last, err
		case now.metrics["wsd_connections"] == 0 && last.metrics != nil && now.same(&last):
			return now, nil
		}
		last = now
		select {
		case <-ctx.Done():
		case <-time.After(endedSettled):
		}
	}
}

// same reports whether the counters that change last are equal.
func (l *reading) same(before *reading) bool {
	for _, name := range []string{"wsd_connections", "wsd_accepted_total", "wsd_closed_total", "wsd_deliveries_total",
		"wsd_dropped_total", "wsd_slow_total"} {
		if l.metrics[name] != before.metrics[name] {
			return false
		}
	}
	return true
}
