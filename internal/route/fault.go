package route

import (
	"errors"
	"fmt"
)

// Fault is one mistake in the rules or in the overrides.
type Fault struct {
	Key     string // The key of what is wrong, such as routes[2].channel.
	Value   string // The value as it was given, or empty.
	Problem string
	Remedy  string // What to do, or empty.
}

// Error returns the fault in one line.
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

// joined makes one error of all faults. It returns nil if there are none.
func joined(faults []*Fault) error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}
