package client

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOrder(t *testing.T) {
	for _, tc := range []struct {
		name     string
		produced uint64 // When the client was subscribed.
		seqs     []uint64
		last     uint64
		want     Counters // Deliveries aside.
		behind   uint64
	}{
		{name: "all", seqs: []uint64{1, 2, 3}, last: 3},
		{name: "nothing produced"},
		{name: "nothing came", last: 3, behind: 3},
		{name: "the end is missing", seqs: []uint64{1}, last: 3, behind: 2},
		{name: "the beginning is missing", seqs: []uint64{3}, last: 3, want: Counters{Gaps: 1, Lost: 2}},
		{name: "one gap", seqs: []uint64{1, 3, 4}, last: 4, want: Counters{Gaps: 1, Lost: 1}},
		{name: "two gaps", seqs: []uint64{1, 3, 7}, last: 7, want: Counters{Gaps: 2, Lost: 4}},
		{name: "twice", seqs: []uint64{1, 1, 2}, last: 2, want: Counters{Duplicates: 1}},
		{name: "again later", seqs: []uint64{1, 2, 3, 1}, last: 3, want: Counters{Duplicates: 1}},
		{name: "swapped", seqs: []uint64{2, 1, 3}, last: 3, want: Counters{Gaps: 1, Reordered: 1}},
		{name: "late twice", seqs: []uint64{2, 1, 1}, last: 2, want: Counters{Gaps: 1, Reordered: 1, Duplicates: 1}},
		{name: "out of the middle", seqs: []uint64{1, 6, 4, 3, 5, 2}, last: 6, want: Counters{Gaps: 1, Reordered: 4}},
		{name: "middle of a gap only", seqs: []uint64{1, 5, 3, 3}, last: 5, want: Counters{Gaps: 1, Lost: 2, Reordered: 1, Duplicates: 1}},
		{name: "subscribed later", produced: 10, seqs: []uint64{11, 12}, last: 12},
		{name: "under way while subscribing", produced: 10, seqs: []uint64{9, 10, 11}, last: 11},
		{name: "gap after what was under way", produced: 10, seqs: []uint64{9, 11}, last: 11, want: Counters{Gaps: 1, Lost: 1}},
		{name: "first after subscribing lost", produced: 10, seqs: []uint64{12}, last: 12, want: Counters{Gaps: 1, Lost: 1}},
		{name: "nothing after subscribing", produced: 10, last: 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var o order
			var n Counters
			lost := missing{}
			o.begin(tc.produced)
			for _, seq := range tc.seqs {
				o.take(3, seq, lost, &n)
			}
			tc.want.Deliveries = int64(len(tc.seqs))
			require.Equal(t, tc.want, n)
			require.Equal(t, tc.behind, o.behind(tc.last))
			require.Equal(t, n.Lost > 0, len(lost) > 0, "what is not missing any more is forgotten")
		})
	}
}

func TestReasonsAreBounded(t *testing.T) {
	var m map[string]int64
	for i := range 10 * reasonsMax {
		count(&m, string(rune('a'+i)))
	}
	require.Len(t, m, reasonsMax+1)
	require.Equal(t, int64(9*reasonsMax), m["other"])
}

func TestBackoff(t *testing.T) {
	require.Equal(t, int64(50), backoff(0, 0).Milliseconds())
	require.Equal(t, int64(6400), backoff(200, 1).Milliseconds())
}
