package ratio

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   Summary
	}{
		{nil, Summary{}},
		{[]float64{7}, Summary{Count: 1, Median: 7, Min: 7, Q1: 7, Q3: 7, Max: 7}},
		{[]float64{3, 1}, Summary{Count: 2, Median: 2, Min: 1, Q1: 1.5, Q3: 2.5, Max: 3}},
		{[]float64{5, 1, 4, 2, 3}, Summary{Count: 5, Median: 3, Min: 1, Q1: 2, Q3: 4, Max: 5}},
		{[]float64{9, 1, 8, 2, 7, 3, 6, 4, 5}, Summary{Count: 9, Median: 5, Min: 1, Q1: 3, Q3: 7, Max: 9}},
		{[]float64{1, 2, 3, 4}, Summary{Count: 4, Median: 2.5, Min: 1, Q1: 1.75, Q3: 3.25, Max: 4}},
		{[]float64{-1, 1}, Summary{Count: 2, Median: 0, Min: -1, Q1: -0.5, Q3: 0.5, Max: 1}},
	} {
		before := slices.Clone(tc.values)
		require.Equal(t, tc.want, Of(tc.values), "%v", tc.values)
		require.Equal(t, before, tc.values, "they are left as they were")
	}
}

// A ratio is one of the same round; a round that one of both lacks has none.
func TestPairs(t *testing.T) {
	got := Pairs(map[int]float64{0: 2, 1: 9, 2: 5, 3: 4}, map[int]float64{0: 1, 1: 3, 3: 0, 4: 7})
	slices.Sort(got)
	require.Equal(t, []float64{2, 3}, got)
	require.Empty(t, Pairs(nil, map[int]float64{1: 1}))
	require.ElementsMatch(t, []float64{1, 2}, Values(map[int]float64{4: 1, 9: 2}))
}

func TestText(t *testing.T) {
	r := Report{
		Interrupted: true, Setup: []Fact{{"clients", "5"}}, Notes: []string{"a note"}, Faults: []string{"a fault"},
		Rows: []Row{
			{Case: "single", Figure: "CPU per delivery", Unit: "µs", Shards: 1, Floor: Of([]float64{5.678}), WSD: Of([]float64{56.78}),
				Ratio: Of([]float64{1, 1.2, 1.4}), Target: "≤ 1.15"},
			{Case: "single", Figure: "CPU per delivery", Unit: "µs", Shards: 64, Floor: Of([]float64{5.678}), WSD: Of([]float64{567.8})},
		},
	}
	var b strings.Builder
	require.NoError(t, r.WriteText(&b))
	require.Equal(t, `clients  5

case    figure            unit  shards  floor  wsd   ratio  quartiles  min–max    rounds  target
single  CPU per delivery  µs    1       5.68   56.8  1.20   1.10–1.30  1.00–1.40  1       ≤ 1.15
                                64      5.68   568   -      -          -          1       

note: a note
incomplete: a fault
interrupted: the figures are those up to then
`, b.String())
}

func TestJSON(t *testing.T) {
	r := Report{Passed: true, Rows: []Row{{Case: "1k", Shards: 2, Ratio: Of([]float64{1.5})}}}
	var b bytes.Buffer
	require.NoError(t, r.WriteJSON(&b))
	var got Report
	require.NoError(t, json.Unmarshal(b.Bytes(), &got))
	require.Equal(t, r, got)
}
