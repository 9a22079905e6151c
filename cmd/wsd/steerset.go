package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"wsd/internal/command"
	"wsd/internal/control"
)

type steerSetCmd struct {
	Policy    steerSetPolicyCmd    `cmd:"" help:"Choose another policy for new connections."`
	Weight    steerSetWeightCmd    `cmd:"" help:"Change the weight of a shard under the policy weighted."`
	Admission steerSetAdmissionCmd `cmd:"" help:"Refuse a percentage of new connections, chosen at random."`
	Limit     steerSetLimitCmd     `cmd:"" help:"Change a bound or a limit. docs/configuration.md describes the options of the same names."`
}

type steerSetPolicyCmd struct {
	Name string `arg:"" help:"least-loaded, weighted, p2c, cpu-local or hash."`
}

// Run sets the policy.
func (c *steerSetPolicyCmd) Run(e env, steer *steerCmd) error {
	return steer.change(e, control.SteerChange{Setting: "policy", Value: c.Name})
}

type steerSetWeightCmd struct {
	Shard  int    `arg:"" help:"Number of the shard, from 0."`
	Weight string `arg:"" help:"0 to 10000; the default is 100. 0: no new connections while another shard can take them."`
}

// Run sets a weight.
func (c *steerSetWeightCmd) Run(e env, steer *steerCmd) error {
	return steer.change(e, control.SteerChange{Setting: "weight", Shard: &c.Shard, Value: c.Weight})
}

type steerSetAdmissionCmd struct {
	Percent string `arg:"" help:"Percentage to refuse, 0 to 100."`
}

// Run sets the percentage of new connections to refuse.
func (c *steerSetAdmissionCmd) Run(e env, steer *steerCmd) error {
	return steer.change(e, control.SteerChange{Setting: "admission", Value: c.Percent})
}

// limitNames are the settings that have no subcommand of their own.
var limitNames = []string{
	"stall_bound", "ramp", "pending_max", "cpu_local_bound", "source_rate", "source_burst", "source_prefix4",
	"source_prefix6", "source_dry_run",
	"admission_dry_run",
}

type steerSetLimitCmd struct {
	Name  string `arg:"" help:"One of ${limits}."`
	Value string `arg:"" help:"A duration such as 150ms for stall_bound and ramp, true or false for a dry run, else a number."`
}

// Run sets the named limit.
func (c *steerSetLimitCmd) Run(e env, steer *steerCmd) error {
	if !slices.Contains(limitNames, c.Name) {
		return command.UsageError{Err: fmt.Errorf("no limit is named %q; the limits are %s", c.Name,
			strings.Join(limitNames, ", "))}
	}
	return steer.change(e, control.SteerChange{Setting: c.Name, Value: c.Value})
}

type steerDrainCmd struct {
	Shard int `arg:"" help:"Number of the shard, from 0."`
}

// Run drains a shard.
func (c *steerDrainCmd) Run(e env, steer *steerCmd) error {
	return steer.change(e, control.SteerChange{Setting: "drain", Shard: &c.Shard, Value: "true"})
}

type steerUndrainCmd struct {
	Shard int `arg:"" help:"Number of the shard, from 0."`
}

// Run ends the draining of a shard.
func (c *steerUndrainCmd) Run(e env, steer *steerCmd) error {
	return steer.change(e, control.SteerChange{Setting: "drain", Shard: &c.Shard, Value: "false"})
}

// change makes a change, and prints a line about it.
func (c *steerCmd) change(e env, change control.SteerChange) error {
	path, err := c.socket(e)
	if err != nil {
		return err
	}
	ctx := context.Background()
	before, err := control.Steering(ctx, path)
	if err != nil {
		return err
	}
	after, err := control.Steer(ctx, path, change)
	if err != nil {
		return steerError(err)
	}
	was, found := changed(before, change)
	now, stillFound := changed(after, change)
	if !found || !stillFound {
		return fmt.Errorf("set %s: wsd accepted the change but does not report it", change.Setting)
	}
	_, err = fmt.Fprintf(e.stdout, "%s\n", outcome(was, now)+condition(after, change.Setting))
	return err
}

// changed returns the setting that a change is about.
func changed(state control.SteerState, change control.SteerChange) (control.SteerSetting, bool) {
	for _, s := range state.Settings {
		if s.Name == change.Setting && (s.Shard == nil) == (change.Shard == nil) &&
			(s.Shard == nil || *s.Shard == *change.Shard) {
			return s, true
		}
	}
	return control.SteerSetting{}, false
}

// outcome says what a change did, and how long that lasts.
func outcome(was, now control.SteerSetting) string {
	if now.Name == "drain" {
		if now.Text == "true" {
			return fmt.Sprintf("Shard %d is now draining. This ends when wsd restarts; it cannot be configured.",
				*now.Shard)
		}
		return fmt.Sprintf("Shard %d is no longer draining.", *now.Shard)
	}
	text := fmt.Sprintf("%s: %s → %s", settingName(now), was.Text, now.Text)
	if !now.Changed {
		return text + ", as configured"
	}
	return text + fmt.Sprintf(", until wsd restarts; to keep it, set %s in the configuration (wsd steer show --yaml)",
		configKey(now.Name))
}

// condition says so if a setting has no effect, or another one than it seems to: under the current policy, or because
// every shard drains.
func condition(state control.SteerState, setting string) string {
	if setting == "drain" {
		drains := func(s control.SteerShard) bool { return s.Drain || s.Draining }
		switch {
		case state.Policy == "hash":
			return " No effect yet: the policy is hash, which ignores drains."
		case !slices.ContainsFunc(state.Shards, func(s control.SteerShard) bool { return !drains(s) }):
			return " All shards are draining, so new connections are spread as if none were; to refuse them, use wsd " +
				"drain or wsd steer set admission 100."
		}
		return ""
	}
	policy, only := map[string]string{"weight": "weighted", "cpu_local_bound": "cpu-local"}[setting]
	if !only || policy == state.Policy {
		return ""
	}
	return fmt.Sprintf("; no effect yet: it applies only under the policy %s, and the policy is %s", policy,
		state.Policy)
}
