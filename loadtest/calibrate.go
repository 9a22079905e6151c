package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"wsd/loadtest/progress"
)

// Parameters of measuring the highest rate.
const (
	// calibrateStep is how long one number of records in flight is tried.
	calibrateStep = 2 * time.Second
	// currentMax is how long a record may take to the last good client, for the good clients to count as current.
	currentMax     = 500 * time.Millisecond
	calibrateSteps = 16
)

// calibrate returns the highest rate at which good clients stay current, in records per second. It produces as fast as
// they read, with a limit on the records in flight: first the records of one produce request, then twice as many each
// time. More records in flight give a higher rate, because the server writes several at once, but take longer, by
// Little's law: records in flight = rate × time.
func (s *soakTest) calibrate(ctx context.Context) (best float64, err error) {
	// No good client may come near the server's limit.
	inFlightMax := max(s.Batch, s.soak.OutboundMax/4/(s.Size+slowOverhead))
	inFlight := s.Batch
	var highest atomic.Uint64 // Bits of best, for the display.
	shown := s.display.Start("calibrate", func() progress.State {
		n, _ := s.engine.Snapshot()
		return progress.State{Done: n.Deliveries, Total: n.Deliveries,
			Note: fmt.Sprintf("highest rate so far %.1f/s", math.Float64frombits(highest.Load()))}
	})
	defer shown()
	worse := 0 // Number of consecutive steps without a higher rate.
	for range calibrateSteps {
		rate, err := s.closedLoop(ctx, inFlight)
		if err != nil {
			return best, err
		}
		current := time.Duration(float64(inFlight)/rate*float64(time.Second)) <= currentMax
		if worse++; best == 0 || current && rate > best {
			best, worse = rate, 0
			highest.Store(math.Float64bits(best))
		}
		if worse == 2 || inFlight*2 > inFlightMax {
			break
		}
		inFlight *= 2
	}
	return best, nil
}

// slowOverhead is the size of a record in the server's queue in addition to its bytes.
const slowOverhead = 80

// closedLoop produces for calibrateStep with at most inFlight records in flight, waits until all have arrived, and
// returns the records per second.
func (s *soakTest) closedLoop(ctx context.Context, inFlight int) (rate float64, err error) {
	p := s.producers[0]
	begin := time.Now()
	first := p.Acked()
	for time.Since(begin) < calibrateStep {
		if err := s.await(ctx,
			func(arrived uint64) bool { return p.Acked()-arrived+uint64(s.Batch) <= uint64(inFlight) }); err != nil {
			return 0, err
		}
		// Send one request at once.
		if err := p.Run(ctx, 1e6, 1); err != nil {
			return 0, err
		}
	}
	if err := s.await(ctx, func(arrived uint64) bool { return arrived == p.Acked() }); err != nil {
		return 0, err
	}
	return float64(p.Acked()-first) / time.Since(begin).Seconds(), nil
}

// await waits until enough records have arrived at all good clients.
func (s *soakTest) await(ctx context.Context, enough func(arrived uint64) bool) error {
	deadline := time.Now().Add(s.Timeout)
	for {
		n, _ := s.engine.Snapshot()
		switch {
		case n.Closed > 0:
			return fmt.Errorf("%d good clients were disconnected: %s", n.Closed, reasons(n.Closes))
		case enough(uint64(n.Deliveries / s.held)):
			return nil
		case time.Now().After(deadline):
			return errors.New("records do not arrive")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
