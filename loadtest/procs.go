package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/rpc"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/loadtest/child"
	"wsd/loadtest/client"
)

// clients is all clients of a run: an engine in this process, or several in processes of their own.
type clients interface {
	Start()
	Hold()
	ForgetLag()
	Reconnect(abrupt bool)
	Churn(perSecond float64)
	Disturb(on bool)
	Drain(last []uint64)
	Snapshot() (n client.Counters, drained bool)
	Disturbed() (n client.Disturbed, active int64)
	Window() client.Times
	Close(grace time.Duration) (client.Counters, client.Times)
}

// procs is engines in processes of their own, for more clients than one process may have descriptors. A client that
// subscribes must know which records have been produced by then, so these numbers are in memory that all share.
type procs struct {
	children []*child.Process
	calls    []*rpc.Client // By process.
	fail     func(format string, args ...any)
	failed   sync.Once // Whether a process has ended, which is told once.
}

// ProcSpec is what a process needs.
type ProcSpec struct {
	Flags    clientOptions
	Recover  bool
	Clients  int
	Disturb  client.Disturb
	First    int // Number of the first client in the whole run.
	Sources  []netip.Addr
	Channels []procChannel
	Size     int
	Offset   int64  // Nanoseconds from CLOCK_MONOTONIC to the clock of the run.
	Memory   string // File with the shared memory.
	Cells    int    // Numbers in it.
}

// procChannel is a channel. Cell is where the number of records of its feed is in the shared memory.
type procChannel struct {
	Name            string
	Run             uint32
	Cell            int
	Channels, Index int // The feed's numbering.
}

// Sums is what a process has counted and measured.
type Sums struct {
	N       client.Counters
	Waiting bool // Whether N.Behind is not valid.
	Bad     client.Disturbed
	Active  int64         // Disturbing clients that are connected or will be.
	Times   *client.Times // Nil: nothing was asked for.
}

// cells is memory that processes share: one number per feed.
type cells []byte

// newCells returns memory for n numbers, and its descriptor.
func newCells(n int) (cells, int, error) {
	fd, err := unix.MemfdCreate("loadtest", unix.MFD_CLOEXEC)
	if err == nil {
		err = unix.Ftruncate(fd, int64(8*n))
	}
	if err != nil {
		return nil, -1, fmt.Errorf("create shared memory: %w", err)
	}
	c, err := mapCells(fd, n)
	return c, fd, err
}

func mapCells(fd, n int) (cells, error) {
	b, err := unix.Mmap(fd, 0, 8*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	return b, nil
}

// at returns number i, which any process may load and store.
func (c cells) at(i int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&c[8*i])) }

// pipe is a pair of pipes as a connection.
type pipe struct {
	io.Reader
	io.WriteCloser
}

// startProcs starts the processes of a run.
func (r *run) startProcs(list []client.Channel, from []netip.Addr) (clients, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find loadtest itself: %w", err)
	}
	all := &procs{fail: r.problem}
	spec := ProcSpec{Flags: r.clientOptions, Recover: r.recover, Size: r.Size, Sources: from, Cells: len(r.feeds),
		Offset: r.clock.now() - int64(epoll.Monotonic()), Disturb: r.disturb,
		Memory: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.cellsFD)}
	cell := 0
	for i, ch := range list {
		for cell+1 < len(r.feeds) && r.feeds[cell+1].first <= i {
			cell++
		}
		f := r.feeds[cell]
		spec.Channels = append(spec.Channels,
			procChannel{Name: ch.Name, Run: f.run, Cell: cell, Channels: f.order.channels, Index: i - f.first})
	}
	for i := range r.Procs {
		spec.Clients, spec.First = share(r.clients, r.Procs, i), spec.First+spec.Clients
		spec.Disturb.Count, spec.Disturb.Seed = share(r.disturb.Count, r.Procs, i), r.disturb.Seed+uint64(i)
		p, err := child.Start(child.Options{Path: self, CPU: child.AnyCPU, Args: []string{"proc"}})
		if err != nil {
			return nil, errors.Join(err, all.stop())
		}
		c := rpc.NewClient(pipe{p.Out, p.In})
		all.children, all.calls = append(all.children, p), append(all.calls, c)
		r.target.others = append(r.target.others, p.PID())
		if err := c.Call("Part.Make", &spec, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("start process %d: %w: %s", i+1, err, p.Said()), all.stop())
		}
	}
	return all, nil
}

// share returns part i of n clients in so many parts.
func share(n, parts, i int) int { return (n - i + parts - 1) / parts }

func (p *procs) stop() (err error) {
	for _, c := range p.children {
		err = errors.Join(err, c.Stop(stopGrace))
	}
	return err
}

// call has all processes do the same at the same time, and returns the sums of their replies.
func (p *procs) call(what Call) *Sums {
	var sum Sums
	var mu sync.Mutex
	var running sync.WaitGroup
	for i, c := range p.calls {
		running.Go(func() {
			var reply Sums
			if err := c.Call("Part.Do", &what, &reply); err != nil {
				p.failed.Do(func() {
					p.fail("process %d of the load generator has ended: %v: %s", i+1, err, p.children[i].Said())
				})
				return
			}
			mu.Lock()
			defer mu.Unlock()
			client.Add(&sum, &reply)
		})
	}
	running.Wait()
	return &sum
}

func (p *procs) Start()                { p.call(Call{Method: "Start"}) }
func (p *procs) Hold()                 { p.call(Call{Method: "Hold"}) }
func (p *procs) ForgetLag()            { p.call(Call{Method: "ForgetLag"}) }
func (p *procs) Reconnect(abrupt bool) { p.call(Call{Method: "Reconnect", On: abrupt}) }
func (p *procs) Drain(last []uint64)   { p.call(Call{Method: "Drain", Last: last}) }
func (p *procs) Disturb(on bool)       { p.call(Call{Method: "Disturb", On: on}) }
func (p *procs) Window() client.Times  { return p.call(Call{Method: "Window"}).times() }
func (p *procs) Churn(perSecond float64) {
	p.call(Call{Method: "Churn", Rate: perSecond / float64(len(p.calls))})
}

func (p *procs) Snapshot() (n client.Counters, drained bool) {
	s := p.call(Call{Method: "Snapshot"})
	return s.N, !s.Waiting
}

func (p *procs) Disturbed() (client.Disturbed, int64) {
	s := p.call(Call{Method: "Snapshot"})
	return s.Bad, s.Active
}

// Close ends all clients at the same time, and the processes.
func (p *procs) Close(grace time.Duration) (client.Counters, client.Times) {
	s := p.call(Call{Method: "Close", Grace: grace})
	if err := p.stop(); err != nil {
		p.fail("%v", err)
	}
	return s.N, s.times()
}

// times returns the histograms, also when every process has ended.
func (s *Sums) times() client.Times {
	if s.Times == nil {
		return client.NewTimes()
	}
	return *s.Times
}

// procCmd is the command of such a process.
type procCmd struct{}

// serve does what in says until it ends.
func (*procCmd) serve(in io.Reader, out io.WriteCloser) error {
	s := rpc.NewServer()
	if err := s.Register(&Part{}); err != nil {
		return fmt.Errorf("serve a part of the clients: %w", err)
	}
	s.ServeConn(pipe{in, out})
	return nil
}

// Part is the clients of one process. Package rpc calls its methods, after Make also at the same time.
type Part struct{ engine *client.Engine }

// Make makes the clients.
func (p *Part) Make(spec *ProcSpec, _ *Sums) error {
	f, err := os.OpenFile(spec.Memory, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the shared memory: %w", err)
	}
	defer func() { _ = f.Close() }()
	shared, err := mapCells(int(f.Fd()), spec.Cells)
	if err != nil {
		return err
	}
	o, err := spec.Flags.connectTo()
	if err != nil {
		return err
	}
	o.Clients, o.Recover, o.Sources, o.Disturb = spec.Clients, spec.Recover, spec.Sources, spec.Disturb
	if n := len(o.Tokens); n > 0 {
		o.Tokens = append(o.Tokens[spec.First%n:], o.Tokens[:spec.First%n]...)
	}
	o.Now = func() int64 { return int64(epoll.Monotonic()) + spec.Offset }
	for _, ch := range spec.Channels {
		format, err := client.NewFormat(ch.Run, spec.Size)
		if err != nil {
			return err
		}
		order, begun := numbering{channels: ch.Channels}, shared.at(ch.Cell)
		o.Channels = append(o.Channels, client.Channel{Name: ch.Name, Format: format,
			Produced: func() uint64 { return order.last(ch.Index, begun.Load()) }})
	}
	p.engine, err = client.New(o)
	return err
}

// Call is what a process's engine has to do: a method of it, and its argument.
type Call struct {
	Method string
	On     bool // Of Reconnect and Disturb.
	Rate   float64
	Last   []uint64
	Grace  time.Duration
}

// Do does it.
func (p *Part) Do(c *Call, s *Sums) error {
	var t client.Times
	switch e := p.engine; c.Method {
	case "Start":
		e.Start()
	case "Hold":
		e.Hold()
	case "ForgetLag":
		e.ForgetLag()
	case "Reconnect":
		e.Reconnect(c.On)
	case "Churn":
		e.Churn(c.Rate)
	case "Disturb":
		e.Disturb(c.On)
	case "Drain":
		e.Drain(c.Last)
	case "Window":
		t = e.Window()
		s.Times = &t
	case "Close":
		s.N, t = e.Close(c.Grace)
		s.Times = &t
	case "Snapshot":
		var drained bool
		s.N, drained = e.Snapshot()
		s.Waiting = !drained
		s.Bad, s.Active = e.Disturbed()
	default:
		return fmt.Errorf("BUG: engines have no method %q", c.Method)
	}
	return nil
}
