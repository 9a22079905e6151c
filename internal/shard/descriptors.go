package shard

import (
	"errors"
	"sync/atomic"
)

// Descriptors counts the connections of all shards of a process, so that they leave some descriptors for everything
// else: the admin port, Kafka, files. Any goroutine may use it; Max is fixed before the first shard starts.
type Descriptors struct {
	Max  int64 // Connections that the process may have.
	open atomic.Int64
}

// full reports whether there is no room for another connection. Shards that ask at the same moment may go over by one
// each.
func (d *Descriptors) full() bool { return d.open.Load() >= d.Max }

// Left returns how many more connections the process may have.
func (d *Descriptors) Left() int64 { return max(0, d.Max-d.open.Load()) }

var errDescriptorsKept = errors.New("the remaining file descriptors are reserved for wsd itself")
