package ratio

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Row is one figure of wsd next to the floor's.
type Row struct {
	Case   string  `json:"case"`             // Name of the case.
	Figure string  `json:"figure"`           // Name of the figure.
	Unit   string  `json:"unit"`             // Unit of Floor and WSD.
	Shards int     `json:"shards"`           // Number of wsd's shards.
	Floor  Summary `json:"floor"`            // Figure of the floor.
	WSD    Summary `json:"wsd"`              // Figure of wsd.
	Ratio  Summary `json:"ratio"`            // Ratio of wsd to the floor, per round, except for rounds where the floor's figure is 0.
	Target string  `json:"target,omitempty"` // Value that the developers aim for, as a text; it is not checked.
}

// Report is the result of a comparison.
type Report struct {
	Passed      bool     `json:"passed"`      // Whether every run was complete and lost nothing. It does not depend on the ratios.
	Interrupted bool     `json:"interrupted"` // Whether a signal ended the comparison.
	Setup       []Fact   `json:"setup"`       // What was the same in all rounds.
	Rows        []Row    `json:"rows"`        // The figures.
	Notes       []string `json:"notes"`       // Where the load generator may have been the limit.
	Faults      []string `json:"faults"`      // Faults of runs, which are left out of the figures.
}

// Fact is something that was the same in all rounds.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// WriteJSON writes the report as one indented JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	return nil
}

// WriteText writes the report as a table for people.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range r.Setup {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", f.Name, f.Value) // Flush returns the error.
	}
	_ = t.Flush()
	_, _ = fmt.Fprintln(t, "\ncase\tfigure\tunit\tshards\tfloor\twsd\tratio\tquartiles\tmin–max\trounds\ttarget")
	last := ""
	for _, row := range r.Rows {
		if id := row.Case + row.Figure; id != last {
			last = id
		} else {
			row.Case, row.Figure, row.Unit, row.Target = "", "", "", ""
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", row.Case, row.Figure, row.Unit, row.Shards,
			amount(row.Floor.Median), amount(row.WSD.Median), row.Ratio.text(), row.WSD.Count, row.Target)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	var b strings.Builder
	for _, note := range r.Notes {
		b.WriteString("\nnote: " + note)
	}
	for _, fault := range r.Faults {
		b.WriteString("\nincomplete: " + fault)
	}
	if r.Interrupted {
		b.WriteString("\ninterrupted: the figures are those up to then")
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	return nil
}

// text returns the three columns of a ratio.
func (s Summary) text() string {
	if s.Count == 0 {
		return "-\t-\t-"
	}
	return fmt.Sprintf("%.2f\t%.2f–%.2f\t%.2f–%.2f", s.Median, s.Q1, s.Q3, s.Min, s.Max)
}

// amount formats a value with at least three digits.
func amount(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}
