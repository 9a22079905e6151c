package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// prometheus answers queries over a range of time.
type prometheus struct {
	base       string
	begin, end time.Time
}

// points bounds the points of a line.
const points = 120

// line is one series: its name in the legend, and its points.
type line struct {
	name   string
	points []point
}

type point struct{ at, value float64 } // Seconds since the begin; the value is finite.

// lines returns what a query has in the range. Grafana's variables stand for all instances and for 15 s.
func (p *prometheus) lines(expr, legend string) ([]line, error) {
	expr = strings.NewReplacer("$instance", ".*", "$__rate_interval", "15s").Replace(expr)
	step := max(1, int(p.end.Sub(p.begin).Seconds())/points)
	query := url.Values{
		"query": {expr}, "step": {strconv.Itoa(step)},
		"start": {p.begin.Format(time.RFC3339)}, "end": {p.end.Format(time.RFC3339)},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/api/v1/query_range?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("ask for %s: %w", expr, err)
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("ask for %s: %s", expr, answer.Error)
	}
	var all []line
	for _, r := range answer.Data.Result {
		l := line{name: nameOf(legend, r.Metric)}
		for _, v := range r.Values {
			at, isTime := v[0].(float64)
			text, isText := v[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if isTime && isText && err == nil && !math.IsNaN(value) && !math.IsInf(value, 0) {
				l.points = append(l.points, point{at - float64(p.begin.Unix()), value})
			}
		}
		all = append(all, l)
	}
	return all, nil
}

// nameOf fills Grafana's {{label}} in.
func nameOf(legend string, labels map[string]string) string {
	for name, value := range labels {
		legend = strings.ReplaceAll(legend, "{{"+name+"}}", value)
	}
	return legend
}
