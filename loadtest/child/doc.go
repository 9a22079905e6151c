// Package child starts processes on chosen CPUs, reads their output, and stops them.
//
// Thread rule: a Process belongs to one goroutine, except for Terminate, which any goroutine may call. Nothing else in
// this process may set the CPU affinity of threads.
//
// The package stops a process by its pid and waits for it; it never looks for one by name. If this process dies without
// stopping its children, the kernel sends them SIGTERM.
package child
