// Package routing holds the identities of shards, channels and connections, and the table of which shards have
// subscribers of which channel.
//
// Threads: ids and ShardSet are plain values. Any goroutine may use Interest; shards write it and the router reads it.
//
// It does not know how a record finds its channel (route, source), nor who is subscribed (shard).
package routing
