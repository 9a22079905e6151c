// Package deflate compresses messages for all shards. Append compresses in the caller's goroutine. Post runs a job in a
// bounded pool of workers, for messages whose compression would take too long in a shard's loop.
//
// Thread rule: every method may be called from any goroutine.
//
// The package knows nothing of frames and connections; the shards decide what is compressed, and for whom. It keeps no
// state from one message to the next.
package deflate
