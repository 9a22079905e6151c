package config

import "strings"

// Fault is one mistake in the configuration.
type Fault struct {
	Key     string // Of the option, or of what is no option.
	Value   string // As given; empty for a secret.
	Origin  string // Where it was given.
	Problem string
	Remedy  string // May be empty.
}

// String returns the fault in one line.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Key)
	if f.Value != "" {
		b.WriteString(" = " + f.Value)
	}
	if f.Origin != "" {
		b.WriteString(" (" + f.Origin + ")")
	}
	b.WriteString(": " + f.Problem)
	if f.Remedy != "" {
		b.WriteString("; " + f.Remedy)
	}
	return b.String()
}

// Error is everything that is wrong with a configuration, never only the first fault.
type Error struct {
	Faults []Fault
}

// Error returns a line for each fault.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	if len(lines) == 1 {
		return "the configuration is wrong: " + lines[0]
	}
	return "the configuration is wrong:\n  " + strings.Join(lines, "\n  ")
}
