package routing

import (
	"iter"
	"math/bits"
)

// ShardSet is a set of shards below ShardsMax. The zero value is empty, and a copy is independent.
type ShardSet [ShardsMax / 64]uint64

// Add adds id to the set.
func (s *ShardSet) Add(id ShardID) { s[id/64] |= 1 << (id % 64) }

// Remove removes id from the set.
func (s *ShardSet) Remove(id ShardID) { s[id/64] &^= 1 << (id % 64) }

// Has reports whether id is in the set.
func (s *ShardSet) Has(id ShardID) bool { return s[id/64]>>(id%64)&1 != 0 }

// Union adds every shard in other.
func (s *ShardSet) Union(other *ShardSet) {
	for i, word := range other {
		s[i] |= word
	}
}

// Empty reports whether the set has no shards.
func (s *ShardSet) Empty() bool { return *s == ShardSet{} }

// Len counts the shards in the set.
func (s *ShardSet) Len() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// All yields the shards in ascending order.
func (s *ShardSet) All() iter.Seq[ShardID] {
	return func(yield func(ShardID) bool) {
		for i, word := range s {
			for ; word != 0; word &= word - 1 {
				if !yield(ShardID(i*64 + bits.TrailingZeros64(word))) { //nolint:gosec // Below ShardsMax.
					return
				}
			}
		}
	}
}
