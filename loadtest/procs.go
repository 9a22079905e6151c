package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/loadtest/child"
	"wsd/loadtest/client"
)

// clients is all clients of a run: an engine in this process, or several in processes of their own.
type clients interface {
	Start()
	Hold()
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
	children []*proc
	fail     func(format string, args ...any)
	failed   sync.Once // Whether a process has ended, which is told once.
}

// proc is one process.
type proc struct {
	*child.Process
	mu  sync.Mutex // Held from a request to its reply.
	in  *json.Encoder
	out *json.Decoder
}

// procSpec is what a process needs. It is its first line of input.
type procSpec struct {
	Flags    clientOptions
	Recover  bool
	Clients  int
	First    int // Number of the first client in the whole run.
	Sources  []netip.Addr
	Channels []procChannel
	Size     int
	Offset   int64 // Nanoseconds from CLOCK_MONOTONIC to the clock of the run.
}

// procChannel is a channel. Cell is where the number of records of its feed is in the shared memory.
type procChannel struct {
	Name            string
	Run             uint32
	Cell            int
	Channels, Index int // The feed's numbering.
}

// procCall is a request to a process, or, for close, window and snapshot, also its reply.
type procCall struct {
	Op      string
	Abrupt  bool             `json:",omitempty"`
	Rate    float64          `json:",omitempty"`
	Last    []uint64         `json:",omitempty"`
	Grace   time.Duration    `json:",omitempty"`
	N       *client.Counters `json:",omitempty"`
	Drained bool             `json:",omitempty"`
	Times   [][]byte         `json:",omitempty"`
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

// startProcs starts the processes of a run.
func (r *run) startProcs(list []client.Channel, from []netip.Addr) (clients, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find loadtest itself: %w", err)
	}
	all := &procs{fail: r.problem}
	spec := procSpec{Flags: r.clientOptions, Recover: r.recover, Size: r.Size, Sources: from,
		Offset: r.clock.now() - int64(epoll.Monotonic())}
	for i, ch := range list {
		cell := 0
		for cell+1 < len(r.feeds) && r.feeds[cell+1].first <= i {
			cell++
		}
		f := r.feeds[cell]
		spec.Channels = append(spec.Channels, procChannel{Name: ch.Name, Run: f.run, Cell: cell,
			Channels: f.order.channels,
			Index:    i - f.first})
	}
	for i := range r.Procs {
		spec.Clients, spec.First = share(r.clients, r.Procs, i), spec.First+spec.Clients
		p, err := child.Start(child.Options{Path: self, CPU: child.AnyCPU,
			Args: []string{"proc", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.cellsFD), strconv.Itoa(len(r.feeds))}})
		if err != nil {
			return nil, errors.Join(err, all.stop())
		}
		c := &proc{Process: p, in: json.NewEncoder(p.In), out: json.NewDecoder(p.Out)}
		all.children = append(all.children, c)
		r.target.others = append(r.target.others, p.PID())
		if err := c.in.Encode(&spec); err != nil {
			return nil, errors.Join(fmt.Errorf("start process %d: %w", i+1, err), all.stop())
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

// call sends a request to all processes. With a reply, it calls f with each.
func (p *procs) call(request procCall, f func(*proc, *procCall)) {
	for i, c := range p.children {
		c.mu.Lock()
		var reply procCall
		err := c.in.Encode(&request)
		if err == nil && f != nil {
			err = c.out.Decode(&reply)
		}
		if err == nil && f != nil {
			f(c, &reply)
		} else if err != nil {
			p.failed.Do(func() { p.fail("process %d of the load generator has ended: %v: %s", i+1, err, c.Said()) })
		}
		c.mu.Unlock()
	}
}

func (p *procs) Start()                { p.call(procCall{Op: "start"}, nil) }
func (p *procs) Hold()                 { p.call(procCall{Op: "hold"}, nil) }
func (p *procs) Reconnect(abrupt bool) { p.call(procCall{Op: "reconnect", Abrupt: abrupt}, nil) }
func (p *procs) Drain(last []uint64)   { p.call(procCall{Op: "drain", Last: last}, nil) }
func (p *procs) Disturb(bool)          {} // The flags do not allow it.
func (p *procs) Churn(perSecond float64) {
	p.call(procCall{Op: "churn", Rate: perSecond / float64(len(p.children))}, nil)
}

// Disturbed returns nothing: no client disturbs.
func (p *procs) Disturbed() (client.Disturbed, int64) { return client.Disturbed{}, 0 }

func (p *procs) Snapshot() (n client.Counters, drained bool) {
	drained = true
	p.call(procCall{Op: "snapshot"}, func(_ *proc, reply *procCall) {
		client.Add(&n, reply.N)
		drained = drained && reply.Drained
	})
	return n, drained
}

func (p *procs) Window() client.Times {
	t := client.NewTimes()
	p.call(procCall{Op: "window"}, func(_ *proc, reply *procCall) { p.merge(&t, reply.Times) })
	return t
}

func (p *procs) merge(t *client.Times, encoded [][]byte) {
	for i, h := range []*hdrhistogram.Histogram{t.Connect, t.Rejoin, t.Latency, t.Lag} {
		decoded, err := hdrhistogram.Decode(encoded[i])
		if err != nil {
			p.fail("read a histogram of a process: %v", err)
			return
		}
		h.Merge(decoded)
	}
}

// Close ends all clients at the same time, and the processes.
func (p *procs) Close(grace time.Duration) (n client.Counters, t client.Times) {
	t = client.NewTimes()
	var mu sync.Mutex
	var closing sync.WaitGroup
	for _, c := range p.children {
		closing.Go(func() {
			one := &procs{children: []*proc{c}, fail: p.fail}
			one.call(procCall{Op: "close", Grace: grace}, func(_ *proc, reply *procCall) {
				mu.Lock()
				defer mu.Unlock()
				client.Add(&n, reply.N)
				p.merge(&t, reply.Times)
			})
		})
	}
	closing.Wait()
	if err := p.stop(); err != nil {
		p.fail("%v", err)
	}
	return n, t
}

// procCmd is the command of such a process.
type procCmd struct {
	Memory string `arg:"" help:"File with the shared memory."`
	Cells  int    `arg:"" help:"Numbers in it."`
}

// serve runs an engine as in directs, until in ends.
func (c *procCmd) serve(in io.Reader, out io.Writer) error {
	lines, reply := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	var spec procSpec
	if err := lines.Decode(&spec); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	f, err := os.OpenFile(c.Memory, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the shared memory: %w", err)
	}
	defer func() { _ = f.Close() }()
	shared, err := mapCells(int(f.Fd()), c.Cells)
	if err != nil {
		return err
	}
	o, err := spec.Flags.connectTo()
	if err != nil {
		return err
	}
	o.Clients, o.Recover, o.Sources = spec.Clients, spec.Recover, spec.Sources
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
	engine, err := client.New(o)
	if err != nil {
		return err
	}
	for {
		var call procCall
		if err := lines.Decode(&call); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read what to do: %w", err)
		}
		if err := call.do(engine, reply); err != nil {
			return fmt.Errorf("tell what was done: %w", err)
		}
	}
}

// do does what is asked for.
func (c *procCall) do(engine *client.Engine, reply *json.Encoder) error {
	switch c.Op {
	case "start":
		engine.Start()
	case "hold":
		engine.Hold()
	case "reconnect":
		engine.Reconnect(c.Abrupt)
	case "churn":
		engine.Churn(c.Rate)
	case "drain":
		engine.Drain(c.Last)
	case "snapshot":
		n, drained := engine.Snapshot()
		return reply.Encode(&procCall{N: &n, Drained: drained})
	case "window":
		t := engine.Window()
		return reply.Encode(&procCall{Times: encode(&t)})
	case "close":
		n, t := engine.Close(c.Grace)
		return reply.Encode(&procCall{N: &n, Times: encode(&t)})
	}
	return nil
}

func encode(t *client.Times) (list [][]byte) {
	for _, h := range []*hdrhistogram.Histogram{t.Connect, t.Rejoin, t.Latency, t.Lag} {
		b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		if err != nil {
			panic(fmt.Sprintf("BUG: encode a histogram: %v", err))
		}
		list = append(list, b)
	}
	return list
}
