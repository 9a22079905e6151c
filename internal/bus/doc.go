// Package bus carries records from the one reader to all shards: a ring of sealed, immutable batches with one writer and a cursor
// a shard.
//
// Thread rule: Builder and Ring.Publish belong to the writer's goroutine (or to whoever holds the writer's lock); a Cursor's Next,
// Advance and Reattach belong to its shard's goroutine; Segment.Layout may be called by any shard; what reports figures (Head, Lag,
// Stats) may be called by any goroutine.
//
// Three rules keep it small. A batch in the ring is never changed. A slot is used again only when every attached cursor is past it.
// A shard that has no subscriber of a batch never needs to look at it: whoever comes by, shard or writer, moves its cursor on.
//
// It knows nothing of Kafka and nothing of sockets. How a segment looks on the wire is the shard's business: the bus only sees to
// it that each layout is built once.
package bus
