package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Sizes in pixels, and of text.
const (
	column, gridRow = 50, 26 // Of Grafana's grid of 24 columns.
	margin          = 8
	head            = 44
	left            = 60 // For the scale of a plot.
	namesMax        = 7  // Lines that the legend names.
)

var colours = []string{
	"#3f6aa3", "#c8623a", "#2a7d4f", "#8e5ea2", "#b8860b", "#3a9ca6", "#a33f5b", "#6b7d2a", "#555555", "#d08fb0",
}

// draw returns the dashboard as SVG.
func (d *dashboard) draw(p *prometheus) ([]byte, error) {
	var b bytes.Buffer
	height := 0
	for i := range d.Panels {
		height = max(height, d.Panels[i].GridPos.Y+d.Panels[i].GridPos.H)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" `+
		`font-family="sans-serif" font-size="11">`+"\n", 24*column, head+height*gridRow)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#f4f5f7"/><text x="%d" y="28" font-size="18" fill="#222">%s</text>`+"\n",
		margin, html.EscapeString(d.Title))
	for i := range d.Panels {
		q := &d.Panels[i]
		var lines []line
		for _, t := range q.Targets {
			more, err := p.lines(t.Expr, t.LegendFormat)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.Title, err)
			}
			lines = append(lines, more...)
		}
		q.draw(&b, lines, p.end.Sub(p.begin).Seconds())
	}
	b.WriteString("</svg>\n")
	return b.Bytes(), nil
}

// draw adds the panel to b. Seconds is the range of time.
func (q *panel) draw(b *bytes.Buffer, lines []line, seconds float64) {
	x, y := q.GridPos.X*column, head+q.GridPos.Y*gridRow
	w, h := q.GridPos.W*column-margin, q.GridPos.H*gridRow-margin
	fmt.Fprintf(b, `<g transform="translate(%d,%d)"><rect width="%d" height="%d" rx="3" fill="#fff" stroke="#d5d8dd"/>`+
		`<text x="8" y="17" font-size="12" font-weight="bold" fill="#222">%s</text>`+"\n", x+margin/2, y, w, h, html.EscapeString(q.Title))
	defer b.WriteString("</g>\n")
	// Those with the largest values are named, and drawn last.
	largest := func(l line) (most float64) {
		for _, p := range l.points {
			most = max(most, p.value)
		}
		return most
	}
	slices.SortStableFunc(lines, func(a, b line) int {
		switch x, y := largest(a), largest(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	top := 0.0
	if len(lines) > 0 {
		top = largest(lines[0])
	}
	top = roundUp(top)
	plotW, plotH, plotY := float64(w-left-10), float64(h-24-20), 26.0
	for i := range 3 {
		at := plotY + plotH*float64(2-i)/2
		fmt.Fprintf(b, `<path d="M%d %.1fh%.1f" stroke="#e6e8eb"/><text x="%d" y="%.1f" text-anchor="end" fill="#666">%s</text>`+"\n",
			left, at, plotW, left-5, at+4, format(top*float64(i)/2, q.FieldConfig.Defaults.Unit))
	}
	for i, l := range slices.Backward(lines) {
		var path strings.Builder
		for j, p := range l.points {
			command := 'L'
			if j == 0 || p.at-l.points[j-1].at > 3*max(1, seconds/points) {
				command = 'M'
			}
			fmt.Fprintf(&path, "%c%.1f %.1f", command, left+plotW*p.at/seconds, plotY+plotH*(1-max(0, p.value)/top))
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), colours[i%len(colours)])
	}
	names, at := 0, left
	for i, l := range lines {
		if l.name == "" || names == namesMax || at+7*len(l.name)+24 > w {
			break
		}
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="9" height="3" fill="%s"/><text x="%d" y="%d" fill="#444">%s</text>`+"\n",
			at, h-9, colours[i%len(colours)], at+12, h-5, html.EscapeString(l.name))
		at += 7*len(l.name) + 24
		names++
	}
}

// roundUp returns the least of 1, 2, 2.5 and 5 times a power of ten that is at least v; 1 for 0.
func roundUp(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if v <= m*power {
			return m * power
		}
	}
	return 10 * power
}

// format writes a value of a scale in Grafana's unit.
func format(v float64, unit string) string {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
	scaled := func(suffix string, step float64, names ...string) string {
		i, v := 0, v
		for ; i < len(names)-1 && v >= step; i++ {
			v /= step
		}
		return number(v) + names[i] + suffix
	}
	switch {
	case v == 0:
		return "0"
	case unit == "s" && v < 1e-3:
		return number(v*1e6) + " µs"
	case unit == "s" && v < 1:
		return number(v*1e3) + " ms"
	case unit == "s":
		return number(v) + " s"
	case unit == "percentunit":
		return number(v*100) + " %"
	case unit == "bytes", unit == "Bps":
		return scaled(map[string]string{"bytes": "B", "Bps": "B/s"}[unit], 1000, " ", " k", " M", " G", " T")
	}
	return scaled("", 1000, "", " k", " M", " G")
}
