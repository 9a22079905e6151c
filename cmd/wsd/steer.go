package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"wsd/internal/command"
	"wsd/internal/config"
	"wsd/internal/control"
)

// steerCmd talks to a running wsd over its control socket. It needs no capability.
type steerCmd struct {
	options
	Status  steerStatusCmd  `cmd:"" default:"withargs" help:"Print the shards, the changed settings and the outcomes (the default)."`
	Watch   steerWatchCmd   `cmd:"" help:"Print the status repeatedly; one line each time if the output is not a terminal."`
	Set     steerSetCmd     `cmd:"" help:"Change a setting until wsd restarts."`
	Drain   steerDrainCmd   `cmd:"" help:"Stop giving a shard new connections, as long as another shard can take them."`
	Undrain steerUndrainCmd `cmd:"" help:"Give a drained shard new connections again."`
	Show    steerShowCmd    `cmd:"" help:"Print every setting next to its configured value."`
}

// state asks the wsd at the configured control socket for its steering state.
func (c *steerCmd) state(ctx context.Context, e env) (control.SteerState, error) {
	path, err := c.socket(e)
	if err != nil {
		return control.SteerState{}, err
	}
	state, err := control.Steering(ctx, path)
	return state, steerError(err)
}

// steerError turns a refusal of a bad request into a usage error, because the request was the command line's.
func steerError(err error) error { return refused(err, http.StatusBadRequest) }

// refused turns a refusal with one of the statuses into a usage error.
func refused(err error, statuses ...int) error {
	if refusal, ok := errors.AsType[*control.Refusal](err); ok && slices.Contains(statuses, refusal.Status) {
		return command.UsageError{Err: err}
	}
	return err
}

type steerStatusCmd struct {
	JSON bool `help:"Print the whole state as JSON."`
}

// Run prints the state.
func (c *steerStatusCmd) Run(e env, steer *steerCmd) error {
	state, err := steer.state(context.Background(), e)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e.stdout, state)
	}
	return printState(e.stdout, state)
}

// printState prints a state for people to read.
func printState(w io.Writer, state control.SteerState) error {
	fmt.Fprintf(w, "mode %s, policy %s", state.Mode, state.Policy)
	if state.PinPath != "" {
		fmt.Fprintf(w, ", pins %s", state.PinPath)
	}
	if state.Reason != "" {
		fmt.Fprintf(w, ", reason: %s", state.Reason)
	}
	fmt.Fprint(w, "\n\n")

	table := columns(w)
	fmt.Fprintln(table, "SHARD\tCONNECTIONS\tLOAD\tPENDING\tWEIGHT\tSTATE")
	for _, s := range state.Shards {
		fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%d\t%s\n", s.ID, s.Connections, s.Load, s.Pending, s.Weight,
			shardState(s, state.Policy))
	}
	if err := table.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(w, "\nSettings that differ from the configuration:")
	differ := 0
	for _, s := range state.Settings {
		if s.Changed || s.Ignored {
			differ++
			fmt.Fprintf(table, "  %s\t%s\t%s\n", settingName(s), s.Text, remark(s))
		}
	}
	if state.AdmissionWsd != 0 {
		differ++
		fmt.Fprintf(table, "  admission by wsd itself\t%d\t(the higher of this and admission applies)\n",
			state.AdmissionWsd)
	}
	if differ == 0 {
		fmt.Fprintln(table, "  none")
	}
	if err := table.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(w, "\nOutcomes:")
	counted := 0
	for _, c := range slices.Concat(state.Ends, state.Notes) {
		if c.Count > 0 {
			counted++
			fmt.Fprintf(table, "  %s\t%d\n", c.Name, c.Count)
		}
	}
	if counted == 0 {
		fmt.Fprintln(table, "  none")
	}
	return table.Flush()
}

// shardState lists everything that keeps new connections away from a shard.
func shardState(s control.SteerShard, policy string) string {
	var states []string
	if s.Weight == 0 && policy == "weighted" {
		states = append(states, "weight 0")
	}
	if s.Drain {
		states = append(states, "draining")
	}
	if s.Draining {
		states = append(states, "drained by wsd")
	}
	if s.StalledFor > 0 {
		states = append(states,
			"stalled "+time.Duration(s.StalledFor*float64(time.Second)).Round(time.Millisecond).String())
	}
	if s.Full {
		states = append(states, "full")
	}
	if s.Ramping {
		states = append(states, "ramping")
	}
	if len(states) == 0 {
		return "ok"
	}
	return strings.Join(states, ", ")
}

// settingName returns the name of a setting, with its shard if each shard has its own value.
func settingName(s control.SteerSetting) string {
	if s.Shard == nil {
		return s.Name
	}
	return fmt.Sprintf("%s of shard %d", s.Name, *s.Shard)
}

// remark compares a value with the configured one.
func remark(s control.SteerSetting) string {
	switch {
	case s.Ignored:
		return fmt.Sprintf("(out of range, %s applies instead; configured %s)", s.InForce, s.Configured)
	case s.Changed:
		return fmt.Sprintf("(configured %s)", s.Configured)
	}
	return "(as configured)"
}

// configKey returns the option that sets the initial value of a setting, or "" if there is none.
func configKey(setting string) string {
	for _, o := range config.Options() {
		last := o.Key[strings.LastIndexByte(o.Key, '.')+1:]
		// The option weights is a list with the setting weight of each shard.
		if strings.HasPrefix(o.Key, "steering.") && (last == setting || last == setting+"s") {
			return o.Key
		}
	}
	return ""
}
