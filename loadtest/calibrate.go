package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wsd/loadtest/progress"
)

// How the highest rate is measured.
const (
	// calibrateStep is how long one number of records on their way is tried.
	calibrateStep = 2 * time.Second
	// currentMax is how long a record may be on its way to the last good client for them to count as current.
	currentMax     = 500 * time.Millisecond
	calibrateSteps = 16
)

// calibrate returns the highest rate at which good clients stay current, in records a second. It produces as fast as they read, with at most so many
// records on their way at a time, first one produce request's, and twice as many each time. More on their way make a higher rate, because
// the server then writes several at once, and take longer, by Little's law: number on their way = rate × time.
func (s *soakTest) calibrate(ctx context.Context) (best float64, err error) {
	// So that no good client comes near the server's limit.
	most := max(s.Batch, s.soak.OutboundMax/4/(s.Size+slowOverhead))
	onTheWay := s.Batch
	shown := s.display.Start("calibrate", func() progress.State {
		n, _ := s.engine.Snapshot()
		return progress.State{Done: n.Deliveries, Total: n.Deliveries, Note: fmt.Sprintf("highest rate so far %.1f/s", best)}
	})
	defer shown()
	worse := 0 // Steps in a row that brought no higher rate.
	for range calibrateSteps {
		rate, err := s.closedLoop(ctx, onTheWay)
		if err != nil {
			return best, err
		}
		current := time.Duration(float64(onTheWay)/rate*float64(time.Second)) <= currentMax
		if worse++; best == 0 || current && rate > best {
			best, worse = rate, 0
		}
		if worse == 2 || onTheWay*2 > most {
			break
		}
		onTheWay *= 2
	}
	return best, nil
}

// slowOverhead is what a record takes in the server's queue beside its bytes.
const slowOverhead = 80

// closedLoop produces for calibrateStep with at most so many records on their way, waits until all have come, and returns the records a second.
func (s *soakTest) closedLoop(ctx context.Context, onTheWay int) (rate float64, err error) {
	p := s.producers[0]
	begin := time.Now()
	first := p.Acked()
	for time.Since(begin) < calibrateStep {
		if err := s.await(ctx, func(came uint64) bool { return p.Acked()-came+uint64(s.Batch) <= uint64(onTheWay) }); err != nil {
			return 0, err
		}
		// One request, at once.
		if err := p.Run(ctx, 1e6, 1); err != nil {
			return 0, err
		}
	}
	if err := s.await(ctx, func(came uint64) bool { return came == p.Acked() }); err != nil {
		return 0, err
	}
	return float64(p.Acked()-first) / time.Since(begin).Seconds(), nil
}

// await waits until enough records have come to all good clients.
func (s *soakTest) await(ctx context.Context, enough func(came uint64) bool) error {
	deadline := time.Now().Add(s.Timeout)
	for {
		n, _ := s.engine.Snapshot()
		switch {
		case n.Closed > 0:
			return fmt.Errorf("%d good clients were disconnected: %s", n.Closed, reasons(n.Closes))
		case enough(uint64(n.Deliveries / s.held)):
			return nil
		case time.Now().After(deadline):
			return errors.New("records do not come")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
