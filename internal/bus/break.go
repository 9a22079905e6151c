package bus

import "wsd/internal/routing"

// Break says that the streams of some channels do not go on where they were: messages were lost, or another stream takes their
// place. Subscribers of those channels are to come back. It stands in the ring like a batch, so a shard meets it after everything that was
// published before it and before everything that comes after.
type Break struct {
	Channel string                 // The one channel concerned. Empty: those that Match says.
	Match   func(name string) bool // Any shard's goroutine calls it, several at a time.
}

// Concerns reports whether the channel's stream is broken. Any goroutine.
func (b *Break) Concerns(channel string) bool {
	if b.Match == nil {
		return channel == b.Channel
	}
	return b.Match(channel)
}

// NewBreak returns a batch to publish that holds br and nothing else, for the shards that have a subscriber of a channel concerned.
func NewBreak(br Break, shards routing.ShardSet) *Batch {
	return &Batch{Break: &br, Shards: shards, memory: batchSize}
}
