package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/panjf2000/ants/v2"
	"golang.org/x/sys/unix"

	"wsd/internal/wire"
	"wsd/loadtest/baseline/bus"
	"wsd/loadtest/baseline/cpu"
	"wsd/loadtest/baseline/intake"
	"wsd/loadtest/baseline/shm"
)

// Options is what a shard needs. The main process passes it as JSON.
type Options struct {
	Index          int           // Number of the shard.
	Shards         int           // Number of shards.
	Dir            string        // Directory of sockets.
	Listen         string        // Address for clients or the balancer, with TCP.
	Unix           bool          // Whether to listen on a unix socket instead (Opt 7).
	ConnectionsMax int           // Highest number of clients.
	Queue          int           // Messages that may wait for a client.
	PingInterval   time.Duration // Between two pings.
	CPUMax         float64       // Percent of the quota above which connections are refused.
	CgroupDir      string        // See cpu.NewMeter.

	Central  bool // Opt 1.
	Sampled  bool // Opt 2.
	Pool     bool // Opt 8.
	BusBatch bool // Opt 4.
	Routed   bool // Opt 6.
	Ring     bool // Opt 10.

	Clients    bool              // Whether the shard has clients; false for a Kafka shard (Opt 9).
	Targets    uint64            // Shards that have clients, a bit each.
	Publishers []int             // Processes that publish.
	Consumers  int               // Kafka consumers in this shard.
	Kafka      intake.Options    // Without Stat and Log.
	Stop       time.Duration     // How long stopping may take.
	Events     []int             // Descriptors of the eventfds of the shards, with Ring.
	File       *os.File          `json:"-"` // Of the shared memory.
	Log        *slog.Logger      `json:"-"`
	Ready      func(addr string) `json:"-"` // Called once with the address that the shard listens on.
}

// Shard is a running shard.
type Shard struct {
	o        Options
	board    *shm.Board
	stat     *shm.Slot
	hub      *hub
	gate     *cpu.Gate
	pool     *ants.Pool // nil without Opt 8.
	listener net.Listener
	running  sync.WaitGroup // Connections.

	mu      sync.Mutex
	waiting map[net.Conn]struct{} // Connections whose upgrade is not answered yet; nil once the shard stops.
}

// ClientPath returns the unix socket on which a shard takes connections of the balancer.
func ClientPath(dir string, shard int) string {
	return filepath.Join(dir, fmt.Sprintf("shard-%d.sock", shard))
}

// Run runs a shard until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	board, err := shm.Open(o.File, o.Shards)
	if err != nil {
		return err
	}
	s := &Shard{o: o, board: board, stat: board.Slot(o.Index), hub: newHub(board, o.Index, o.Routed),
		waiting: map[net.Conn]struct{}{}}
	s.stat.PID.Store(int64(os.Getpid()))
	if err := s.prepare(); err != nil {
		return err
	}
	profiles, err := s.serveProfiles()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, profiles.Close()) }()
	var receiver *bus.Receiver
	if o.Clients {
		if o.Ring {
			receiver, err = bus.Attach(board, o.Index, o.Publishers, o.Events[o.Index], s.hub.deliver, o.Log)
		} else {
			receiver, err = bus.Listen(board, o.Dir, o.Index, s.hub.deliver, o.Log)
		}
		if err != nil {
			return err
		}
		defer receiver.Close()
	}
	if o.Consumers > 0 {
		s.stat.Publishes.Store(1)
	}
	s.stat.State.Store(shm.Listening)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var background sync.WaitGroup
	background.Go(func() { Report(ctx, s.stat) })
	if o.Consumers > 0 {
		background.Go(func() {
			if err := s.consume(ctx); err != nil {
				fail(err) // The main process starts the shard again.
			}
		})
	}
	if o.Clients {
		background.Go(func() { s.becomeReady(ctx, receiver) })
		background.Go(s.accept)
		o.Ready(s.listener.Addr().String())
	} else {
		s.stat.State.Store(shm.Ready)
		o.Ready("")
	}
	<-ctx.Done()
	s.stop()
	background.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// prepare opens what the shard needs before others see it.
func (s *Shard) prepare() (err error) {
	o := &s.o
	if !o.Clients {
		return nil
	}
	if o.Central {
		s.gate = cpu.Central(s.board, s.stat)
	} else {
		meter, ok, err := cpu.NewMeter(o.CgroupDir, s.stat)
		if err != nil {
			return err
		}
		if !ok {
			meter = nil
		}
		s.gate = cpu.NewGate(meter, o.CPUMax, o.Sampled, s.stat)
	}
	if o.Pool {
		// Two jobs for each client, so that Submit never waits.
		if s.pool, err = ants.NewPool(2*o.ConnectionsMax + 64); err != nil {
			return fmt.Errorf("create the pool: %w", err)
		}
	}
	network, address := "tcp", o.Listen
	if o.Unix {
		network, address = "unix", ClientPath(o.Dir, o.Index)
		if err := removeSocket(address); err != nil {
			return err
		}
	}
	// No keepalive: pings find dead clients, and its options cost three system calls a connection.
	config := net.ListenConfig{KeepAlive: -1}
	s.listener, err = config.Listen(context.Background(), network, address)
	return err
}

// removeSocket removes the socket of an earlier process of this shard.
func removeSocket(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an old socket: %w", err)
	}
	return nil
}

// becomeReady lets clients in once every publisher reaches this shard.
func (s *Shard) becomeReady(ctx context.Context, receiver *bus.Receiver) {
	for !receiver.Reached() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.stat.State.Store(shm.Ready)
}

func (s *Shard) accept() {
	for {
		conn, err := s.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.o.Log.Warn("accept a connection", "error", err)
			time.Sleep(50 * time.Millisecond) // Such as without descriptors: those of others will end.
			continue
		}
		if s.pool == nil {
			s.running.Go(func() { s.serve(conn) })
			continue
		}
		s.running.Add(1)
		if s.pool.Submit(func() { defer s.running.Done(); s.serve(conn) }) != nil {
			s.running.Done()
			_ = conn.Close()
		}
	}
}

// consume reads Kafka and publishes, once all shards can be reached.
func (s *Shard) consume(ctx context.Context) error {
	sender := bus.NewSender(s.senderOptions())
	defer sender.Close()
	if err := sender.WaitConnected(ctx); err != nil {
		return nil // The shard stops.
	}
	k := s.o.Kafka
	k.Stat, k.Log = s.stat, s.o.Log
	return intake.Run(ctx, k, s.o.Consumers, sender, s.o.Stop)
}

func (s *Shard) senderOptions() bus.SenderOptions {
	o := bus.SenderOptions{Board: s.board, Self: s.o.Index, Dir: s.o.Dir, Batch: s.o.BusBatch, Routed: s.o.Routed,
		Ring: s.o.Ring, Events: s.o.Events, Targets: s.o.Targets, Log: s.o.Log}
	if s.o.Clients {
		o.Local = s.hub.deliver
	}
	return o
}

// Report publishes a process's goroutines and CPU time, four times a second until ctx ends.
func Report(ctx context.Context, stat *shm.Slot) {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		var u unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // Fails only for arguments that do not exist.
		stat.CPUNanos.Store(u.Utime.Nano() + u.Stime.Nano())
		stat.Goroutines.Store(int64(runtime.NumGoroutine()))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// await notes a connection whose upgrade is to be answered. It returns false when the shard stops.
func (s *Shard) await(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		return false
	}
	s.waiting[conn] = struct{}{}
	return true
}

// answered undoes await.
func (s *Shard) answered(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, conn)
}

// stop closes all clients with 1001 and waits for them.
func (s *Shard) stop() {
	if !s.o.Clients {
		return
	}
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.waiting {
		_ = c.Close()
	}
	s.waiting = nil
	s.mu.Unlock()
	goingAway := wire.AppendClose(nil, uint16(ws.StatusGoingAway), "shutdown")
	for _, c := range s.hub.close() {
		c.queue.put(goingAway)
	}
	deadline := time.Now().Add(s.o.Stop)
	for s.hub.count() > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	for _, c := range s.hub.close() {
		_ = c.conn.Close()
	}
	s.running.Wait()
	if s.pool != nil {
		s.pool.Release()
	}
}
