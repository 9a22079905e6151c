package doctor

import (
	"fmt"
	"io"
	"strings"
)

// Fix is what the machine's administrator can set at once. Its values come from the checks, never from what the machine
// says in words, so they need no quoting.
type Fix struct {
	Sysctl  string `json:"sysctl,omitempty"`  // Name of a sysctl; empty: Command is run.
	Value   string `json:"value,omitempty"`   // Value of the sysctl.
	Command string `json:"command,omitempty"` // Shell command.
}

// sysctl returns the fix that sets a sysctl.
func sysctl(key string, value any) Fix { return Fix{Sysctl: key, Value: fmt.Sprint(value)} }

// command returns the fix as a shell command.
func (f Fix) command() string {
	if f.Sysctl == "" {
		return f.Command
	}
	value := f.Value
	if strings.Contains(value, " ") {
		value = `"` + value + `"`
	}
	return "sysctl -w " + f.Sysctl + "=" + value
}

// Script writes a shell script that sets what the checks found wrong and a script can set; what it cannot, it lists in
// comments. Nothing is changed here. The error is that of w.
func (r Report) Script(w io.Writer) error {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# Made by wsd doctor --fix. Read it, then run it as root.\nset -eu\n")
	var settings, rest []string
	fixes := 0
	for _, result := range r.Results {
		switch {
		case result.Status == OK:
		case len(result.Fix) == 0:
			remedy := result.Remedy
			if remedy == "" {
				remedy = "wanted: " + result.Wanted
			}
			rest = append(rest, fmt.Sprintf("%s: %s: %s", result.Check, result.Found, remedy))
		default:
			fmt.Fprintf(&b, "\n# %s: %s\n", result.Check, oneLine(result.Found))
			for _, fix := range result.Fix {
				fixes++
				fmt.Fprintln(&b, fix.command())
				if fix.Sysctl != "" {
					settings = append(settings, fix.Sysctl+" = "+fix.Value)
				}
			}
		}
	}
	if fixes == 0 {
		b.WriteString("\n# There is nothing that a script could set.\n")
	}
	if len(settings) > 0 {
		fmt.Fprintf(&b, "\n# To keep these settings after the next boot.\n"+
			"cat >/etc/sysctl.d/91-wsd-doctor.conf <<'EOF'\n%s\nEOF\n", strings.Join(settings, "\n"))
	}
	if len(rest) > 0 {
		b.WriteString("\n# What a script cannot set:\n")
		for _, line := range rest {
			fmt.Fprintf(&b, "#   %s\n", oneLine(line))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// oneLine keeps text from the machine within its comment.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
