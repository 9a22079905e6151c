// Package throttle keeps problems that repeat from filling the log.
//
// It knows nothing of what is logged, and what it counts decides nothing else.
//
// Threads: any goroutine may use a Log.
package throttle
