package config

import "strings"

// Fault is one mistake in the configuration.
type Fault struct {
	Key     string // Key of the option, or the name given for one that does not exist.
	Value   string // Value as given, shortened; empty for a secret.
	Origin  string // Where the value was given, in the words of Loaded.Origin; may be empty.
	Problem string // What is wrong, so that "KEY: PROBLEM" can be read as a sentence.
	Remedy  string // What to do; may be empty.
}

// String returns the fault as one line.
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

// Error is every fault found in a configuration.
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
