package main

import (
	"context"
	"errors"
	"fmt"
	"time"
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
func (r *run) calibrate(ctx context.Context, outboundMax int) (best float64, err error) {
	// No good client may come near the server's limit.
	inFlightMax := max(r.Batch, outboundMax/4/(r.Size+slowOverhead))
	inFlight := r.Batch
	shown := r.series.phase("calibrate")
	defer shown()
	worse := 0 // Number of consecutive steps without a higher rate.
	for range calibrateSteps {
		rate, err := r.closedLoop(ctx, inFlight)
		if err != nil {
			return best, err
		}
		current := time.Duration(float64(inFlight)/rate*float64(time.Second)) <= currentMax
		if worse++; best == 0 || current && rate > best {
			best, worse = rate, 0
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
func (r *run) closedLoop(ctx context.Context, inFlight int) (rate float64, err error) {
	f := r.feeds[0]
	begin := time.Now()
	first := f.acked()
	for time.Since(begin) < calibrateStep {
		if err := r.await(ctx,
			func(arrived uint64) bool { return f.acked()-arrived+uint64(r.Batch) <= uint64(inFlight) }); err != nil {
			return 0, err
		}
		// Send one request at once.
		if _, err := f.send(ctx, 1, 0); err != nil {
			return 0, err
		}
	}
	if err := r.await(ctx, func(arrived uint64) bool { return arrived == f.acked() }); err != nil {
		return 0, err
	}
	return float64(f.acked()-first) / time.Since(begin).Seconds(), nil
}

// await waits until enough records have arrived at all good clients.
func (r *run) await(ctx context.Context, enough func(arrived uint64) bool) error {
	deadline := time.Now().Add(r.Timeout)
	for {
		n, _ := r.engine.Snapshot()
		switch {
		case n.Closed > 0:
			return fmt.Errorf("%d good clients were disconnected: %s", n.Closed, reasons(n.Closes))
		case enough(uint64(n.Deliveries / r.held)):
			return nil
		case time.Now().After(deadline):
			return errors.New("records do not arrive")
		}
		if !sleep(ctx, time.Millisecond) {
			return ctx.Err()
		}
	}
}
