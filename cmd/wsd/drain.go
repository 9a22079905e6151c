package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"wsd/internal/command"
	"wsd/internal/control"
)

// drainCmd talks to a running wsd over its control socket. It needs no capability.
type drainCmd struct {
	options
	Start  drainStartCmd  `cmd:"" default:"withargs" help:"Refuse new connections and close the clients at an even pace, which --over or --rate sets (the default)."`
	Status drainStatusCmd `cmd:"" help:"Print how far the drain is."`
	Stop   drainStopCmd   `cmd:"" help:"Stop the drain and accept new connections again. Another drain goes on with the clients that are left."`
}

// show prints the state, or returns the error of the request for it.
func (c *drainCmd) show(e env, asJSON bool, state control.DrainState, err error) error {
	if err != nil {
		return steerError(err)
	}
	if asJSON {
		return printJSON(e.stdout, state)
	}
	_, err = fmt.Fprintln(e.stdout, drainLine(state, time.Now()))
	return err
}

// drainLine describes a state on one line.
func drainLine(state control.DrainState, now time.Time) string {
	if state.Since == nil || state.Until == nil {
		return fmt.Sprintf("%s: %d clients", state.Status, state.Clients)
	}
	line := fmt.Sprintf("%s: %d of %d clients left, %d closed in %v", state.Status, state.Clients, state.ClientsAtStart,
		state.Closed, now.Sub(*state.Since).Round(time.Second))
	if state.Rate > 0 {
		line += fmt.Sprintf(", %v a second", state.Rate)
	}
	if left := state.Until.Sub(now).Round(time.Second); left > 0 && state.Clients > 0 {
		line += fmt.Sprintf(", the last one in %v", left)
	}
	return line
}

type drainStartCmd struct {
	Over *time.Duration `placeholder:"TIME" help:"Close the clients evenly over this time, such as 60s, at most 24h. 0s: as fast as possible."`
	Rate string         `placeholder:"N/s" help:"Close this many clients each second, such as 500/s, from 0.1/s to 1000000/s."`
	Wait bool           `help:"Return only when no client is left, or with exit code 1 when the drain is stopped."`
	JSON bool           `help:"Print the state as JSON."`
}

// Run begins a drain, or changes the pace of the one that is on.
func (c *drainStartCmd) Run(e env, drain *drainCmd) error {
	change, err := c.change()
	if err != nil {
		return command.UsageError{Err: err}
	}
	path, err := drain.socket(e)
	if err != nil {
		return err
	}
	ctx := context.Background()
	state, err := control.Drain(ctx, path, change)
	if c.Wait && err == nil {
		state, err = awaitDrained(ctx, path)
	}
	return drain.show(e, c.JSON, state, err)
}

// change returns the request that the flags stand for.
func (c *drainStartCmd) change() (change control.DrainChange, err error) {
	switch {
	case c.Over == nil && c.Rate == "":
		return change, errors.New("say how fast to close the clients: --over 60s or --rate 500/s (wsd drain status " +
			"shows a drain, wsd drain stop ends it)")
	case c.Over != nil && c.Rate != "":
		return change, errors.New("--over and --rate exclude each other: leave one out")
	case c.Over != nil:
		change.OverSeconds = c.Over.Seconds()
		return change, nil
	}
	change.Rate, err = strconv.ParseFloat(strings.TrimSuffix(c.Rate, "/s"), 64)
	if err != nil || !(change.Rate > 0) {
		return change, fmt.Errorf("--rate %q is not a number of clients a second: write it like 500/s", c.Rate)
	}
	return change, nil
}

// awaitDrained returns when no client is left.
func awaitDrained(ctx context.Context, path string) (control.DrainState, error) {
	const interval = 200 * time.Millisecond
	for {
		state, err := control.Draining(ctx, path)
		switch {
		case err != nil:
			return state, err
		case state.Status == "off":
			return state, errors.New("the drain was stopped before the last client was closed")
		case state.Clients == 0:
			return state, nil
		}
		time.Sleep(interval)
	}
}

type drainStatusCmd struct {
	JSON bool `help:"Print the state as JSON."`
}

// Run prints the state of the drain.
func (c *drainStatusCmd) Run(e env, drain *drainCmd) error {
	path, err := drain.socket(e)
	if err != nil {
		return err
	}
	state, err := control.Draining(context.Background(), path)
	return drain.show(e, c.JSON, state, err)
}

type drainStopCmd struct {
	JSON bool `help:"Print the state as JSON."`
}

// Run ends the drain.
func (c *drainStopCmd) Run(e env, drain *drainCmd) error {
	path, err := drain.socket(e)
	if err != nil {
		return err
	}
	state, err := control.Drain(context.Background(), path, control.DrainChange{Stop: true})
	return drain.show(e, c.JSON, state, err)
}
