package bus

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"wsd/internal/routing"
)

// What a batch costs the source, with every shard interested and reading, or with one of them. The first grows with the
// number of shards by a wake-up each, the second by the writer's moving of every other shard's cursor past the batch,
// once the ring is full.
func BenchmarkPublish(b *testing.B) {
	for _, interested := range []string{"all", "one"} {
		for _, shards := range []int{1, 8, 64, 256} {
			b.Run(fmt.Sprintf("interested=%s/shards=%d", interested, shards), func(b *testing.B) {
				wake := newWaker(shards)
				r := newRing(b, Options{Shards: shards, Slots: 1024, Wake: wake.wake})
				stop := make(chan struct{})
				var running sync.WaitGroup
				for id := range routing.ShardID(shards) {
					running.Go(func() {
						c := r.Cursor(id)
						for {
							if _, state := c.Next(); state == StateReady {
								c.Advance()
								continue
							}
							select {
							case <-wake[id]:
							case <-stop:
								return
							}
						}
					})
				}
				ch := routing.Channel{ID: 1, Name: "a"}
				for id := range routing.ShardID(shards) {
					if interested == "all" || id == routing.ShardID(shards)/2 {
						ch.Shards.Add(id)
					}
				}
				builder := NewBuilder(BuilderOptions{RecordsMax: 1, BytesMax: 1 << 20})
				value, now := make([]byte, 100), time.Now()
				for b.Loop() {
					builder.Add(ch, Record{Value: value}, now)
					if err := r.Publish(b.Context(), builder.Seal()); err != nil {
						b.Fatal(err)
					}
				}
				close(stop)
				running.Wait()
			})
		}
	}
}

// A record of 100 bytes put into a batch of 512: all of one channel, or each of its own.
func BenchmarkAdd(b *testing.B) {
	for _, channels := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("channels=%d", channels), func(b *testing.B) {
			builder := NewBuilder(BuilderOptions{RecordsMax: 512, BytesMax: 1 << 20})
			value, now := make([]byte, 100), time.Now()
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				ch := routing.Channel{ID: routing.ChannelID(1 + n%channels), Name: "a"}
				ch.Shards.Add(0)
				if builder.Add(ch, Record{Value: value, JSON: value}, now) {
					builder.Seal()
				}
			}
		})
	}
}
