// Package bus carries records from the one reader of Kafka to all shards. It is a ring of sealed, immutable batches
// with one writer and one cursor for each shard.
//
// # Threads
//
// Builder and Ring.Publish belong to the writer: one goroutine, or whoever holds the writer's lock. Next, Peek, Advance
// and Reattach of a Cursor belong to its shard's goroutine. Segment.Layout, Await and Provide, and everything that
// reports figures (Head, Lag, Stats), may be called by any goroutine.
//
// # Rules
//
// Nobody changes a batch that is in the ring. The writer uses a slot again only when every attached cursor is past it.
// A shard without a subscriber of a batch never needs to look at it: whichever of the shard and the writer comes by
// first moves the cursor on.
//
// # Not its job
//
// The bus knows neither Kafka nor sockets. How a segment looks on the wire is the shard's business; the bus only makes
// sure that each layout is built once.
//
// # Reading path
//
// batch.go has what the bus carries. builder.go makes a batch. ring.go publishes it and waits for the slowest shard.
// cursor.go is how a shard reads. hold.go counts the memory of batches that the ring has released but clients still
// wait for. break.go and query.go are what source, recovery and shards say to each other.
package bus
