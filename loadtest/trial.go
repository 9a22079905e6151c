package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"wsd/loadtest/client"
	"wsd/loadtest/serverstat"
)

const (
	channelPrefix = "c." // Prefix of channels with one client each, followed by a number.
	dialsCompare  = 256
	warmUpGroups  = 5
	// settle is how long connections are idle before their memory is read. Meanwhile garbage is collected, and the
	// kernel frees memory that waits for an RCU grace period.
	settle = time.Second
)

// measure is what one run has measured.
type measure struct {
	cpuConnection float64       // CPU time of the server per connection, in microseconds.
	cpuDelivery   float64       // CPU time of the server per delivery, in microseconds.
	wire          float64       // Bytes that the client has read per delivery.
	rss           float64       // Resident memory of the server per connection, in bytes.
	kernel        float64       // Slab and TCP memory of the machine per connection, in bytes.
	latency       [3]float64    // p50, p99 and p99.9, in milliseconds.
	busy          float64       // Share of its CPU that the load generator used, including Kafka if both share it.
	late          time.Duration // Longest delay of a produce request.
	perSecond     float64       // Produce requests per second, from the first to the last delivery.
	steering      string        // Steering mode of wsd.
	version       string        // Version of wsd.
}

// trial is one run of one server.
type trial struct {
	*compare
	scenario
	clock   clock
	shards  int // 0: the floor.
	server  *server
	engine  *client.Engine
	order   numbering
	clients int
	m       measure
}

// run runs the trial. An error means that its figures do not count, because a client missed a record or a step took too
// long.
func (t *trial) run(ctx context.Context, interval time.Duration) (m measure, err error) {
	run := rand.Uint32()
	newFormat := client.NewFormat
	if t.text && t.shards > 0 {
		newFormat = client.NewTextFormat // The floor itself produces its records, of the same length.
	}
	format, err := newFormat(run, t.size)
	if err != nil {
		return measure{}, err
	}
	t.clients = t.scenario.clients(t.compare)
	t.order = numbering{format: format, now: t.clock.now}
	if t.targeted {
		t.order.channels = t.clients
	}
	starting, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	t.server, err = t.start(starting, t.shards, &t.scenario, &t.order, run)
	defer func() { err = errors.Join(err, t.server.stop()) }()
	if err != nil {
		return measure{}, err
	}
	t.m.steering, t.m.version = t.server.steering, t.server.version
	if err := t.makeEngine(); err != nil {
		return measure{}, err
	}
	err = t.connect(ctx)
	if err == nil && t.batch > 0 {
		err = t.deliver(ctx, interval)
	}
	return t.m, errors.Join(err, t.finish())
}

func (t *trial) makeEngine() (err error) {
	begun := t.server.source.begun
	channels := []client.Channel{{Name: compareTopic, Format: t.order.format, Produced: begun}}
	if t.targeted {
		channels = make([]client.Channel, t.clients)
		for i := range channels {
			channels[i] = client.Channel{Name: fmt.Sprintf("%s%d", channelPrefix, i), Format: t.order.format,
				Produced: func() uint64 { return t.order.last(i, begun()) }}
		}
	}
	protocol := client.Protocol(t.Protocol)
	if t.shards == 0 {
		protocol = client.Raw
	}
	p := plan{common: common{Source: "auto"}, clients: t.clients}
	sources, err := p.sources(t.server.address.Addr())
	if err != nil {
		return err
	}
	warm := uint64(warmUpGroups * t.batch)
	if t.targeted {
		warm = 1 // Each client gets one.
	}
	t.engine, err = client.New(client.Options{
		Server: t.server.address, Host: t.server.address.String(), Protocol: protocol,
		Deflate: t.deflate && t.shards > 0, Channels: channels, Clients: t.clients, Loops: 1,
		Dials: dialsCompare, AttemptTimeout: t.Timeout, Sources: sources, Now: t.clock.now, Unmeasured: warm,
	})
	return err
}

// usage is the resources that the server, the kernel and the load generator have used.
type usage struct {
	read      time.Time     // When the figures were read.
	server    time.Duration // CPU time of the server.
	load      time.Duration // CPU time of the load generator, and of Kafka if it shares its CPU.
	rss       int64         // Resident memory of the server, in bytes.
	kernelMem int64         // TCP and slab memory of the machine, in bytes.
}

// read reads the resources used, memory only if requested.
func (t *trial) read(memory bool) (u usage, err error) {
	u.read = time.Now()
	if u.server, err = serverstat.CPUTime(t.server.pid); err != nil {
		return u, err
	}
	var own unix.Rusage
	// Fails only for arguments that do not exist.
	_ = unix.Getrusage(unix.RUSAGE_SELF, &own)
	u.load = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	if t.CPUs[1] == t.CPUs[2] {
		for _, pid := range t.server.others {
			used, err := serverstat.CPUTime(pid)
			if err != nil {
				return u, err
			}
			u.load += used
		}
	}
	if !memory {
		return u, nil
	}
	proc := serverstat.Proc{Root: "/proc"}
	server, err := proc.Process(t.server.pid)
	tcp, tcpErr := proc.TCPBytes()
	slab, slabErr := proc.SlabBytes()
	u.rss, u.kernelMem = server.RSS, tcp+slab
	return u, errors.Join(err, tcpErr, slabErr)
}

// connect is the ramp. In a trial without records, the clients then stay idle for a while, and their memory is
// measured.
func (t *trial) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	memory := t.batch == 0
	before, err := t.read(memory)
	if err != nil {
		return err
	}
	t.engine.Start()
	var held int64
	poll(ctx, func() bool {
		n, _ := t.engine.Snapshot()
		held = n.Held
		return n.Held+n.GivenUp >= int64(t.clients)
	})
	after, err := t.read(false)
	if err != nil {
		return err
	}
	t.engine.Hold()
	if held < int64(t.clients) {
		return fmt.Errorf("held %d of %d clients within %s", held, t.clients, t.Timeout)
	}
	t.m.cpuConnection = micros(after.server-before.server) / float64(t.clients)
	if !memory {
		return nil
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("hold idle clients: %w", ctx.Err())
	case <-time.After(settle):
	}
	if after, err = t.read(true); err != nil {
		return err
	}
	t.m.rss = float64(after.rss-before.rss) / float64(t.clients)
	t.m.kernel = float64(after.kernelMem-before.kernelMem) / float64(t.clients)
	return nil
}

// deliver sends records, first some to warm up.
func (t *trial) deliver(ctx context.Context, interval time.Duration) error {
	warm, pause := warmUpGroups, interval
	if t.targeted {
		warm, pause = (t.clients+t.batch-1)/t.batch, 0
	}
	if _, err := t.send(ctx, warm, pause); err != nil {
		return err
	}
	before, err := t.read(false)
	if err != nil {
		return err
	}
	earlier, _ := t.engine.Snapshot()
	groups := t.groups(interval)
	if t.m.late, err = t.send(ctx, groups, interval); err != nil {
		return err
	}
	after, err := t.read(false)
	if err != nil {
		return err
	}
	n, _ := t.engine.Snapshot()
	took := after.read.Sub(before.read)
	t.m.cpuDelivery = micros(after.server-before.server) / float64(n.Deliveries-earlier.Deliveries)
	t.m.wire = float64(n.WireBytes-earlier.WireBytes) / float64(n.Deliveries-earlier.Deliveries)
	t.m.busy = (after.load - before.load).Seconds() / took.Seconds()
	t.m.perSecond = float64(groups) / took.Seconds()
	return nil
}

// groups is how many produce requests the run has. Without an interval, about what a machine does in the time.
func (t *trial) groups(interval time.Duration) int {
	if interval > 0 {
		return max(1, int(math.Round(t.Duration.Seconds()/interval.Seconds())))
	}
	const perSecond = 150_000 // Deliveries.
	return max(10, int(perSecond*t.Duration.Seconds()/float64(t.clients)))
}

// send has groups of records made, and waits until all are delivered.
func (t *trial) send(ctx context.Context, groups int, interval time.Duration) (late time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(groups)*interval+t.Timeout)
	defer cancel()
	n, _ := t.engine.Snapshot()
	want := n.Deliveries + int64(groups)*int64(t.batch)
	if !t.targeted {
		want = n.Deliveries + int64(groups)*int64(t.batch)*int64(t.clients)
	}
	if late, err = t.server.source.send(ctx, groups, interval); err != nil {
		return late, err
	}
	seen, progressed := n.Deliveries, time.Now()
	poll(ctx, func() bool {
		n, _ := t.engine.Snapshot()
		if n.Deliveries > seen {
			seen, progressed = n.Deliveries, time.Now()
		}
		return seen >= want || time.Since(progressed) > quietMax
	})
	if seen < want {
		return late, fmt.Errorf("delivered %d of %d records", seen, want)
	}
	return late, nil
}

// finish resets the connections, which leaves none in TIME_WAIT, and returns what clients missed.
func (t *trial) finish() error {
	last := make([]uint64, 1)
	if t.targeted {
		last = make([]uint64, t.clients)
	}
	begun := t.server.source.begun()
	for i := range last {
		last[i] = t.order.last(i, begun)
	}
	t.engine.Drain(last)
	n, _, latency := t.engine.Close(0)
	t.quantiles(latency)
	return missed(&n)
}

func (t *trial) quantiles(latency *hdrhistogram.Histogram) {
	for i, q := range []float64{50, 99, 99.9} {
		t.m.latency[i] = float64(latency.ValueAtQuantile(q)) / 1000
	}
}

// missed returns an error if a client missed something or was disconnected.
func missed(n *client.Counters) error {
	var list []string
	for _, c := range []struct {
		n    int64
		what string
	}{
		{n.Closed, "disconnected"}, {n.Lost, "lost"}, {n.LostClosed, "lost by disconnected clients"},
		{n.Duplicates, "duplicates"},
		{n.Reordered, "reordered"}, {n.Corrupt, "corrupt"}, {n.Foreign, "of other runs"},
		{n.Unexpected, "unexpected messages"},
	} {
		if c.n > 0 {
			list = append(list, fmt.Sprintf("%s: %d", c.what, c.n))
		}
	}
	if len(list) == 0 {
		return nil
	}
	if n.Closed > 0 {
		list = append(list, reasons(n.Closes))
	}
	return errors.New(strings.Join(list, ", "))
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
