// Package doctor looks at the machine wsd is to run on and says what is
// missing, with the command that puts it right.
//
// It reads files below /proc and /sys and makes two harmless system calls: it
// asks what file system the pin directory is on, and it loads a program of two
// instructions that is never attached and is gone when the call returns.
//
// Threads: Run keeps no state and may be called from any goroutine; a Report
// belongs to its caller.
//
// It changes nothing, opens no socket, and does not talk to a running wsd:
// what a running one has found is in its /health.
package doctor
