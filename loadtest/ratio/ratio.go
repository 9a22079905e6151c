// Package ratio is the result of a comparison: medians with their spread, and the ratios of what was measured side by
// side.
//
// Thread rule: values without methods that change them; any goroutine may use them.
//
// It measures nothing and judges nothing.
package ratio

import (
	"math"
	"slices"
)

// Summary is the middle and the spread of some values.
type Summary struct {
	Count  int     `json:"count"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Q1     float64 `json:"q1"` // A quarter is at most this.
	Q3     float64 `json:"q3"` // A quarter is at least this.
	Max    float64 `json:"max"`
}

// Of summarises values; none give the zero Summary. Quantiles between two values are interpolated.
func Of(values []float64) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	v := slices.Sorted(slices.Values(values))
	return Summary{Count: len(v), Median: quantile(v, 0.5), Min: v[0], Q1: quantile(v, 0.25), Q3: quantile(v, 0.75),
		Max: v[len(v)-1]}
}

// quantile is the value below which the share q of the sorted values is.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	if below+1 >= len(sorted) {
		return sorted[below]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// Pairs divides each round's value by the yardstick's of the same round, where both are known and the yardstick's is
// above 0.
func Pairs(values, yardstick map[int]float64) []float64 {
	var list []float64
	for round, v := range values {
		if y := yardstick[round]; y > 0 {
			list = append(list, v/y)
		}
	}
	return list
}

// Values are those of all rounds.
func Values(rounds map[int]float64) []float64 {
	list := make([]float64, 0, len(rounds))
	for _, v := range rounds {
		list = append(list, v)
	}
	return list
}
