// Package steering makes the kernel choose the shard of each new connection. It loads the program of bpf/steer.c, gives
// it the listeners, attaches it to their SO_REUSEPORT groups, and owns its maps and their pins.
//
// Thread rule: New, Attach, Add, Publish and Close belong to the goroutine that starts and stops the server, and are
// called in this order, so that the program is in place before the first socket listens. The goroutine of a shard
// writes its Slot, with atomics in mapped memory. Any goroutine may read slots, outcomes, settings and status, and may
// change settings. Reconcile and Watch belong to one goroutine.
//
// Where the program cannot be loaded, the kernel's hash of addresses and ports chooses, and everything here still
// works: loads then are what shards accepted and closed, outcomes stay 0, and settings cannot be changed.
//
// Pins are in <PinDir>/<Port>/. The process holds a lock on that directory for as long as it lives (see package
// dirlock), so that other processes know whether the pins are in use.
//
// The package does not open sockets, does not accept, and does not decide when to drain a shard or refuse connections.
// Operators decide that.
package steering
