package recovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/source"
)

// A block of aborted transactions only has no bytes, and is forgotten like any other: the clock goes on for it.
func TestPastWithoutBytes(t *testing.T) {
	r := newRig(t, 1, 0, nil)
	r.past.add(stream{}, source.Block{From: 0, To: 10}, time.Now().Add(10*clockInterval-pastIdle))
	r.startClock()
	_, streams := r.past.size()
	require.Equal(t, 1, streams)
	r.eventually("forgotten", func() bool { _, streams := r.past.size(); return streams == 0 })
}

// A client that goes through a large log alone pushes out its own blocks, and not those that others share.
func TestPastKeepsSharedBlocks(t *testing.T) {
	const blocks = 8
	var p past
	p.init(blocks*pastOverhead, 1<<20)
	now := time.Now()
	read := func(from int64, by ...uint64) (kept bool) {
		if _, kept = p.find(stream{}, from); !kept {
			p.add(stream{}, source.Block{From: from, To: from + 10}, now)
		}
		for _, owner := range by {
			p.used(stream{}, from, &owners{some: true, first: owner}, now)
		}
		return kept
	}
	for from := int64(0); from < 40; from += 10 {
		read(from, 1, 2)
	}
	for from := int64(1000); from < 2000; from += 10 {
		require.False(t, read(from, 3))
		require.True(t, read(from, 3), "kept for its next portion")
	}
	for from := int64(0); from < 40; from += 10 {
		require.True(t, read(from, 4), from)
	}
	// If many are shared, the others still have room.
	for from := int64(3000); from < 3200; from += 10 {
		read(from, 1, 2)
	}
	require.LessOrEqual(t, p.bytes[1], blocks*pastOverhead/4*pastShared)
	read(0, 5)
	require.True(t, read(0, 5))
	bytes, _ := p.size()
	require.LessOrEqual(t, bytes, blocks*pastOverhead)
}

// Blocks are read in one grid and do not overlap. They are the smaller the larger records are.
func TestPastGap(t *testing.T) {
	var p past
	p.init(1<<30, 1<<20)
	gap := func(offset, position int64) [2]int64 {
		from, to, _ := p.gap(stream{}, offset, position)
		return [2]int64{from, to}
	}
	require.Equal(t, [2]int64{0, blockOffsets}, gap(5, 1<<20))
	require.Equal(t, [2]int64{4864, 5000}, gap(4999, 5000), "what is not routed is not read")
	p.add(stream{}, source.Block{From: 4096, To: 4100}, time.Now())
	require.Equal(t, [2]int64{0, 4096}, gap(5, 1<<20), "a block without bytes says that records are small")
	require.Equal(t, [2]int64{4100, blockOffsetsMax}, gap(5000, 1<<20))
}
