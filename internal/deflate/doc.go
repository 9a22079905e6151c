// Package deflate compresses messages for all shards: Append at once, in the
// caller's goroutine, and Post by a bounded pool of workers, for what would hold
// up a loop.
//
// Threads: every method may be called from any goroutine.
//
// It knows nothing of frames and connections: what is compressed, and for whom,
// the shards decide. It keeps nothing from one message to the next.
package deflate
