package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"wsd/internal/command"
	"wsd/internal/control"
)

// intervalLeast keeps watching from costing the wsd that is watched.
const intervalLeast = 100 * time.Millisecond

type steerWatchCmd struct {
	Interval time.Duration `default:"1s" help:"Between two looks, at least 100ms."`
	Count    int           `help:"End after so many looks; 0: at SIGINT or SIGTERM."`
}

// Help says what the columns mean.
func (steerWatchCmd) Help() string {
	return "Where the output is no terminal, each look is a line: connections picked and refused per second, connections now, SPREAD (the load " +
		"of the fullest shard less that of the emptiest), connections picked but not accepted, shards that stall."
}

// Run watches until a signal comes, or --count is reached.
func (c *steerWatchCmd) Run(e env, steer *steerCmd) error {
	if c.Interval < intervalLeast {
		return command.UsageError{Err: fmt.Errorf("--interval %v: it must be at least %v", c.Interval, intervalLeast)}
	}
	if c.Count < 0 {
		return command.UsageError{Err: fmt.Errorf("--count %d: it must be at least 0", c.Count)}
	}
	path, err := steer.socket(e)
	if err != nil {
		return err
	}
	ctx, stop := signals()
	defer stop()
	err = c.watch(ctx, e, path)
	if ctx.Err() != nil { // A signal, which is how this ends.
		return nil
	}
	return err
}

func (c *steerWatchCmd) watch(ctx context.Context, e env, path string) error {
	last, err := control.Steering(ctx, path)
	if err != nil {
		return err
	}
	at := time.Now()
	if e.screen {
		err = redraw(e, last, pace{})
	} else {
		_, err = fmt.Fprintf(e.stdout, "%-8s %9s %9s %11s %7s %7s %7s\n", "TIME", "PICKED/S", "REFUSED/S", "CONNECTIONS", "SPREAD", "PENDING", "STALLED")
	}
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for n := 0; err == nil && (c.Count == 0 || n < c.Count); n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now, err := control.Steering(ctx, path)
		if err != nil {
			return err
		}
		p := paceOf(last, now, time.Since(at))
		last, at = now, time.Now()
		if e.screen {
			err = redraw(e, now, p)
		} else {
			err = printLine(e, now, p, at)
		}
		if err != nil {
			return err
		}
	}
	return err
}

// pace is how many connections a second were picked and refused.
type pace struct{ picked, refused float64 }

// paceOf compares two states. Counts that are less than before are those of a wsd that was started since.
func paceOf(last, now control.SteerState, took time.Duration) pace {
	pickedLast, refusedLast := totals(last)
	pickedNow, refusedNow := totals(now)
	if pickedNow < pickedLast || refusedNow < refusedLast {
		pickedLast, refusedLast = 0, 0
	}
	return pace{picked: float64(pickedNow-pickedLast) / took.Seconds(), refused: float64(refusedNow-refusedLast) / took.Seconds()}
}

func totals(state control.SteerState) (picked, refused uint64) {
	for _, end := range state.Ends {
		switch {
		case strings.HasPrefix(end.Name, "picked_"):
			picked += end.Count
		case strings.HasPrefix(end.Name, "refused_"):
			refused += end.Count
		}
	}
	return picked, refused
}

// printLine prints a state in a line, for a log or a pipe.
func printLine(e env, state control.SteerState, p pace, at time.Time) error {
	var connections, pending, least, most int64
	stalled := 0
	for i, s := range state.Shards {
		connections += s.Connections
		pending += s.Pending
		most = max(most, s.Load)
		if i == 0 || s.Load < least {
			least = s.Load
		}
		if s.StalledFor > 0 {
			stalled++
		}
	}
	_, err := fmt.Fprintf(e.stdout, "%-8s %9.1f %9.1f %11d %7d %7d %7d\n", at.Format(time.TimeOnly), p.picked, p.refused, connections, most-least,
		pending, stalled)
	return err
}

const (
	cursorHome = "\x1b[H"
	eraseRight = "\x1b[K"
	eraseBelow = "\x1b[J"
)

// redraw prints a state over the one before, in one write, so that nothing flickers.
func redraw(e env, state control.SteerState, p pace) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s  %.1f/s picked, %.1f/s refused; ctrl-c ends\n", time.Now().Format(time.TimeOnly), p.picked, p.refused)
	if err := printState(&b, state); err != nil {
		return err
	}
	_, err := fmt.Fprint(e.stdout, cursorHome, strings.ReplaceAll(b.String(), "\n", eraseRight+"\n"), eraseBelow)
	return err
}
