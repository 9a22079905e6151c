package route

import (
	"errors"
	"fmt"
)

// Fault is one mistake in the rules or the overrides.
type Fault struct {
	Key     string // Of what is wrong, such as routes[2].channel.
	Value   string // As given; may be empty.
	Problem string
	Remedy  string // May be empty.
}

// Error implements error: the fault in one line.
func (f *Fault) Error() string {
	text := f.Key
	if f.Value != "" {
		text += fmt.Sprintf(" %q", f.Value)
	}
	text += ": " + f.Problem
	if f.Remedy != "" {
		text += "; " + f.Remedy
	}
	return text
}

// joined makes one error of faults, nil of none.
func joined(faults []*Fault) error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}
