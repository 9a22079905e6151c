package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"wsd/internal/config"
	"wsd/internal/control"
)

type steerShowCmd struct {
	YAML bool `name:"yaml" help:"Print the current settings as the steering section of a configuration file."`
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
	table := columns(e.stdout)
	for _, s := range state.Settings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", settingName(s), s.Text, remark(s))
	}
	for _, prefix := range state.Exempt {
		fmt.Fprintf(table, "source_exempt\t%s\n", prefix)
	}
	return table.Flush()
}

// section returns the current settings as the steering section of a configuration file.
func section(state control.SteerState) string {
	common := make(map[string]string) // Values that apply to all shards, by name of the setting.
	var weights, drained []string
	differ := false
	var ignored []string
	for _, s := range state.Settings {
		if s.Ignored { // A mistake must not end up in the file.
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
	what := "# The current steering settings."
	if state.Mode == "hash" {
		what = "# The configured settings. They have no effect, because the kernel's hash chooses the shards: " +
			state.Reason + "."
	}
	b.WriteString(what + " Keep the other keys of your configuration, such as mode and pin_dir.\n")
	if len(drained) > 0 {
		fmt.Fprintf(&b, "# Drained shards, which cannot be configured: %s.\n", strings.Join(drained, ", "))
	}
	if len(ignored) > 0 {
		fmt.Fprintf(&b, "# Out of range in their maps, so the configured values are printed: %s.\n",
			strings.Join(ignored, ", "))
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

// quoted returns texts as a YAML list. The quotes keep an IPv6 address from being read as a mapping.
func quoted(texts []string) string {
	var list []string
	for _, text := range texts {
		list = append(list, strconv.Quote(text))
	}
	return strings.Join(list, ", ")
}
