package bus

import "wsd/internal/routing"

// Break says that the streams of some channels do not continue where they were: records were lost, another stream takes
// their place, or there was none so far. Subscribers of those channels must come back. A break stands in the ring like
// a batch, so a shard meets it after everything that was published before it and before everything that was published
// after it.
type Break struct {
	Channel string // The one channel concerned. If it is empty, Match decides.
	// Reports whether a channel is concerned. Shards call it from several goroutines at the same time.
	Match func(name string) bool
	// The streams begin here, and nothing was lost. Only subscribers that keep a position must come back, to get one.
	Begins bool
}

// Concerns reports whether the channel's stream is broken. Any goroutine may call it.
func (b *Break) Concerns(channel string) bool {
	if b.Match == nil {
		return channel == b.Channel
	}
	return b.Match(channel)
}

// NewBreak returns a batch that holds br and no records, for the shards that have a subscriber of a concerned channel.
func NewBreak(br Break, shards routing.ShardSet) *Batch {
	return &Batch{Break: &br, Shards: shards, memory: batchSize}
}
