package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Spread is the middle and the spread of some values.
type Spread struct {
	Count  int     `json:"count"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Q1     float64 `json:"q1"` // A quarter is at most this.
	Q3     float64 `json:"q3"` // A quarter is at least this.
	Max    float64 `json:"max"`
}

// Of summarises values, without those that are n/a; none give the zero Spread. Quantiles between two values are
// interpolated.
func Of(values []float64) Spread {
	v := slices.Sorted(slices.Values(slices.DeleteFunc(slices.Clone(values), math.IsNaN)))
	if len(v) == 0 {
		return Spread{}
	}
	return Spread{Count: len(v), Median: quantile(v, 0.5), Min: v[0], Q1: quantile(v, 0.25), Q3: quantile(v, 0.75),
		Max: v[len(v)-1]}
}

// quantile is the value below which the share q of the sorted values is.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	if below+1 >= len(sorted) {
		return sorted[below]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// Pairs divides each round's value by the yardstick's of the same round, where both are known and the yardstick's is
// above 0.
func Pairs(values, yardstick map[int]float64) []float64 {
	var list []float64
	for round, v := range values {
		if y := yardstick[round]; y > 0 && !math.IsNaN(v) {
			list = append(list, v/y)
		}
	}
	return list
}

// Ratio is one figure of a server next to the yardstick's.
type Ratio struct {
	Case      string `json:"case"`             // Name of the case.
	Figure    string `json:"figure"`           // Name of the figure.
	Unit      string `json:"unit"`             // Unit of Yardstick and Value.
	Server    string `json:"server"`           // Name of the server.
	Yardstick Spread `json:"yardstick"`        // Figure of the first server.
	Value     Spread `json:"value"`            // Figure of the server.
	Ratio     Spread `json:"ratio"`            // Ratio of the two, per round.
	Target    string `json:"target,omitempty"` // Value that the developers aim for, as a text; it is not checked.
}

// Comparison is the result of a comparison.
type Comparison struct {
	Summary     string   `json:"summary"`
	Passed      bool     `json:"passed"`      // Whether every run was complete and lost nothing. It does not depend on the ratios.
	Interrupted bool     `json:"interrupted"` // Whether a signal ended the comparison.
	Yardstick   string   `json:"yardstick"`   // Name of the first server.
	Setup       []Fact   `json:"setup"`       // What was the same in all rounds.
	Rows        []Ratio  `json:"rows"`        // The figures.
	Notes       []string `json:"notes"`       // Where the load generator may have been the limit.
	Faults      []string `json:"faults"`      // Faults of runs, which are left out of the figures.
}

// Fact is something that was the same in all rounds.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// head is the columns of the table.
func (c *Comparison) head() []string {
	return []string{"case", "figure", "unit", "server", c.Yardstick, "value", "ratio", "quartiles", "min–max",
		"rounds", "target"}
}

// table returns the rows as text. A case and a figure are named once.
func (c *Comparison) table() (list [][]string) {
	last := ""
	for _, r := range c.Rows {
		if id := r.Case + r.Figure; id != last {
			last = id
		} else {
			r.Case, r.Figure, r.Unit, r.Target = "", "", "", ""
		}
		list = append(list, slices.Concat([]string{r.Case, r.Figure, r.Unit, r.Server, r.Yardstick.amount(),
			r.Value.amount()}, r.Ratio.columns(), []string{strconv.Itoa(r.Value.Count), r.Target}))
	}
	return list
}

// WriteText writes the comparison as a table for people.
func (c *Comparison) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(c.Summary + "\n\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range c.Setup {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", f.Name, f.Value) // A strings.Builder has no errors.
	}
	_ = t.Flush()
	_, _ = fmt.Fprintln(t, "\n"+strings.Join(c.head(), "\t"))
	for _, row := range c.table() {
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush()
	for _, note := range c.Notes {
		b.WriteString("\nnote: " + note)
	}
	for _, fault := range c.Faults {
		b.WriteString("\nincomplete: " + fault)
	}
	if c.Interrupted {
		b.WriteString("\ninterrupted: the figures are those up to then")
	}
	if len(c.Notes)+len(c.Faults) > 0 || c.Interrupted {
		b.WriteString("\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	return nil
}

// Page returns the comparison as a page: the table, and bars of each figure.
func (c *Comparison) Page() *Page {
	p := &Page{Title: "loadtest compare: " + c.Summary, Passed: c.Passed, Notes: slices.Concat(c.Faults, c.Notes)}
	for i := 0; i < len(c.Rows); {
		first := c.Rows[i]
		names, values := []string{c.Yardstick}, []float64{first.Yardstick.middle()}
		for ; i < len(c.Rows) && c.Rows[i].Case == first.Case && c.Rows[i].Figure == first.Figure; i++ {
			names, values = append(names, c.Rows[i].Server), append(values, c.Rows[i].Value.middle())
		}
		p.Plots = append(p.Plots, NewBars(first.Case+": "+first.Figure+", "+first.Unit, names, values))
	}
	setup := Section{Title: "Setup"}
	for _, f := range c.Setup {
		setup.Rows = append(setup.Rows, []string{f.Name, f.Value})
	}
	p.Sections = []Section{setup, {Title: "Figures", Head: c.head(), Rows: c.table()}}
	return p
}

// middle is the median, or NaN if there are no values.
func (s Spread) middle() float64 {
	if s.Count == 0 {
		return math.NaN()
	}
	return s.Median
}

// columns returns the three columns of a ratio.
func (s Spread) columns() []string {
	if s.Count == 0 {
		return []string{"n/a", "n/a", "n/a"}
	}
	return []string{fmt.Sprintf("%.2f", s.Median), fmt.Sprintf("%.2f–%.2f", s.Q1, s.Q3), fmt.Sprintf("%.2f–%.2f",
		s.Min, s.Max)}
}

// amount formats the median with at least three digits.
func (s Spread) amount() string {
	switch v := s.Median; {
	case s.Count == 0:
		return "n/a"
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}
