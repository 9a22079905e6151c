package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"wsd/internal/config"
	"wsd/internal/control"
)

type steerShowCmd struct {
	YAML bool `name:"yaml" help:"Print what is in force as the section steering of a configuration file, to keep it there."`
}

// Run prints the settings.
func (c *steerShowCmd) Run(e env, steer *steerCmd) error {
	state, err := steer.state(context.Background(), e)
	if err != nil {
		return err
	}
	if c.YAML {
		_, err := fmt.Fprint(e.stdout, section(state))
		return err
	}
	columns := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, s := range state.Settings {
		fmt.Fprintf(columns, "%s\t%s\t%s\n", settingName(s), s.Text, remark(s))
	}
	for _, prefix := range state.Exempt {
		fmt.Fprintf(columns, "source_exempt\t%s\n", prefix)
	}
	return columns.Flush()
}

// section is what is in force as the section steering of a configuration file.
func section(state control.SteerState) string {
	common := make(map[string]string) // What counts, by name.
	var weights, drained []string
	differ := false
	var ignored []string
	for _, s := range state.Settings {
		if s.Ignored { // A mistake is not to be kept.
			ignored = append(ignored, settingName(s))
			s.InForce = s.Configured
		}
		switch {
		case s.Name == "weight":
			weights = append(weights, s.InForce)
			differ = differ || s.InForce != "100" || s.Changed
		case s.Name == "drain" && s.InForce == "true":
			drained = append(drained, strconv.Itoa(*s.Shard))
		case s.Shard == nil:
			common[s.Name] = s.InForce
		}
	}
	var b strings.Builder
	what := "# What steers now."
	if state.Mode == "hash" {
		what = "# What the configuration says, but the kernel's hash chooses: " + state.Reason + "."
	}
	b.WriteString(what + " Keys that are not here, such as mode and pin_dir, stay as your configuration has them.\n")
	if len(drained) > 0 {
		fmt.Fprintf(&b, "# Drained, which no configuration keeps: shards %s.\n", strings.Join(drained, ", "))
	}
	if len(ignored) > 0 {
		fmt.Fprintf(&b, "# Out of range in its map, so here is what the configuration says: %s.\n", strings.Join(ignored, ", "))
	}
	b.WriteString("steering:\n")
	inLimits := false
	for _, o := range config.Options() {
		name, isSteering := strings.CutPrefix(o.Key, "steering.")
		if !isSteering {
			continue
		}
		indent := "  "
		if last, isLimit := strings.CutPrefix(name, "limits."); isLimit {
			if !inLimits {
				b.WriteString("  limits:\n")
			}
			name, indent, inLimits = last, "    ", true
		}
		value, known := common[name]
		switch {
		case known:
			fmt.Fprintf(&b, "%s%s: %s\n", indent, name, value)
		case name == "weights" && differ:
			fmt.Fprintf(&b, "%s%s: [%s]\n", indent, name, strings.Join(weights, ", "))
		case name == "source_exempt":
			fmt.Fprintf(&b, "%s%s: [%s]\n", indent, name, quoted(state.Exempt))
		}
	}
	return b.String()
}

// quoted makes YAML of texts that colons could make something else.
func quoted(texts []string) string {
	var list []string
	for _, text := range texts {
		list = append(list, strconv.Quote(text))
	}
	return strings.Join(list, ", ")
}
