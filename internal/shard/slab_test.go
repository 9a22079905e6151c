package shard

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A slot whose block is given back again and again has another generation each time, also when generations have begun
// anew from 0: what was asked for by an earlier connection must not reach a later one.
func TestGenerationsBeginAnew(t *testing.T) {
	var s slab
	s.generation = generationMax - 1
	seen := map[connRef]bool{}
	for range 8 {
		var list []*conn
		for range 4 * blockSlots {
			c := s.take()
			c.state = stateHead
			list = append(list, c)
			ref := connRef{c.slot, c.generation}
			require.False(t, seen[ref], "%v came twice", ref)
			seen[ref] = true
			require.LessOrEqual(t, c.generation, uint32(generationMax))
		}
		for _, c := range list {
			s.put(c)
		}
		require.Equal(t, 1, s.made, "blocks are given back")
	}
}
