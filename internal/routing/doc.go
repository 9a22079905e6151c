// Package routing holds the identities of shards, channels and connections, and the table of which shards have subscribers of
// which channel.
//
// Thread rule: ids and ShardSet are plain values. Interest may be used by any goroutine; shards write it, the router reads it.
//
// It does not know how a record finds its channel (source) nor who is subscribed (shard).
package routing
