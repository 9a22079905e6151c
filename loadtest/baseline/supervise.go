package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsd/loadtest/baseline/balancer"
	"wsd/loadtest/baseline/bus"
	"wsd/loadtest/baseline/cpu"
	"wsd/loadtest/baseline/intake"
	"wsd/loadtest/baseline/shard"
	"wsd/loadtest/baseline/shm"
)

// inheritedFile is the descriptor of the shared memory in a shard; those of the eventfds follow.
const inheritedFile = 3

// Pauses before a shard that has ended is started again: doubled each time, reset when it has lived long enough.
const (
	restartFirst = 200 * time.Millisecond
	restartLast  = 5 * time.Second
)

// readyTimeout is how long shards may take until all of them take clients.
const readyTimeout = 30 * time.Second

// mainProcess is the load balancer, which also starts the shards and may consume Kafka for them.
type mainProcess struct {
	c        *config
	on       opts
	roles    roles
	log      *slog.Logger
	dir      string
	board    *shm.Board
	file     *os.File
	events   []*os.File // Eventfds of the shards, with the ring.
	eventFDs []int      // Their descriptors.
	balancer *balancer.Balancer
	meter    *cpu.Meter // nil: not central, or no quota.
	restarts [shm.ShardsMax]atomic.Int64
}

func newMain(c *config, on opts, log *slog.Logger) (m *mainProcess, err error) {
	m = &mainProcess{c: c, on: on, roles: on.roles(c.Shards, shm.Main), log: log}
	if m.board, m.file, err = shm.Create(c.Shards); err != nil {
		return nil, err
	}
	if on[10] {
		for range c.Shards {
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
			if err != nil {
				return nil, fmt.Errorf("create an eventfd: %w", err)
			}
			m.events = append(m.events, os.NewFile(uintptr(fd), "eventfd"))
			m.eventFDs = append(m.eventFDs, fd)
		}
	}
	stat := m.board.Slot(shm.Main)
	stat.PID.Store(int64(os.Getpid()))
	meter, limited, err := cpu.NewMeter(c.Cgroup, stat)
	if err != nil {
		return nil, err
	}
	if !limited {
		log.Warn("the cgroup has no CPU quota, so no connection is refused because of CPU")
	} else if on[1] {
		m.meter = meter
	}
	if m.dir, err = os.MkdirTemp("", "baseline-"); err != nil {
		return nil, fmt.Errorf("make a directory for sockets: %w", err)
	}
	network := "tcp"
	if on[7] && !on[11] {
		network = "unix"
	}
	var files unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files) // check has read it.
	m.balancer, err = balancer.New(balancer.Options{Board: m.board, Listen: c.Listen, Network: network,
		Direct: on[11], Targets: m.roles.targets, Max: (int(min(files.Max, 1<<24)) - filesReserved) / 2, Log: log})
	return m, err
}

// run runs everything until ctx ends.
func (m *mainProcess) run(ctx context.Context) (err error) {
	defer m.release()
	listener, err := net.Listen("tcp", m.c.Metrics) //nolint:noctx // It does not block.
	if err != nil {
		m.balancer.Close()
		return fmt.Errorf("listen for metrics: %w", err)
	}
	metrics := m.serveMetrics(listener)
	defer func() { err = errors.Join(err, metrics.Close()) }()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var background, shards sync.WaitGroup
	background.Go(func() { shard.Report(ctx, m.board.Slot(shm.Main)) })
	if m.meter != nil {
		background.Go(func() { cpu.Watch(ctx, m.meter, m.c.CPUMax, m.board) })
	}
	if m.roles.inMain > 0 {
		stat := m.board.Slot(shm.Main)
		stat.Publishes.Store(1)
		stat.State.Store(shm.Listening)
	}
	for i := range m.c.Shards {
		shards.Go(func() { m.keep(ctx, i) })
	}
	if m.roles.inMain > 0 {
		background.Go(func() {
			if err := m.consume(ctx); err != nil {
				fail(err)
			}
		})
	}
	background.Go(func() {
		if err := m.balancer.Serve(); err != nil {
			fail(err)
		}
	})
	if err := m.await(ctx, shm.Ready); err != nil {
		fail(err)
	} else if ctx.Err() == nil {
		m.log.Info("serving", "clients", m.balancer.Addr(), "metrics", listener.Addr().String(), "shards", m.c.Shards,
			"opts", m.on.numbers())
	}
	<-ctx.Done()
	m.balancer.StopAccepting()
	shards.Wait() // They close their clients through the tunnels.
	m.balancer.Close()
	background.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func (m *mainProcess) release() {
	_ = os.RemoveAll(m.dir) // It is below the system's directory for temporary files.
	_ = m.file.Close()
	for _, e := range m.events {
		_ = e.Close()
	}
}

// await waits until every shard is in a state.
func (m *mainProcess) await(ctx context.Context, state int64) error {
	deadline := time.Now().Add(readyTimeout)
	for m.board.Live(state) != m.board.All() {
		if time.Now().After(deadline) {
			return fmt.Errorf("start shards: not all of them are there within %s", readyTimeout)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// consume is the shared Kafka pool.
func (m *mainProcess) consume(ctx context.Context) error {
	o := bus.SenderOptions{Board: m.board, Self: shm.Main, Dir: m.dir, Batch: m.on[4], Routed: m.on[6],
		Ring: m.on[10], Events: m.eventFDs, Targets: m.roles.targets, Log: m.log}
	sender := bus.NewSender(o)
	defer sender.Close()
	// The shards take clients once this process reaches them, so it does not wait for that.
	if err := m.await(ctx, shm.Listening); err != nil || ctx.Err() != nil {
		return err
	}
	if err := sender.WaitConnected(ctx); err != nil {
		return nil // The process stops.
	}
	k := m.kafka()
	k.Stat, k.Log = m.board.Slot(shm.Main), m.log
	return intake.Run(ctx, k, m.roles.inMain, sender, m.c.Stop)
}

func (m *mainProcess) kafka() intake.Options {
	return intake.Options{Brokers: m.c.Kafka, Topics: m.c.Topics, Group: m.c.Group,
		Earliest: m.c.Start == "earliest", Batch: m.on[3]}
}

// keep runs a shard, again and again, until ctx ends.
func (m *mainProcess) keep(ctx context.Context, index int) {
	pause := restartFirst
	for {
		begun := time.Now()
		err := m.runShard(ctx, index)
		m.balancer.SetAddress(index, "")
		m.board.Forget(index)
		if ctx.Err() != nil {
			if err != nil {
				m.log.Warn("a shard did not end well", "shard", index, "error", err)
			}
			return
		}
		if time.Since(begun) > restartLast {
			pause = restartFirst
		}
		m.restarts[index].Add(1)
		m.log.Error("a shard has ended; it is started again", "shard", index, "error", err, "after", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, restartLast)
	}
}

// runShard runs a shard until it ends. When ctx ends, the shard gets SIGTERM, and SIGKILL if it takes too long.
func (m *mainProcess) runShard(ctx context.Context, index int) error {
	text, err := json.Marshal(struct {
		shard.Options
		LogFormat string
		Verbose   bool
	}{m.shardOptions(index), m.c.LogFormat, m.c.Verbose})
	if err != nil {
		return fmt.Errorf("write the options of a shard: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, shardCommand, string(text))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2*m.c.Stop + time.Second
	cmd.ExtraFiles = append([]*os.File{m.file}, m.events...)
	cmd.Stderr = os.Stderr
	// Ctrl-C must reach the main process only, which then stops the shards.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start shard %d: %w", index, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start shard %d: %w", index, err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err == nil && m.roles.hasClients(index) {
		m.balancer.SetAddress(index, strings.TrimSpace(line))
	}
	err = cmd.Wait()
	if ctx.Err() != nil && cmd.ProcessState.Success() {
		return nil // Wait reports that ctx has ended, however well the shard did.
	}
	return err
}

func (m *mainProcess) shardOptions(index int) shard.Options {
	o := shard.Options{
		Index: index, Shards: m.c.Shards, Dir: m.dir, Listen: net.JoinHostPort(m.c.ShardHost, "0"),
		Unix: m.on[7] && !m.on[11], ConnectionsMax: m.c.ConnectionsMax, Queue: m.c.Queue,
		PingInterval: m.c.PingInterval, CPUMax: m.c.CPUMax, CgroupDir: m.c.Cgroup,
		Central: m.on[1], Sampled: m.on[2], Pool: m.on[8], BusBatch: m.on[4], Routed: m.on[6], Ring: m.on[10],
		Clients: m.roles.hasClients(index), Targets: m.roles.targets, Publishers: m.roles.publishers,
		Consumers: m.roles.consumers(index), Kafka: m.kafka(), Stop: m.c.Stop,
	}
	for i := range m.events {
		o.Events = append(o.Events, inheritedFile+1+i)
	}
	return o
}
