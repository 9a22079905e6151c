// Package child starts processes on chosen CPUs, reads what they say, and ends them.
//
// Thread rule: a Process belongs to one goroutine, but for Terminate. Nothing else in this process may set the affinity of threads.
//
// It ends a process by its number and waits for it, and never looks for one by name. When the process that started them dies without
// stopping them, the kernel sends them SIGTERM.
package child
