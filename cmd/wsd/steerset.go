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
	Policy    steerSetPolicyCmd    `cmd:"" help:"Choose shards by another policy."`
	Weight    steerSetWeightCmd    `cmd:"" help:"Give a shard another share under the policy weighted."`
	Admission steerSetAdmissionCmd `cmd:"" help:"Refuse so many of 100 new connections, by lot."`
	Limit     steerSetLimitCmd     `cmd:"" help:"Set a bound or a limit; the configuration's keys of the same names say what each is."`
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
	Weight string `arg:"" help:"0 to 10000; shards begin with 100. 0: no new connections while another shard can take them."`
}

// Run sets a weight.
func (c *steerSetWeightCmd) Run(e env, steer *steerCmd) error {
	return steer.change(e, control.SteerChange{Setting: "weight", Shard: &c.Shard, Value: c.Weight})
}

type steerSetAdmissionCmd struct {
	Percent string `arg:"" help:"0 to 100; 0: none, 100: all."`
}

// Run sets the admission.
func (c *steerSetAdmissionCmd) Run(e env, steer *steerCmd) error {
	return steer.change(e, control.SteerChange{Setting: "admission", Value: c.Percent})
}

// limitNames are the settings that have no command of their own.
var limitNames = []string{
	"stall_bound", "ramp", "pending_max", "cpu_local_bound", "source_rate", "source_burst", "source_prefix4", "source_prefix6", "source_dry_run",
	"admission_dry_run",
}

type steerSetLimitCmd struct {
	Name  string `arg:"" help:"One of ${limits}."`
	Value string `arg:"" help:"As in the configuration: such as 150ms for stall_bound and ramp, true or false for a dry run, else a number."`
}

// Run sets what is named.
func (c *steerSetLimitCmd) Run(e env, steer *steerCmd) error {
	if !slices.Contains(limitNames, c.Name) {
		return command.UsageError{Err: fmt.Errorf("there is no limit %q: there are %s", c.Name, strings.Join(limitNames, ", "))}
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

// change makes a change, and says in a line what it was.
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
	is, stillFound := changed(after, change)
	if !found || !stillFound {
		return fmt.Errorf("set %s: wsd has set it, and does not tell it", change.Setting)
	}
	_, err = fmt.Fprintf(e.stdout, "%s: was %s, is %s; %s\n", settingName(is), was.Text, is.Text, outlook(is)+condition(after, change.Setting))
	return err
}

// changed finds the value that a change is of.
func changed(state control.SteerState, change control.SteerChange) (control.SteerSetting, bool) {
	for _, s := range state.Settings {
		if s.Name == change.Setting && (s.Shard == nil) == (change.Shard == nil) && (s.Shard == nil || *s.Shard == *change.Shard) {
			return s, true
		}
	}
	return control.SteerSetting{}, false
}

// outlook tells how long a value lasts.
func outlook(s control.SteerSetting) string {
	if !s.Changed {
		return "so says the configuration too"
	}
	key := configKey(s.Name)
	if key == "" {
		return "this lasts until wsd restarts, and no configuration keeps it"
	}
	return fmt.Sprintf("this lasts until wsd restarts, unless you keep it as %s in the configuration (`wsd steer show --yaml`)", key)
}

// condition tells that a setting has no effect under the policy in force.
func condition(state control.SteerState, setting string) string {
	policy, only := map[string]string{"weight": "weighted", "cpu_local_bound": "cpu-local"}[setting]
	if !only || policy == state.Policy {
		return ""
	}
	return fmt.Sprintf("; it counts under the policy %s, and %s is in force", policy, state.Policy)
}
