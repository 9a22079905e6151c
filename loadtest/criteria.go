package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"wsd/loadtest/report"
)

// criterion is a condition under which a run fails.
type criterion struct {
	text, name, op string
	limit          float64 // In the unit of the figure.
}

// figuresOf are the figures that a criterion may name: times in µs, memory in bytes, CPU in percent of one core.
var figuresOf = map[string]func(r *report.Result) report.Figure{
	"p50":            func(r *report.Result) report.Figure { return r.Latency.P50 },
	"p90":            func(r *report.Result) report.Figure { return r.Latency.P90 },
	"p99":            func(r *report.Result) report.Figure { return r.Latency.P99 },
	"p99.9":          func(r *report.Result) report.Figure { return r.Latency.P999 },
	"max":            func(r *report.Result) report.Figure { return r.Latency.Max },
	"connect-p99":    func(r *report.Result) report.Figure { return r.Clients.ConnectTime.P99 },
	"connect-max":    func(r *report.Result) report.Figure { return r.Clients.ConnectTime.Max },
	"rejoin-p99":     func(r *report.Result) report.Figure { return r.Clients.RejoinTime.P99 },
	"ramp":           func(r *report.Result) report.Figure { return report.Figure(r.Run.RampSeconds * 1e6) },
	"refused":        func(r *report.Result) report.Figure { return report.Figure(r.Clients.Refused) },
	"received/s":     func(r *report.Result) report.Figure { return r.Records.DeliveriesPS },
	"accepted/s":     func(r *report.Result) report.Figure { return r.Records.AcceptedPS },
	"lag-p99":        func(r *report.Result) report.Figure { return r.Loadtest.Lag.P99 },
	"cpu":            serverFigure(func(s *report.Server) report.Figure { return s.CPUPercent }),
	"cpu/connection": serverFigure(func(s *report.Server) report.Figure { return s.CPUMicrosConnection }),
	"cpu/delivery":   serverFigure(func(s *report.Server) report.Figure { return s.CPUMicrosDelivery }),
	"rss":            serverFigure(func(s *report.Server) report.Figure { return report.Figure(s.RSSAfterHold) }),
	"rss/connection": serverFigure(func(s *report.Server) report.Figure { return s.RSSConnection }),
	"connections-per-shard": func(r *report.Result) report.Figure {
		return shardFigure(r, func(s *report.Shards) int64 { return s.ConnectionsMax })
	},
	"shard-connections-span": func(r *report.Result) report.Figure {
		return shardFigure(r, func(s *report.Shards) int64 { return s.ConnectionsMax - s.ConnectionsMin })
	},
}

func serverFigure(f func(*report.Server) report.Figure) func(*report.Result) report.Figure {
	return func(r *report.Result) report.Figure {
		if r.Server == nil {
			return report.NA
		}
		return f(r.Server)
	}
}

func shardFigure(r *report.Result, f func(*report.Shards) int64) report.Figure {
	if r.Shards == nil {
		return report.NA
	}
	return report.Figure(f(r.Shards))
}

// criteriaNames lists the names for --help.
func criteriaNames() string { return strings.Join(slices.Sorted(maps.Keys(figuresOf)), ", ") }

// units are the units that a limit may have, as factors.
var units = map[string]float64{"": 1, "us": 1, "µs": 1, "ms": 1e3, "s": 1e6, "%": 1, "B": 1, "KiB": 1 << 10,
	"MiB": 1 << 20, "GiB": 1 << 30}

var criterionText = regexp.MustCompile(`^([a-z0-9./-]+?)\s*(<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Zµ%]*)$`)

func parseCriteria(texts []string) ([]criterion, error) {
	var list []criterion
	for _, text := range texts {
		m := criterionText.FindStringSubmatch(strings.TrimSpace(text))
		if m == nil {
			return nil, fmt.Errorf("--fail-if %q must be like 'p99>50ms'", text)
		}
		if figuresOf[m[1]] == nil {
			return nil, fmt.Errorf("--fail-if %q: no figure %s; known are %s", text, m[1], criteriaNames())
		}
		factor, known := units[m[4]]
		if !known {
			return nil, fmt.Errorf("--fail-if %q: unit %s is none of us, ms, s, %%, B, KiB, MiB, GiB", text, m[4])
		}
		n, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, fmt.Errorf("--fail-if %q: %w", text, err)
		}
		list = append(list, criterion{text: text, name: m[1], op: m[2], limit: n * factor})
	}
	return list, nil
}

// failure returns why the criterion holds, or "". A figure that is not available fails too, because nobody knows.
func (c *criterion) failure(r *report.Result) string {
	v := figuresOf[c.name](r)
	holds := map[string]bool{"<": float64(v) < c.limit, "<=": float64(v) <= c.limit, ">": float64(v) > c.limit,
		">=": float64(v) >= c.limit}[c.op]
	switch {
	case !v.Known():
		return fmt.Sprintf("criterion %s: %s is n/a", c.text, c.name)
	case holds:
		return fmt.Sprintf("criterion %s: %s is %.6g", c.text, c.name, float64(v))
	default:
		return ""
	}
}
