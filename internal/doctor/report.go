package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Status is the conclusion of a check.
type Status uint8

const (
	// OK means that nothing needs to be done.
	OK Status = iota
	// Warn means that wsd starts and serves, with a disadvantage that the result names.
	Warn
	// Fail means that wsd does not start, or cannot do what its options say.
	Fail
)

// String returns the status as the word that reports print.
func (s Status) String() string {
	switch s {
	case OK:
		return "OK"
	case Warn:
		return "WARN"
	case Fail:
		return "FAIL"
	}
	panic(fmt.Sprintf("BUG: unknown status %d", uint8(s)))
}

// MarshalText makes the status a word in JSON.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Result is the result of one check.
type Result struct {
	Check  string `json:"check"`            // Name of the check.
	Status Status `json:"status"`           // Conclusion.
	Found  string `json:"found"`            // What the check found.
	Wanted string `json:"wanted,omitempty"` // What wsd needs; may be empty.
	Remedy string `json:"remedy,omitempty"` // What to do; empty if nothing needs to be done.
	Fix    []Fix  `json:"fix,omitempty"`    // The part of the remedy that a script can do, in order.
}

// Report has one result for each check, in the order in which the checks ran.
type Report struct {
	Results []Result `json:"results"`
}

// Failed reports whether a check failed. `wsd doctor` then exits with code 1.
func (r Report) Failed() bool { return r.count(Fail) > 0 }

func (r Report) count(s Status) int {
	n := 0
	for _, result := range r.Results {
		if result.Status == s {
			n++
		}
	}
	return n
}

// Text writes the report for people: a line for each check, followed by its remedy, and a summary. The error is that of
// w.
func (r Report) Text(w io.Writer) error {
	width := 0
	for _, result := range r.Results {
		width = max(width, utf8.RuneCountInString(result.Check))
	}
	var b strings.Builder
	for _, result := range r.Results {
		fmt.Fprintf(&b, "%-4s  %-*s  %s", result.Status, width, result.Check, result.Found)
		if result.Wanted != "" {
			fmt.Fprintf(&b, " (wanted: %s)", result.Wanted)
		}
		b.WriteByte('\n')
		if result.Remedy != "" {
			fmt.Fprintf(&b, "%*s  remedy: %s\n", 4+2+width, "", result.Remedy)
		}
	}
	fmt.Fprintf(&b, "%d checks: %d OK, %d WARN, %d FAIL\n",
		len(r.Results), r.count(OK), r.count(Warn), r.count(Fail))
	_, err := io.WriteString(w, b.String())
	return err
}

// JSON writes the report for programs: {"failed":…,"results":[{"check":…,"status":"OK|WARN|FAIL","found":…,"wanted":…,
// "remedy":…}]}. The error is that of w.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Failed bool `json:"failed"`
		Report
	}{r.Failed(), r})
}
