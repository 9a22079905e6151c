package ratio

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Row is one figure of wsd beside the floor's.
type Row struct {
	Case   string  `json:"case"`
	Figure string  `json:"figure"`
	Unit   string  `json:"unit"`
	Shards int     `json:"shards"`
	Floor  Summary `json:"floor"`
	WSD    Summary `json:"wsd"`
	Ratio  Summary `json:"ratio"`            // Of wsd to the floor, per round. Of none when the floor's is 0.
	Target string  `json:"target,omitempty"` // What design.md asks for.
}

// Report is the result of a comparison.
type Report struct {
	Passed      bool     `json:"passed"` // Every run was whole and lost nothing; no judgement of the ratios.
	Interrupted bool     `json:"interrupted"`
	Setup       []Fact   `json:"setup"`
	Rows        []Row    `json:"rows"`
	Notes       []string `json:"notes"`
	Faults      []string `json:"faults"` // Of runs that are in no row.
}

// Fact is something that was the same for all rounds.
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
		_, _ = fmt.Fprintf(t, "%s\t%s\n", f.Name, f.Value) // An error comes back from Flush.
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
		b.WriteString("\nnot whole: " + fault)
	}
	if r.Interrupted {
		b.WriteString("\ninterrupted: what was measured up to then")
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	return nil
}

// text is the three columns of a ratio.
func (s Summary) text() string {
	if s.Count == 0 {
		return "-\t-\t-"
	}
	return fmt.Sprintf("%.2f\t%.2f–%.2f\t%.2f–%.2f", s.Median, s.Q1, s.Q3, s.Min, s.Max)
}

// amount shows a value with three digits at least.
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
