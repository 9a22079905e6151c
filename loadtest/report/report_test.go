package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
)

func TestTextHasEveryField(t *testing.T) {
	var check func(typ reflect.Type)
	check = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			require.NotEmpty(t, f.Tag.Get("label"), "%s.%s", typ.Name(), f.Name)
			require.NotEmpty(t, f.Tag.Get("json"), "%s.%s", typ.Name(), f.Name)
			at := f.Type
			if at.Kind() == reflect.Pointer {
				at = at.Elem()
			}
			if at.Kind() == reflect.Struct {
				check(at)
			}
		}
	}
	check(reflect.TypeFor[Result]())
}

func result() *Result {
	return &Result{
		Summary: "not passed: something", Run: Run{Scenario: "fanout", RampSeconds: 1.5}, Warnings: []string{"the loops were late"},
		Clients: Clients{Held: 12000, Closes: map[string]int64{"3008 slow": 2, "1006 end": 1}},
		Server:  &Server{CPUMicrosDelivery: 2.345, RSSConnection: NA}, Latency: Distribution(nil),
		Reasons: []string{"2 clients were disconnected", "1 records were lost"}, Rounds: []Round{{What: "storm 1", Result: "back after 1s"}},
		Accounts: []Account{{What: "connections", Server: 1, Min: 2, Max: 2}}, Shards: &Shards{Connections: []int64{3, 4}},
		Series: []Point{{Seconds: 1, Open: 5, P99: 1000, CPU: NA}, {Seconds: 2, Open: 9, P99: NA, CPU: 3}},
	}
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, result().WriteText(&b))
	text := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"not passed: something 2 clients were disconnected 1 records were lost warning: the loops were late",
		"Run scenario fanout", "ramp took 1.50 s", "held 12,000", "disconnected: 1006 end 1 disconnected: 3008 slow 2",
		"CPU per delivery 2.35 µs", "RSS per connection, after the ramp n/a RSS", "p99 n/a p99.9", "storm 1 back after 1s", "connections 1 NOT 2", "connections 3 4",
	} {
		require.Contains(t, text, want)
	}
	require.True(t, strings.HasPrefix(text, "not passed: something"), "the verdict comes first")
	require.NotContains(t, text, "server not measured")
	require.NotContains(t, text, "NaN")
}

// What was not measured is null, and comes back as n/a.
func TestJSON(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, WriteJSON(&b, result()))
	var got Result
	require.NoError(t, json.Unmarshal(b.Bytes(), &got))
	require.False(t, got.Latency.P99.Known())
	require.InDelta(t, 2.345, float64(got.Server.CPUMicrosDelivery), 0)
	require.Contains(t, b.String(), `"p99_us": null`)
}

func TestHTML(t *testing.T) {
	var b bytes.Buffer
	r := result()
	r.Reasons = append(r.Reasons, "<script>")
	require.NoError(t, r.Page().Write(&b))
	for _, want := range []string{"not passed: something", "&lt;script&gt;", `<path d="M320.0 90.0h0L640.0 18.0"`, "CPU per delivery", "<rect", "p99.9"} {
		require.Contains(t, b.String(), want)
	}
	for _, external := range []string{"<script", "src=", "href=", "NaN", "url("} {
		require.NotContains(t, b.String(), external)
	}
	c := Comparison{Yardstick: "floor", Rows: []Ratio{{Case: "single", Server: "wsd", Yardstick: Of([]float64{2}), Value: Of([]float64{3})}}}
	b.Reset()
	require.NoError(t, c.Page().Write(&b))
	require.Contains(t, b.String(), "<td>single</td>")
	require.Regexp(t, `(?s)>floor</text><text [^>]*>2<.*>wsd</text><text [^>]*>3<`, b.String(), "bars have names and values")
	c.Rows[0].Yardstick = Spread{}
	b.Reset()
	require.NoError(t, c.Page().Write(&b))
	require.Regexp(t, `>floor</text><text [^>]*>n/a<`, b.String(), "what was not measured is not 0")
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteErrors(t *testing.T) {
	r := &Result{}
	require.ErrorContains(t, r.WriteText(full{}), "disk full")
	require.ErrorContains(t, WriteJSON(full{}, r), "disk full")
	require.ErrorContains(t, r.Page().Write(full{}), "disk full")
}

func TestGroup(t *testing.T) {
	for in, want := range map[int64]string{0: "0", 1234: "1234", 12345: "12,345", -123456: "-123,456", 1234567890: "1,234,567,890"} {
		require.Equal(t, want, group(in))
	}
	require.Equal(t, "1,234", Group(1234))
}

func TestDistribution(t *testing.T) {
	h := hdrhistogram.New(1, 60_000_000, 3)
	require.False(t, Distribution(h).P50.Known())
	for i := range int64(1000) {
		require.NoError(t, h.RecordValue(i+1))
	}
	require.Equal(t, Micros{Count: 1000, P50: 500, P90: 900, P99: 990, P999: 999, Max: 1000}, Distribution(h))
}

// No figure is printed below its resolution.
func TestPer(t *testing.T) {
	require.Equal(t, Figure(2.5), Per(5, 1, 2))
	require.False(t, Per(5, 1, 0).Known())
	require.False(t, Per(-999, 1, 2).Known())
	require.False(t, Per(4, 5, 2).Known())
}

func TestOf(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{7, math.NaN()}, Spread{Count: 1, Median: 7, Min: 7, Q1: 7, Q3: 7, Max: 7}},
		{[]float64{3, 1}, Spread{Count: 2, Median: 2, Min: 1, Q1: 1.5, Q3: 2.5, Max: 3}},
		{[]float64{5, 1, 4, 2, 3}, Spread{Count: 5, Median: 3, Min: 1, Q1: 2, Q3: 4, Max: 5}},
		{[]float64{1, 2, 3, 4}, Spread{Count: 4, Median: 2.5, Min: 1, Q1: 1.75, Q3: 3.25, Max: 4}},
		{[]float64{-1, 1}, Spread{Count: 2, Median: 0, Min: -1, Q1: -0.5, Q3: 0.5, Max: 1}},
	} {
		before := slices.Clone(tc.values)
		require.Equal(t, tc.want, Of(tc.values), "%v", tc.values)
		require.Len(t, tc.values, len(before), "they are left as they were")
	}
}

// A ratio is one of the same round; a round that one of both lacks has none.
func TestPairs(t *testing.T) {
	got := Pairs(map[int]float64{0: 2, 1: 9, 2: 5, 3: 4, 4: math.NaN()}, map[int]float64{0: 1, 1: 3, 3: 0, 4: 7})
	slices.Sort(got)
	require.Equal(t, []float64{2, 3}, got)
	require.Empty(t, Pairs(nil, map[int]float64{1: 1}))
}

func TestComparisonText(t *testing.T) {
	c := Comparison{
		Summary: "passed", Interrupted: true, Setup: []Fact{{"clients", "5"}}, Notes: []string{"a note"}, Faults: []string{"a fault"}, Yardstick: "floor",
		Rows: []Ratio{
			{Case: "single", Figure: "CPU per delivery", Unit: "µs", Server: "wsd 1", Yardstick: Of([]float64{5.678}), Value: Of([]float64{56.78}),
				Ratio: Of([]float64{1, 1.2, 1.4}), Target: "≤ 1.15"},
			{Case: "single", Figure: "CPU per delivery", Unit: "µs", Server: "wsd 64", Yardstick: Of([]float64{5.678}), Value: Of([]float64{567.8})},
		},
	}
	var b strings.Builder
	require.NoError(t, c.WriteText(&b))
	require.Equal(t, `passed

clients  5

case    figure            unit  server  floor  value  ratio  quartiles  min–max    rounds  target
single  CPU per delivery  µs    wsd 1   5.68   56.8   1.20   1.10–1.30  1.00–1.40  1       ≤ 1.15
                                wsd 64  5.68   568    n/a    n/a        n/a        1       

note: a note
incomplete: a fault
interrupted: the figures are those up to then
`, b.String())
}
