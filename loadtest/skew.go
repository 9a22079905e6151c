package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"wsd/loadtest/child"
	"wsd/loadtest/client"
	"wsd/loadtest/report"
	"wsd/loadtest/serverstat"
)

// skew compares how connections spread over shards.
type skew struct {
	Clients     int           `default:"8000" help:"Number of clients (${default})."`
	Shards      int           `default:"8" help:"Number of shards, or of workers (${default})."`
	ConnectRate float64       `default:"0" help:"Connection attempts per second; 0: as many as 256 at a time allow (${default})."`
	Bin         string        `help:"Directory with the program wsd. Default: the directory of loadtest."`
	Timeout     time.Duration `default:"60s" help:"Timeout for each of the ways (${default})."`
	JSON        bool          `name:"json" help:"Print the result as JSON."`
	HTML        string        `name:"html" placeholder:"FILE" help:"Write a report with plots, in one file."`
}

// spreads is the result of skew.
type spreads struct {
	Summary string   `json:"summary"`
	Passed  bool     `json:"passed"` // Whether all clients were held in every way that was measured.
	Clients int      `json:"clients"`
	Ways    []spread `json:"ways"`
}

// spread is how connections spread in one way.
type spread struct {
	Name        string        `json:"name"`
	Connections []int64       `json:"connections,omitempty"` // By shard.
	Share       report.Figure `json:"largest_to_mean"`       // The largest share, divided by the mean.
	Deviation   report.Figure `json:"standard_deviation"`
	Note        string        `json:"note,omitempty"` // Why nothing was measured.
}

func (s *skew) check() error {
	limit, err := clientsMax()
	switch {
	case err != nil:
		return err
	case s.Clients < 1 || s.Clients > limit:
		return fmt.Errorf("--clients %d must be between 1 and %d, the limit of one process here", s.Clients, limit)
	case s.Shards < 1 || s.Shards > 256:
		return fmt.Errorf("--shards %d must be between 1 and 256", s.Shards)
	case s.ConnectRate < 0 || s.Timeout <= 0:
		return errors.New("--connect-rate must not be negative, and --timeout above 0")
	}
	c := compare{Bin: s.Bin}
	err = c.programs([]contender{{name: "wsd", shards: 1}})
	s.Bin = c.Bin
	return err
}

// measure connects the clients in each way.
func (s *skew) measure(ctx context.Context, l *live) (*spreads, error) {
	cpus, err := child.CPUs()
	if err != nil {
		return nil, err
	}
	r := &spreads{Passed: true, Clients: s.Clients}
	for _, way := range []struct {
		name  string
		start func(ctx context.Context, c *compare) (*server, func() ([]int64, error), error)
	}{
		{"SO_REUSEPORT, the kernel's hash", s.wsd("off")},
		{"one accept queue, EPOLLEXCLUSIVE", s.workers},
		{"SO_REUSEPORT, steering by wsd", s.wsd("auto")},
	} {
		l.show("skew: "+way.name, false)
		c := &compare{Bin: s.Bin, CPUs: slices.Repeat(cpus[:1], 3), Timeout: s.Timeout}
		counts, err := s.one(ctx, c, way.start)
		w := spread{Name: way.name, Connections: counts, Share: report.NA, Deviation: report.NA}
		if err != nil {
			w.Note, r.Passed = err.Error(), false
		} else {
			w.Share, w.Deviation = deviation(counts)
		}
		r.Ways = append(r.Ways, w)
	}
	verdict := map[bool]string{true: "passed", false: "not passed"}[r.Passed]
	var parts []string
	for _, w := range r.Ways {
		text := "n/a"
		if w.Share.Known() {
			text = fmt.Sprintf("%.2f", float64(w.Share))
		}
		parts = append(parts, w.Name+" "+text)
	}
	r.Summary = fmt.Sprintf("%s: %s clients on %d shards, the fullest shard to the mean: %s", verdict,
		report.Group(s.Clients), s.Shards, strings.Join(parts, "; "))
	l.show("skew: "+verdict, true)
	return r, nil
}

// deviation returns how uneven the counts are.
func deviation(counts []int64) (share, standard report.Figure) {
	var sum, squares float64
	for _, n := range counts {
		sum += float64(n)
	}
	mean := sum / float64(len(counts))
	if mean == 0 {
		return report.NA, report.NA
	}
	for _, n := range counts {
		squares += (float64(n) - mean) * (float64(n) - mean)
	}
	return report.Figure(float64(slices.Max(counts)) / mean), report.Figure(math.Sqrt(squares / float64(len(counts))))
}

// one connects the clients to one server and returns its counts while they are held.
func (s *skew) one(ctx context.Context, c *compare,
	start func(context.Context, *compare) (*server, func() ([]int64, error), error)) (counts []int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	started, read, err := start(ctx, c)
	defer func() { err = errors.Join(err, started.stop()) }()
	if err != nil {
		return nil, err
	}
	format, err := client.NewFormat(1, client.SizeMin)
	if err != nil {
		return nil, err
	}
	from, err := sources("auto", started.address.Addr(), s.Clients)
	if err != nil {
		return nil, err
	}
	engine, err := client.New(client.Options{
		Server: started.address, Host: started.address.String(), Protocol: client.Raw, Clients: s.Clients, Loops: 1,
		Dials: dialsCompare, ConnectRate: s.ConnectRate, AttemptTimeout: s.Timeout, Sources: from, Now: newClock().now,
		Channels: []client.Channel{{Name: compareTopic, Format: format, Produced: func() uint64 { return 0 }}},
	})
	if err != nil {
		return nil, err
	}
	engine.Start()
	defer func() { _, _ = engine.Close(0) }()
	var held int64
	poll(ctx, func() bool {
		n, _ := engine.Snapshot()
		held = n.Open
		return held == int64(s.Clients)
	})
	if held < int64(s.Clients) {
		return nil, fmt.Errorf("held %d of %d clients", held, s.Clients)
	}
	return read()
}

// wsd returns how to start wsd with a mode of steering.
func (s *skew) wsd(mode string) func(context.Context, *compare) (*server, func() ([]int64, error), error) {
	return func(ctx context.Context, c *compare) (*server, func() ([]int64, error), error) {
		c.WSDArg = []string{"--steering.mode", mode}
		started := &server{}
		err := started.startWSD(ctx, c, contender{shards: s.Shards}, &load{}, &numbering{})
		if err == nil && mode != "off" && !strings.HasPrefix(started.steering, "ebpf") {
			err = fmt.Errorf("wsd steers by %q, not by eBPF, for want of privileges: see wsd doctor", started.steering)
		}
		return started, func() (counts []int64, err error) {
			h, err := serverstat.ReadHealth(ctx, "http://"+started.admin)
			for _, shard := range h.Shards {
				counts = append(counts, shard.Connections)
			}
			return counts, err
		}, err
	}
}

// workers starts workers that share one accept queue, in a process of their own.
func (s *skew) workers(_ context.Context, c *compare) (*server, func() ([]int64, error), error) {
	started := &server{}
	self, err := os.Executable()
	if err != nil {
		return started, nil, fmt.Errorf("find loadtest itself: %w", err)
	}
	p, err := started.launch(c, 0, self, "workers", strconv.Itoa(s.Shards))
	if err != nil {
		return started, nil, err
	}
	lines := bufio.NewScanner(p.Out)
	next := func(into any) error {
		if !lines.Scan() {
			return fmt.Errorf("the workers have ended: %s", p.Said())
		}
		return json.Unmarshal(lines.Bytes(), into)
	}
	err = next(&started.address)
	return started, func() (counts []int64, err error) {
		if _, err := io.WriteString(p.In, "counts\n"); err != nil {
			return nil, fmt.Errorf("ask the workers: %w", err)
		}
		return counts, next(&counts)
	}, err
}

// barWidth is the width of the largest bar in text.
const barWidth = 50

// WriteText draws the spreads.
func (r *spreads) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(r.Summary + "\n")
	var largest int64 = 1
	for _, way := range r.Ways {
		largest = max(largest, slices.Max(append(slices.Clone(way.Connections), 1)))
	}
	for _, way := range r.Ways {
		fmt.Fprintf(&b, "\n%s", way.Name)
		if way.Note != "" {
			fmt.Fprintf(&b, ": n/a: %s\n", way.Note)
			continue
		}
		fmt.Fprintf(&b, ": fullest %.2f times the mean, standard deviation %.1f\n", way.Share, way.Deviation)
		for _, n := range slices.Backward(slices.Sorted(slices.Values(way.Connections))) {
			fmt.Fprintf(&b, "%8s %s\n", report.Group(n), strings.Repeat("█", int(n*barWidth/largest)))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Page draws the spreads.
func (r *spreads) Page() *report.Page {
	p := &report.Page{Title: "loadtest skew: " + r.Summary, Passed: r.Passed}
	table := report.Section{Title: "Connections per shard, the fullest first", Head: []string{"way", "shards"}}
	for _, way := range r.Ways {
		row := []string{way.Name}
		if way.Note != "" {
			table.Rows = append(table.Rows, append(row, "n/a: "+way.Note))
			continue
		}
		var names []string
		var values []float64
		for i, n := range slices.Backward(slices.Sorted(slices.Values(way.Connections))) {
			names, values = append(names, fmt.Sprintf("number %d", len(way.Connections)-i)), append(values, float64(n))
			row = append(row, report.Group(n))
		}
		table.Rows = append(table.Rows, row)
		p.Plots = append(p.Plots, report.NewBars(way.Name, names, values))
	}
	p.Sections = []report.Section{table}
	return p
}
