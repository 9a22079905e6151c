package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"wsd/internal/command"
	"wsd/internal/config"
	"wsd/internal/control"
)

// steerCmd talks to a running wsd through its control socket, and needs no capability.
type steerCmd struct {
	options
	Status  steerStatusCmd  `cmd:"" default:"withargs" help:"Print shards, changed settings and outcomes; also without this word."`
	Watch   steerWatchCmd   `cmd:"" help:"Print the same again and again, or a line each time when the output is no terminal."`
	Set     steerSetCmd     `cmd:"" help:"Change a setting until wsd restarts."`
	Drain   steerDrainCmd   `cmd:"" help:"Give a shard no new connections while there is another, until undrain."`
	Undrain steerUndrainCmd `cmd:"" help:"Give a drained shard new connections again."`
	Show    steerShowCmd    `cmd:"" help:"Print every setting, beside what the configuration says."`
}

// state asks the server whose socket the configuration names.
func (c *steerCmd) state(ctx context.Context, e env) (control.SteerState, error) {
	path, err := c.socket(e)
	if err != nil {
		return control.SteerState{}, err
	}
	state, err := control.Steering(ctx, path)
	return state, steerError(err)
}

// steerError makes a usage error of what the server refuses because the command line asked for something that there is not.
func steerError(err error) error {
	if refusal, ok := errors.AsType[*control.Refusal](err); ok && refusal.Status == http.StatusBadRequest {
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
		encoder := json.NewEncoder(e.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(state)
	}
	return printState(e.stdout, state)
}

// printState prints a state for people.
func printState(w io.Writer, state control.SteerState) error {
	fmt.Fprintf(w, "mode %s, policy %s", state.Mode, state.Policy)
	if state.PinPath != "" {
		fmt.Fprintf(w, ", pins %s", state.PinPath)
	}
	if state.Reason != "" {
		fmt.Fprintf(w, ", reason: %s", state.Reason)
	}
	fmt.Fprint(w, "\n\n")

	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "SHARD\tCONNECTIONS\tLOAD\tPENDING\tWEIGHT\tSTATE")
	for _, s := range state.Shards {
		fmt.Fprintf(columns, "%d\t%d\t%d\t%d\t%d\t%s\n", s.ID, s.Connections, s.Load, s.Pending, s.Weight, shardState(s, state.Policy))
	}
	if err := columns.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(w, "\nsettings that differ from the configuration:")
	differ := 0
	for _, s := range state.Settings {
		if s.Changed || s.Ignored {
			differ++
			fmt.Fprintf(columns, "  %s\t%s\t%s\n", settingName(s), s.Text, remark(s))
		}
	}
	if state.AdmissionWsd != 0 {
		differ++
		fmt.Fprintf(columns, "  admission of wsd itself\t%d\t(the stricter of it and admission holds)\n", state.AdmissionWsd)
	}
	if differ == 0 {
		fmt.Fprintln(columns, "  none")
	}
	if err := columns.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(w, "\noutcomes:")
	counted := 0
	for _, c := range slices.Concat(state.Ends, state.Notes) {
		if c.Count > 0 {
			counted++
			fmt.Fprintf(columns, "  %s\t%d\n", c.Name, c.Count)
		}
	}
	if counted == 0 {
		fmt.Fprintln(columns, "  none")
	}
	return columns.Flush()
}

// shardState names everything that keeps new connections from a shard.
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
		states = append(states, "stalled "+time.Duration(s.StalledFor*float64(time.Second)).Round(time.Millisecond).String())
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

// settingName names a value of a setting.
func settingName(s control.SteerSetting) string {
	if s.Shard == nil {
		return s.Name
	}
	return fmt.Sprintf("%s of shard %d", s.Name, *s.Shard)
}

// remark compares a value with what the configuration says.
func remark(s control.SteerSetting) string {
	switch {
	case s.Ignored:
		return fmt.Sprintf("(out of range, %s counts instead; configured %s)", s.InForce, s.Configured)
	case s.Changed:
		return fmt.Sprintf("(configured %s)", s.Configured)
	}
	return "(as configured)"
}

// configKey returns the key in the configuration that a setting begins with, "" if it has none.
func configKey(setting string) string {
	for _, o := range config.Options() {
		last := o.Key[strings.LastIndexByte(o.Key, '.')+1:]
		if strings.HasPrefix(o.Key, "steering.") && (last == setting || last == setting+"s") { // The weights of all shards are one list.
			return o.Key
		}
	}
	return ""
}
