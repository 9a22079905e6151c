// Package epoll makes all system calls of a shard's event loop: epoll, accept, read, write, writev and close.
//
// The calls are non-blocking and raw: they do not notify the Go scheduler, which saves 30–60 % of the cost of a small
// write. Only Poller.Wait may stop the goroutine. It parks it in Go's own poller, so that a waiting shard holds no
// thread.
//
// Thread rule: a Poller belongs to one goroutine, except for Wake, which any goroutine may call. Functions may be
// called from any goroutine.
package epoll
