package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Status is what a check concluded.
type Status uint8

const (
	// OK means found as wanted.
	OK Status = iota
	// Warn means that wsd starts and serves, with the disadvantage the result names.
	Warn
	// Fail means that wsd does not start, or does not do what its options ask of it.
	Fail
)

// String returns the word that both outputs print.
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

// Result is what one check found. Wanted is empty where nothing particular is
// asked for, Remedy where nothing needs to be done.
type Result struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Found  string `json:"found"`
	Wanted string `json:"wanted,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// Report holds one result per check, in the order in which the checks ran.
type Report struct {
	Results []Result `json:"results"`
}

// Failed tells whether some check failed; `wsd doctor` then exits with 1.
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

// Text writes a line per check for people, the remedy below it, and a line
// that counts. Its error is the writer's.
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
	fmt.Fprintf(&b, "%d checks: %d ok, %d warned, %d failed\n",
		len(r.Results), r.count(OK), r.count(Warn), r.count(Fail))
	_, err := io.WriteString(w, b.String())
	return err
}

// JSON writes the report for machines: {"failed":…,"results":[{"check":…,
// "status":"OK|WARN|FAIL","found":…,"wanted":…,"remedy":…}]}. Its error is the
// writer's.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Failed bool `json:"failed"`
		Report
	}{r.Failed(), r})
}
