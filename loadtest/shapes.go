package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"wsd/loadtest/child"
	"wsd/loadtest/client"
	"wsd/loadtest/report"
)

// shape is the load of a published measurement, and what was published.
type shape struct {
	name, source string
	published    string   // The load, and what was measured.
	caveat       string   // What keeps the two from being compared directly.
	clients      int      // Clients of the publication.
	deliveries   float64  // Per second, to all clients together; 0: idle.
	channels     int      // 0: one for all.
	size, batch  int      // Bytes of a record, and records of a produce request.
	shards       int      // Of wsd.
	connectRate  float64  // Clients per second that connect; 0: as fast as accepted.
	aim          []string // What the developers aim for, as criteria that fail it.
}

// shapes are those of --help, in the order in which they run.
var shapes = []shape{
	{name: "kafkorama", source: "kafkorama.com/blog/benchmarking-kafkorama.html",
		published: "1,000,000 clients, 10,000 keys with a record of 512 B a second each, a message a second to each " +
			"client: 31,000 clients and as many deliveries/s per vCPU below 75 % CPU, p99 25–53 ms",
		caveat: "one CPU and few clients, so each client gets more messages a second; on loopback, where wsd's CPU " +
			"also does the clients' TCP work, and one other CPU has clients, producer and Kafka",
		clients: 1_000_000, deliveries: 1_000_000, channels: 10_000, size: 512, batch: 100, shards: 1,
		aim: []string{"received/s<59000", "cpu>75%", "p99>10ms"}},
	{name: "lightstreamer", source: "lightstreamer.com/blog/kafka-load-and-stress-testing-tool",
		published: "broadcast of 1 KB, 4 a second, from one partition to 50,000 clients: 200,000 deliveries/s on 4 " +
			"cores",
		caveat:  "one CPU and fewer clients; raw WebSocket, where Lightstreamer has a protocol of its own",
		clients: 50_000, deliveries: 200_000, size: 1 << 10, batch: 1, shards: 1},
	{name: "plan", source: "the system that wsd replaces, as it was later",
		published: "18,000 clients as the target, on 3 shards of 6,000, of which 100 connect a second: 51,110 " +
			"messages/s, 61 KB a connection",
		caveat: "a shorter ramp unless --connect-rate is 100; records of 256 B to 1,000 channels, as its own are not " +
			"known; its shards had more than one CPU",
		clients: 18_000, deliveries: 51_110, channels: 1000, size: 256, batch: 10, shards: 3, connectRate: 600},
	{name: "centrifugo", source: "centrifugal.dev",
		published: "200,000 idle connections, 27 KB each",
		caveat:    "fewer connections; raw, unless --protocol is json, which Centrifugo speaks; no pings meanwhile",
		clients:   200_000, size: 128, shards: 1},
}

// shapesCommand runs the loads of published measurements against a wsd of its own.
type shapesCommand struct {
	Names       []string      `arg:"" optional:"" name:"name" help:"Shapes: kafkorama, lightstreamer, plan, centrifugo. Default: all."`
	Clients     int           `help:"Clients. Default: those of the publication, at most 18,000 or the limit of one process."`
	Deliveries  float64       `help:"Deliveries per second, to all clients together. Default: those of the publication, at most 60,000."`
	ConnectRate float64       `help:"Connection attempts per second. Default: that of the shape."`
	Hold        time.Duration `default:"15s" help:"How long to produce, or to be idle (${default})."`
	Shards      int           `help:"Shards of wsd. Default: 1, of the plan 3."`
	CPUs        []int         `name:"cpus" help:"CPUs of wsd, of the load generator and, optionally, of Kafka. Default: the first ones that this process may use."`
	Bin         string        `help:"Directory with the program wsd. Default: the directory of loadtest."`
	WSDArg      []string      `name:"wsd-arg" sep:"none" help:"Further option for wsd, such as --wsd-arg=--bus.batch-age=0s; may be repeated."`
	Protocol    string        `default:"raw" enum:"raw,json,protobuf" help:"Protocol of the clients (${default})."`
	Aim         bool          `help:"Fail if a shape misses its aim, such as 60,000 deliveries/s below 75 % CPU."`
	Timeout     time.Duration `default:"60s" help:"Timeout for each step of a run except producing (${default})."`
	output
}

// Limits of the default scale: what two CPUs and the usual limit on open files allow.
const (
	shapeClientsMax    = 18_000
	shapeDeliveriesMax = 60_000
)

func (s *shapesCommand) check() error {
	limit, err := clientsMax()
	if err != nil {
		return err
	}
	c := compare{Bin: s.Bin, CPUs: s.CPUs}
	if s.CPUs, err = c.cpus(); err != nil {
		return err
	}
	for _, name := range s.Names {
		if !slices.ContainsFunc(shapes, func(x shape) bool { return x.name == name }) {
			return fmt.Errorf("shape %q is none of kafkorama, lightstreamer, plan, centrifugo", name)
		}
	}
	switch {
	case s.Clients < 0 || s.Clients > limit:
		return fmt.Errorf("--clients %d must be at most %d, the limit of one process here", s.Clients, limit)
	case s.Deliveries < 0 || s.Deliveries > 1e7 || s.ConnectRate < 0:
		return errors.New("--deliveries must be at most 10,000,000, and --connect-rate not negative")
	case s.Hold < time.Second || s.Hold > time.Hour || s.Timeout <= 0:
		return errors.New("--hold must be between 1s and 1h, and --timeout above 0")
	case s.Shards < 0 || s.Shards > 256:
		return fmt.Errorf("--shards %d must be between 1 and 256", s.Shards)
	}
	if _, err := parseCriteria(s.FailIf); err != nil {
		return err
	}
	err = c.programs([]contender{{name: "wsd", shards: 1}})
	s.Bin = c.Bin
	return err
}

// scaled returns the load of a shape on this machine, and says how it differs.
func (s *shapesCommand) scaled(p shape) (shape, string) {
	of := p
	limit, _ := clientsMax() // Known since check.
	p.clients = min(p.clients, shapeClientsMax, limit)
	if s.Clients > 0 {
		p.clients = s.Clients
	}
	if p.deliveries = min(p.deliveries, shapeDeliveriesMax); s.Deliveries > 0 && of.deliveries > 0 {
		p.deliveries = s.Deliveries
	}
	if s.ConnectRate > 0 {
		p.connectRate = s.ConnectRate
	}
	if s.Shards > 0 {
		p.shards = s.Shards
	}
	p.channels = min(p.channels, p.clients)
	text := fmt.Sprintf("%s of %s clients (1/%.3g)", report.Group(p.clients), report.Group(of.clients),
		float64(of.clients)/float64(p.clients))
	if of.deliveries > 0 {
		text += fmt.Sprintf(", %s of %s deliveries/s (1/%.3g), %.3g instead of %.3g a client",
			report.Group(int(p.deliveries)), report.Group(int(of.deliveries)), of.deliveries/p.deliveries,
			p.deliveries/float64(p.clients), of.deliveries/float64(of.clients))
	}
	if p.channels > 0 {
		text += fmt.Sprintf(", %s channels", report.Group(p.channels))
	}
	return p, fmt.Sprintf("%s, %d shard(s) on one CPU", text, p.shards)
}

// shapeResults is the result of all shapes.
type shapeResults struct {
	Summary string        `json:"summary"`
	Passed  bool          `json:"passed"`
	Shapes  []shapeResult `json:"shapes"`
}

// shapeResult is one shape beside what was published.
type shapeResult struct {
	Name      string         `json:"name"`
	Source    string         `json:"source"`
	Published string         `json:"published"`
	Caveat    string         `json:"caveat"`
	Scale     string         `json:"scale"`
	Missed    []string       `json:"missed"` // Aims that were missed.
	Error     string         `json:"error,omitempty"`
	Result    *report.Result `json:"result"` // Nil after an error.
}

// measure runs the shapes one after the other. One that fails does not keep the next from running.
func (s *shapesCommand) measure(ctx context.Context, l *live) (*shapeResults, error) {
	if err := child.PinSelf(s.CPUs[1]); err != nil {
		return nil, err
	}
	// More than one, so that the kernel, not Go's scheduler, divides the CPU between clients and producer.
	runtime.GOMAXPROCS(4)
	if s.Profile != "" {
		if err := os.Setenv("ENABLE_PPROF", "true"); err != nil { // The server inherits it.
			return nil, fmt.Errorf("--profile: %w", err)
		}
	}
	all := &shapeResults{Passed: true}
	for _, p := range shapes {
		if len(s.Names) > 0 && !slices.Contains(s.Names, p.name) || ctx.Err() != nil {
			continue
		}
		p, scale := s.scaled(p)
		l.show(fmt.Sprintf("%s: %s; about %s", p.name, scale, s.takes(p)), true)
		one := shapeResult{Name: p.name, Source: p.source, Published: p.published, Caveat: p.caveat, Scale: scale,
			Missed: []string{}}
		var err error
		if one.Result, err = s.one(ctx, p, l); err != nil {
			one.Error = err.Error()
		} else {
			aims, _ := parseCriteria(p.aim) // They are constant.
			for _, aim := range aims {
				if failure := aim.failure(one.Result); failure != "" {
					one.Missed = append(one.Missed, failure)
				}
			}
		}
		all.Passed = all.Passed && err == nil && one.Result.Passed && (!s.Aim || len(one.Missed) == 0)
		all.Shapes = append(all.Shapes, one)
		l.show(p.name+": "+one.sentence(), true)
	}
	verdict := map[bool]string{true: "passed", false: "not passed"}[all.Passed]
	all.Summary = fmt.Sprintf("%s: %d shapes of published figures", verdict, len(all.Shapes))
	return all, nil
}

// takes is how long a shape takes.
func (s *shapesCommand) takes(p shape) time.Duration {
	ramp := 10 * time.Second
	if p.connectRate > 0 {
		ramp += time.Duration(float64(p.clients) / p.connectRate * float64(time.Second))
	}
	return (ramp + s.Hold).Round(time.Second)
}

// one runs one shape.
func (s *shapesCommand) one(ctx context.Context, p shape, l *live) (result *report.Result, err error) {
	perRecord := float64(p.clients) / float64(max(p.channels, 1))
	r := &run{name: "shape " + p.name, clients: p.clients, rate: p.deliveries / perRecord, duration: s.Hold, stay: true,
		warm: 1, settle: settleTime, live: l, clock: newClock(), series: newSeries(), sustained: report.NA,
		log: io.Discard}
	r.Topic, r.Source, r.Timeout = []string{compareTopic}, "auto", s.Timeout+s.takes(p)
	r.Size, r.Batch = p.size, p.batch
	r.Channels, r.Channel, r.Protocol, r.output = p.channels, channelPrefix+"{key}", s.Protocol, s.output
	if p.deliveries == 0 {
		r.rate, r.duration, r.settle = 1, 0, s.Hold
	}
	if r.Profile != "" {
		r.Profile = filepath.Join(s.Profile, p.name)
	}
	id := rand.Uint32()
	format, err := client.NewFormat(id, p.size)
	if err != nil {
		return nil, err
	}
	f := &feed{order: numbering{format: format, now: r.clock.now, channels: p.channels}}
	c := &compare{Bin: s.Bin, CPUs: s.CPUs, Timeout: s.Timeout, WSDArg: s.WSDArg}
	sc := &load{batch: p.batch, targeted: p.channels > 0}
	started, err := c.start(ctx, contender{shards: p.shards}, sc, &f.order, id)
	defer func() { err = errors.Join(err, started.stop()) }()
	if err != nil {
		return nil, err
	}
	f.source, r.feeds = started.source, []*feed{f}
	r.Admin, r.URL = "http://"+started.admin, "ws://"+started.address.String()
	r.target = target{pid: started.pid, admin: r.Admin, others: started.others, connect: client.Options{
		Server: started.address, Host: started.address.String(), Protocol: client.Protocol(s.Protocol), Loops: 1,
		Dials: dialsCompare, ConnectRate: p.connectRate, AttemptTimeout: s.Timeout}}
	if err := r.checkProfile(ctx); err != nil {
		return nil, err
	}
	if err := r.target.find(ctx, r.Topic); err != nil {
		return nil, err
	}
	return r.measure(ctx)
}

// sentence says what came out.
func (s *shapeResult) sentence() string {
	r := s.Result
	if r == nil {
		return "failed: " + s.Error
	}
	text := r.Summary
	if v := r.Server; v != nil {
		if r.Records.Expected > 0 {
			text += fmt.Sprintf("; %s deliveries/s at %s of one CPU, %s each", show(r.Records.DeliveriesPS, 1, ""),
				show(v.CPUPercent, 1, " %"), show(v.CPUMicrosDelivery, 1, " µs"))
		}
		text += fmt.Sprintf("; per connection %s of the server and %s of CPU", show(v.RSSConnection, 1, " B"),
			show(v.CPUMicrosConnection, 1, " µs"))
		if k := r.Kernel; k != nil {
			text += fmt.Sprintf(", %s of the kernel for both ends", show(k.Connection, 1, " B"))
		}
	}
	if len(s.Missed) > 0 {
		text += "; missed: " + strings.Join(s.Missed, ", ")
	}
	return text
}

// rows are a table of the shape.
func (s *shapeResult) rows() [][]string {
	list := [][]string{{"published", s.Published + " (" + s.Source + ")"}, {"here", s.sentence()}, {"scale", s.Scale},
		{"caveat", s.Caveat}}
	if s.Result != nil {
		for _, text := range slices.Concat(s.Result.Reasons, s.Result.Warnings) {
			list = append(list, []string{"note", text})
		}
	}
	return list
}

// WriteText writes each shape beside what was published.
func (r *shapeResults) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, r.Summary)
	for i := range r.Shapes {
		_, _ = fmt.Fprintf(t, "\n%s\n", r.Shapes[i].Name)
		for _, row := range r.Shapes[i].rows() {
			_, _ = fmt.Fprintf(t, "  %s\t%s\n", row[0], row[1])
		}
	}
	return t.Flush() // The first error of all.
}

// Page shows the same, and the plots of each shape.
func (r *shapeResults) Page() *report.Page {
	p := &report.Page{Title: "loadtest shapes: " + r.Summary, Passed: r.Passed}
	for i := range r.Shapes {
		s := &r.Shapes[i]
		p.Notes = append(p.Notes, s.Name+": "+s.sentence()+". Published: "+s.Published+".")
		p.Sections = append(p.Sections, report.Section{Title: s.Name, Rows: s.rows()})
		if s.Result == nil {
			continue
		}
		for _, plot := range s.Result.Page().Plots {
			plot.Title = s.Name + ": " + plot.Title
			p.Plots = append(p.Plots, plot)
		}
	}
	return p
}
