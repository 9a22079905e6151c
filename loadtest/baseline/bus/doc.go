// Package bus is the broadcast bus of the baseline: the process that read a record from Kafka sends it to the shards.
//
// By default each message is a write to the unix socket of every shard. Batched (Opt 4), up to ten messages or ten
// milliseconds share a write. Routed (Opt 6), shards without a subscriber of the channel's bucket are left out. With
// the ring (Opt 10), a message is written once, into shared memory, and shards that sleep are woken by an eventfd.
//
// Thread rule: Publish may be called from any goroutine. A Receiver calls its deliver function from several goroutines
// with sockets, from one with rings.
//
// A shard that does not read stops the publisher, which stops reading from Kafka: nothing is dropped. The main process
// takes a shard that has ended out of the ring; a socket ends with it.
package bus
