// Package shard is the event loop: one goroutine that alone owns its listeners, its connections, its table of
// channels and subscribers, and its timers, from accept to write.
//
// Thread rule: everything of a Shard belongs to its own goroutine, except Stats, whose fields are atomics, and the
// methods whose names start with Post, which any goroutine may call. There is no lock, and no goroutine, buffer or
// timer for an idle connection.
//
// A turn of the loop (loop.go) does, in this order, each part within a budget so that none starves the others:
//
//  1. ready sockets: write what was blocked, accept, read, act on frames and commands;
//  2. the inbox: signals and completions from other goroutines;
//  3. timers: pings, deadlines;
//  4. the bus: gather batches unless the brake holds, and deliver their segments;
//  5. those that were recalled: notify some;
//  6. those that failed in this turn: end them, at this one place;
//  7. the flush of connections that have something to send;
//  8. counts: what the turn did becomes visible, and its slots free.
//
// To read the package, begin with Shard (shard.go) and the turn (loop.go), then follow a connection in: accept.go,
// handshake.go, read.go, client.go, channels.go; and a record out: gather.go, deliver.go, dialect.go, outbox.go,
// outlet.go, sender.go, flush.go, transport.go; and its end: close.go. The rest are features that hang on to these:
// pace.go and ahead.go for backlogs, holds.go for memory, deflate.go for compression, conflate.go and resync.go for
// slow clients, recover.go, stream.go, flow.go, history.go and completions.go for what is read again, recall.go for
// losses.
//
// The package knows nothing of Kafka, of steering or of metrics: it reads batches at a bus cursor, reports its load
// through a LoadReporter and counts in Stats. No count decides anything.
package shard
