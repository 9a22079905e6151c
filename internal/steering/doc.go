// Package steering makes the kernel choose the shard of each new connection: it
// loads the program of bpf/steer.c, gives it the listeners, attaches it to their
// SO_REUSEPORT groups, and owns its maps and their pins.
//
// Start and Close belong to the goroutine that starts and stops the server. A
// shard's goroutine writes its Slot by atomic stores into mapped memory; any
// goroutine may read slots, counters and status. Correct belongs to one
// goroutine.
//
// Where the program cannot be loaded, the kernel's hash of addresses and ports
// chooses, and everything here still works, with figures that stay 0. Connections
// that come between listening and Start go by the hash too: a socket can enter
// the program's map only when it listens.
//
// Pins live in <PinDir>/<Port>/. A process holds a lock (flock) on that directory
// as long as it lives, which tells others whether the pins are in use: a pid
// would not, since two containers that share a bpffs both have their pid 1.
//
// The package does not open sockets, does not accept, and does not decide when to
// drain or refuse.
package steering
