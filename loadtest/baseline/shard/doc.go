// Package shard is a shard process of the baseline: it holds WebSocket clients, each of one channel, and delivers the
// messages of the bus to them.
//
// A client has a goroutine that reads and one that writes, with a channel of messages between the hub and the latter.
// With the pool (Opt 8) both are jobs of an ants pool, and the writing one runs only while there is something to write.
//
// Thread rule: the hub's lock guards the subscriptions and is held while messages are queued. Queueing never blocks: a
// client whose queue is full is closed.
package shard
