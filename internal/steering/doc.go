// Package steering makes the kernel choose the shard of each new connection: it
// loads the program of bpf/steer.c, gives it the listeners, attaches it to their
// SO_REUSEPORT groups, and owns its maps and their pins.
//
// New, Attach, Add, Publish and Close belong to the goroutine that starts and stops
// the server, in this order: the program is in place before the first socket
// listens. A shard's goroutine writes its Slot by atomics in mapped memory; any
// goroutine may read slots, outcomes, settings and status, and change settings.
// Reconcile and Watch belong to one goroutine.
//
// Where the program cannot be loaded, the kernel's hash of addresses and ports
// chooses, and everything here still works: loads are then what shards accepted and
// closed, outcomes stay 0, and settings cannot be set.
//
// Pins live in <PinDir>/<Port>/. A process holds a lock (flock) on that directory
// as long as it lives, which tells others whether the pins are in use: a pid
// would not, since two containers that share a bpffs both have their pid 1.
//
// The package does not open sockets, does not accept, and does not decide when to
// drain or refuse: operators do, and later wsd's admission.
package steering
