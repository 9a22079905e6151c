package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"wsd/loadtest/serverstat"
)

// meter reads the resources that the server, the kernel and this process use.
type meter struct {
	proc serverstat.Proc
	pid  int    // Process id of the server; 0: unknown.
	note string // Why pid is unknown.
}

// sample is one reading.
type sample struct {
	server  serverstat.Usage // Resources of the server.
	present bool             // Whether server is set.
	tcp     int64            // TCP memory of the machine, in bytes.
	slab    int64            // Slab memory of the machine, in bytes.
	kernel  bool             // Whether tcp and slab are set.
	ownCPU  time.Duration    // CPU time of this process.
}

func (m *meter) read() (s sample) {
	if m.pid != 0 {
		u, err := m.proc.Process(m.pid)
		if s.server, s.present = u, err == nil; err != nil {
			m.pid, m.note = 0, err.Error()
		}
	}
	tcp, err := m.proc.TCPBytes()
	slab, slabErr := m.proc.SlabBytes()
	s.tcp, s.slab, s.kernel = tcp, slab, err == nil && slabErr == nil
	var usage unix.Rusage
	// Fails only for arguments that do not exist.
	_ = unix.Getrusage(unix.RUSAGE_SELF, &usage)
	s.ownCPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return s
}

// readShards reads how the clients are distributed over the shards.
func (t *test) readShards(ctx context.Context) {
	if t.health == nil {
		return
	}
	h, err := serverstat.ReadHealth(context.WithoutCancel(ctx), t.Admin)
	if err != nil {
		_, _ = fmt.Fprintf(t.log, "%v\n", err)
		t.health = nil
		return
	}
	t.health = &h
}
