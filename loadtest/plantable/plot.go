package main

import (
	"bytes"
	"fmt"
	"html"
)

// Sizes of a plot in pixels.
const (
	plotWidth = 720
	labelEnd  = 170
	valueRoom = 80
	barHeight = 14
	barGap    = 4
	headRoom  = 36
)

// colour of a row's bar: the bare baseline, its optimisations, and wsd.
func colour(r row) string {
	switch {
	case r.system == "wsd":
		return "#2a7d4f"
	case r.opt == 0:
		return "#8a8a8a"
	case r.shards == 3:
		return "#6b93c4"
	default:
		return "#3f6aa3"
	}
}

// plot draws a figure of all rows as bars, with the range of the rounds as a line. It needs no style of a page.
func (r *results) plot(title string, of func(measure) float64) []byte {
	rows := r.shown()
	highest := 0.0
	for _, x := range rows {
		if _, _, most, ok := r.median(x.key(), of); ok {
			highest = max(highest, most)
		}
	}
	if highest == 0 {
		highest = 1
	}
	height := headRoom + len(rows)*(barHeight+barGap) + barGap
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" `+
		`font-family="sans-serif" font-size="11">`+"\n"+`<rect width="100%%" height="100%%" fill="white"/>`+"\n"+
		`<text x="8" y="20" font-size="14" font-weight="bold">%s</text>`+"\n",
		plotWidth, height, plotWidth, height, html.EscapeString(title))
	scale := float64(plotWidth-labelEnd-valueRoom) / highest
	for i, x := range rows {
		y := headRoom + i*(barHeight+barGap)
		label := "wsd"
		if x.system == "baseline" {
			label = x.title()
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s, %d</text>`+"\n", labelEnd-6, y+barHeight-3,
			html.EscapeString(label), x.shards)
		mid, least, most, ok := r.median(x.key(), of)
		if !ok {
			fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text>`+"\n", labelEnd+4, y+barHeight-3, r.missing(x.key()))
			continue
		}
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelEnd, y, mid*scale,
			barHeight, colour(x))
		middle := float64(y) + barHeight/2
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="black"/>`+"\n",
			labelEnd+least*scale, middle, labelEnd+most*scale, middle)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", labelEnd+most*scale+5, y+barHeight-3,
			html.EscapeString(format(mid)))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
