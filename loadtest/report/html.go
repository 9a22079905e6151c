package report

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

//go:embed page.html
var files embed.FS

var page = template.Must(template.ParseFS(files, "page.html"))

// Size of a plot's area in pixels.
const (
	plotWidth  = 640
	plotHeight = 180
)

// colors are those of a plot's lines or bars, in order.
var colors = []string{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b"}

// Curve is one line of a plot. Values that are n/a interrupt it.
type Curve struct {
	Name  string
	X, Y  []float64
	Color string
	Path  string // SVG path, set by NewPlot.
}

// Plot is a diagram with curves, or with bars.
type Plot struct {
	Title, XTitle string
	Top, Middle   string // Labels of the y axis.
	Right         string // Label of the end of the x axis.
	Curves        []Curve
	Bars          []Bar
}

// Bar is one bar of a plot.
type Bar struct {
	Name, Color, Text string
	Label, Value      string // Below and above the bar; empty where there is no room.
	X, Y, W, H, Mid   float64
}

// NewPlot returns a plot of curves.
func NewPlot(title, xTitle string, curves ...Curve) Plot {
	var xMax, yMax float64
	for _, c := range curves {
		for i, y := range c.Y {
			if !math.IsNaN(y) {
				xMax, yMax = max(xMax, c.X[i]), max(yMax, y)
			}
		}
	}
	xMax, yMax = max(xMax, 1e-9), nice(yMax)
	for i := range curves {
		c := &curves[i]
		c.Color = colors[i%len(colors)]
		var path strings.Builder
		verb := "M"
		for k, y := range c.Y {
			if math.IsNaN(y) {
				verb = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", verb, c.X[k]/xMax*plotWidth, (1-y/yMax)*plotHeight)
			if verb == "M" {
				path.WriteString("h0") // A single point is a dot.
			}
			verb = "L"
		}
		c.Path = path.String()
	}
	return Plot{Title: title, XTitle: xTitle, Top: short(yMax), Middle: short(yMax / 2), Right: short(xMax),
		Curves: curves}
}

// NewBars returns a plot of bars, which have names, values and texts.
func NewBars(title string, names []string, values []float64) Plot {
	var yMax float64
	for _, v := range values {
		if !math.IsNaN(v) {
			yMax = max(yMax, v)
		}
	}
	yMax = nice(yMax)
	p := Plot{Title: title, Top: short(yMax), Middle: short(yMax / 2)}
	width := plotWidth / float64(max(len(values), 1))
	for i, v := range values {
		bar := Bar{Name: names[i], Text: short(v), Color: colors[0], X: float64(i) * width, W: max(width*0.8, 0.5)}
		if math.IsNaN(v) {
			v, bar.Text = 0, notAvailable
		}
		bar.H = v / yMax * plotHeight
		bar.Y, bar.Mid = plotHeight-bar.H, bar.X+bar.W/2
		if len(values) <= namedBars {
			bar.Label, bar.Value = names[i], bar.Text
		} else if len(values) <= numberedBars {
			bar.Label = names[i][strings.LastIndexByte(names[i], ' ')+1:]
		}
		p.Bars = append(p.Bars, bar)
	}
	return p
}

// Bars that have room for their names, and for numbers.
const (
	namedBars    = 8
	numberedBars = 32
)

// nice rounds up to 1, 2 or 5 times a power of ten.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*p {
			return m * p
		}
	}
	return 10 * p
}

func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.4g M", v/1e6)
	case v >= 10_000:
		return fmt.Sprintf("%.4g k", v/1e3)
	default:
		return fmt.Sprintf("%.4g", v)
	}
}

// Page is what an HTML report shows.
type Page struct {
	Title    string
	Passed   bool
	Notes    []string
	Plots    []Plot
	Sections []Section
}

// Section is a table of a page.
type Section struct {
	Title string
	Head  []string
	Rows  [][]string
}

// Write writes the page, which needs no other file.
func (p *Page) Write(w io.Writer) error {
	if err := page.Execute(w, p); err != nil {
		return fmt.Errorf("write the HTML report: %w", err)
	}
	return nil
}

// Page returns the result as a page.
func (r *Result) Page() *Page {
	p := &Page{Title: "loadtest " + r.Run.Scenario + ": " + r.Summary, Passed: r.Passed}
	p.Notes = append(append(p.Notes, r.Reasons...), r.Warnings...)
	curve := func(name string, value func(*Point) float64) Curve {
		c := Curve{Name: name}
		for i := range r.Series {
			c.X, c.Y = append(c.X, r.Series[i].Seconds), append(c.Y, value(&r.Series[i]))
		}
		return c
	}
	const x = "seconds since the start of the ramp"
	p.Plots = []Plot{
		NewPlot("Connections", x, curve("subscribed", func(p *Point) float64 { return float64(p.Open) })),
		NewPlot("Deliveries per second", x, curve("received", func(p *Point) float64 { return float64(p.Received) })),
		NewPlot("Latency, ms", x, curve("p50", func(p *Point) float64 { return float64(p.P50 / 1000) }),
			curve("p99", func(p *Point) float64 { return float64(p.P99 / 1000) }),
			curve("p99.9", func(p *Point) float64 { return float64(p.P999 / 1000) })),
		NewPlot("CPU of the server, % of one core", x, curve("CPU", func(p *Point) float64 { return float64(p.CPU) })),
		NewPlot("Memory of the server, MiB", x, curve("RSS",
			func(p *Point) float64 { return float64(p.RSS / (1 << 20)) })),
	}
	if r.Shards != nil {
		var names []string
		var values []float64
		for i, n := range r.Shards.Connections {
			names, values = append(names, fmt.Sprintf("shard %d", i)), append(values, float64(n))
		}
		p.Plots = append(p.Plots, NewBars("Connections per shard after the ramp", names, values))
	}
	for _, l := range r.Lines() {
		if l.Heading {
			p.Sections = append(p.Sections, Section{Title: l.Label})
			continue
		}
		if len(p.Sections) == 0 {
			p.Sections = append(p.Sections, Section{})
		}
		s := &p.Sections[len(p.Sections)-1]
		s.Rows = append(s.Rows, []string{l.Label, l.Value})
	}
	return p
}
