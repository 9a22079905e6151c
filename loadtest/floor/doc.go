// Package floor drives the yardstick: a server in C (floor.c) that does the least for the same wire work as wsd, so
// that what it costs is what the kernel costs. See docs/loadtest.md.
//
// Thread rule: a Floor and a Feed belong to one goroutine, except Sent, which any may call.
//
// It does not start the process: it is given its standard input and output. The C files are compiled by make and not by
// go build, which their first lines tell.
package floor
