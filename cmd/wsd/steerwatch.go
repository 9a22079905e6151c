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

// shortestInterval limits the load that watching causes in the wsd.
const shortestInterval = 100 * time.Millisecond

type steerWatchCmd struct {
	Interval time.Duration `default:"1s" help:"Time between two updates, at least 100ms."`
	Count    int           `help:"Number of updates. 0: until SIGINT or SIGTERM."`
}

// Help explains the columns.
func (steerWatchCmd) Help() string {
	return "If the output is not a terminal, each update is a line: connections picked and refused per second, " +
		"current connections, SPREAD " +
		"(the highest load of a shard minus the lowest), pending connections (picked, not accepted), and stalled " +
		"shards."
}

// Run prints updates until a signal arrives or --count is reached.
func (c *steerWatchCmd) Run(e env, steer *steerCmd) error {
	if c.Interval < shortestInterval {
		return command.UsageError{Err: fmt.Errorf("--interval %v must be at least %v", c.Interval, shortestInterval)}
	}
	if c.Count < 0 {
		return command.UsageError{Err: fmt.Errorf("--count %d must be at least 0", c.Count)}
	}
	path, err := steer.socket(e)
	if err != nil {
		return err
	}
	ctx, stop := signals(e.stderr)
	defer stop()
	err = c.watch(ctx, e, path)
	if ctx.Err() != nil { // A signal is the normal end.
		return nil
	}
	return err
}

func (c *steerWatchCmd) watch(ctx context.Context, e env, path string) error {
	last, err := control.Steering(ctx, path)
	if err != nil {
		return err
	}
	lastRead := time.Now()
	if e.screen {
		err = redraw(e, last, pace{})
	} else {
		_, err = fmt.Fprintf(e.stdout, "%-8s %9s %9s %11s %7s %7s %7s\n", "TIME", "PICKED/S", "REFUSED/S",
			"CONNECTIONS", "SPREAD", "PENDING", "STALLED")
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
		p := paceOf(last, now, time.Since(lastRead))
		last, lastRead = now, time.Now()
		if e.screen {
			err = redraw(e, now, p)
		} else {
			err = printLine(e, now, p, lastRead)
		}
		if err != nil {
			return err
		}
	}
	return err
}

// pace is the number of connections picked and refused per second.
type pace struct{ picked, refused float64 }

// paceOf compares two states. Lower counts than before mean that wsd has restarted, so it counts from 0.
func paceOf(last, now control.SteerState, took time.Duration) pace {
	pickedLast, refusedLast := totals(last)
	pickedNow, refusedNow := totals(now)
	if pickedNow < pickedLast || refusedNow < refusedLast {
		pickedLast, refusedLast = 0, 0
	}
	return pace{picked: float64(pickedNow-pickedLast) / took.Seconds(),
		refused: float64(refusedNow-refusedLast) / took.Seconds()}
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

// printLine prints the state read at a time as one line, for a log or a pipe.
func printLine(e env, state control.SteerState, p pace, read time.Time) error {
	var connections, pending, loadMin, loadMax int64
	stalled := 0
	for i, s := range state.Shards {
		connections += s.Connections
		pending += s.Pending
		loadMax = max(loadMax, s.Load)
		if i == 0 || s.Load < loadMin {
			loadMin = s.Load
		}
		if s.StalledFor > 0 {
			stalled++
		}
	}
	_, err := fmt.Fprintf(e.stdout, "%-8s %9.1f %9.1f %11d %7d %7d %7d\n", read.Format(time.TimeOnly), p.picked,
		p.refused, connections, loadMax-loadMin,
		pending, stalled)
	return err
}

const (
	cursorHome = "\x1b[H"
	eraseRight = "\x1b[K"
	eraseBelow = "\x1b[J"
)

// redraw prints a state over the previous one, in one write so that the screen does not flicker.
func redraw(e env, state control.SteerState, p pace) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s  %.1f/s picked, %.1f/s refused; press Ctrl-C to stop\n", time.Now().Format(time.TimeOnly),
		p.picked, p.refused)
	if err := printState(&b, state); err != nil {
		return err
	}
	_, err := fmt.Fprint(e.stdout, cursorHome, strings.ReplaceAll(b.String(), "\n", eraseRight+"\n"), eraseBelow)
	return err
}
