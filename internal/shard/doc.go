// Package shard is the event loop: one goroutine that alone owns its listeners, its connections, its channel→subscribers table
// and its timers, from accept to write.
//
// Thread rule: everything of a Shard belongs to its own goroutine, except Stats, whose fields are atomics, and the methods
// whose name starts with Post, which any goroutine may call. There is no lock, and no goroutine, buffer or timer for an idle
// connection.
//
// A turn of the loop has five parts, each with a budget so that none starves the others: ready sockets (accept, read, write),
// requests from other goroutines, batches from the bus, the flush of connections that have something to send, timers.
//
// The package knows nothing of Kafka, of steering or of metrics: it reads batches at a bus cursor, reports its load through a
// LoadReporter and counts in Stats.
package shard
