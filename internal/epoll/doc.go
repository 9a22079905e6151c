// Package epoll makes the system calls of a shard's event loop, and nothing else does: epoll, accept, read, write, writev and
// close.
//
// Every call here is non-blocking and therefore raw: it does not tell the Go scheduler that a system call begins, which saves
// 30–60 % of a small write (design.md §1). Only Poller.Wait may stop the goroutine, and it does so parked in Go's own poller,
// so that a waiting shard holds no thread.
//
// Thread rule: a Poller belongs to one goroutine, except Wake, which any goroutine may call.
package epoll
