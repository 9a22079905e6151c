package main

import (
	"maps"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/loadtest/child"
	"wsd/loadtest/client"
	"wsd/loadtest/report"
	"wsd/loadtest/serverstat"
)

func TestSoakUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--clients", "100000000"}, "one process may have"},
		{[]string{"--disturbed", "0.6"}, "disturbed clients, 0.6"},
		{[]string{"--load", "0"}, "--load 0"},
		{[]string{"--rate", "0.5"}, "--rate 0.5"},
		{[]string{"--outbound-max", "1000"}, "--outbound-max 1000"},
		{[]string{"--stop-max", "1ms"}, "--stop-max 1ms"},
		{[]string{"--topic", "a,b"}, "2 topics"},
		{[]string{"--ramp-rate", "1"}, "--ramp-rate 1"},
		{[]string{"--admin", "none"}, "--admin none"},
		{[]string{"--clients", "0"}, "at least one"},
	} {
		status, _, errs := loadtest(t.Context(), append([]string{"soak"}, tc.args...)...)
		require.Equal(t, command.Usage, status, "%q", tc.args)
		require.Contains(t, errs, tc.want, "%q", tc.args)
	}
}

// The whole command, for seconds instead of minutes, against wsd itself. Nobody can be slow: 1 MiB is five seconds of records, and this
// process itself may stand still for some.
func TestSoak(t *testing.T) {
	cpus, err := child.CPUs()
	require.NoError(t, err)
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "wsd"), "wsd/cmd/wsd").CombinedOutput()
	require.NoError(t, err, "%s", out)
	c := &compare{Bin: dir, CPUs: []int{cpus[0], cpus[0], cpus[0]}, Timeout: time.Minute, WSDArg: []string{
		"--steering.mode", "off", "--client.ping-interval", "25s",
	}}
	s := &server{}
	defer func() { require.NoError(t, s.stop()) }()
	require.NoError(t, s.startWSD(t.Context(), c, contender{shards: 3}, &load{batch: 1}, &numbering{}))

	args := []string{"soak", "--url", "ws://" + s.address.String(), "--admin", "http://" + s.admin, "--kafka", s.broker, "--clients", "60",
		"--disturbed", "0.5", "--duration", "4s", "--rate", "50", "--size", "4096", "--stop-max", "2s", "--seed", "7", "--json"}
	status, text, errs := loadtest(t.Context(), args...)
	r := mustReport(t, text)
	require.Equal(t, command.OK, status, "%q %s", r.Reasons, errs)
	require.Equal(t, int64(200*30), r.Records.Deliveries)
	for _, a := range r.Accounts {
		require.True(t, a.Matches(), "%s", a)
	}
	require.Positive(t, r.Disturbed.ResetUpgrade)
	require.Positive(t, r.Disturbed.ResetClear)
	require.Positive(t, r.Disturbed.Stops)
	require.Positive(t, r.Disturbed.Slows)
	require.Equal(t, uint64(7), r.Disturbed.Seed)
	require.Positive(t, r.Memory.RSSMax)
	require.False(t, r.Memory.Judged)
	require.Contains(t, errs, "30 good and 30 disturbing clients, seed 7")

	// A server that has counted already is compared by what its counters grow by; the rate is measured.
	status, text, errs = loadtest(t.Context(), "soak", "--url", "ws://"+s.address.String(), "--admin", "http://"+s.admin, "--kafka", s.broker, "--clients", "10",
		"--disturbed", "0.2", "--duration", "1s", "--size", "4096", "--stop-max", "1s", "--outbound-max", "65536") // The server's limit is higher: measuring is shorter.
	require.Equal(t, command.OK, status, "%s %s", text, errs)
	require.Contains(t, text, "connections accepted")
	require.Contains(t, text, "highest rate measured")
}

// The accounts of a soak with every kind of ending: all match, and no figure of the server may differ.
func TestAccounts(t *testing.T) {
	good := &client.Counters{Connected: 100, Held: 100, Left: 100, Deliveries: 5000}
	bad := &client.Disturbed{
		Connected: 55, ResetUpgrade: 10, ResetWhole: 2, ResetSilent: 1, ResetClear: 20, ResetBehind: 3, Left: 9, Cut: 4, Refused: 1, MayBeSlow: 5, MayBeLate: 6,
		Frames:     map[string]int64{"1008 slow": 5, "1008 no pong": 2, "1008 message incomplete for too long": 1},
		Deliveries: 700, UnreadMax: 90, InKernelMax: 40, PartialMax: 6,
	}
	counted := serverstat.Metrics{
		"wsd_accepted_total": 155, "wsd_closed_total": 155,
		`wsd_closed_total{reason="client"}`: 109, `wsd_closed_total{reason="slow"}`: 10, `wsd_closed_total{reason="no_pong"}`: 2, `wsd_closed_total{reason="no_progress"}`: 1,
		`wsd_closed_total{reason="gone"}`: 25, `wsd_closed_total{reason="write_error"}`: 6, `wsd_closed_total{reason="frame_timeout"}`: 1,
		`wsd_closed_total{reason="handshake_rejected"}`: 1, `wsd_closed_total{reason="protocol_error"}`: 0,
		`wsd_slow_total{policy="disconnect"}`: 10, `wsd_slow_total{policy="conflate"}`: 0,
		`wsd_kafka_records_total{topic="loadtest"}`: 50, "wsd_deliveries_total": 5720, "wsd_dropped_total": 40,
	}
	mismatches := func(change map[string]float64) (list []string) {
		m := maps.Clone(counted)
		for series, by := range change {
			m[series] += by
		}
		b := books{counted: m, healthBy: uint64(m["wsd_deliveries_total"]), topic: "loadtest", produced: 50, good: good, bad: bad}
		for _, a := range b.accounts() {
			if !a.Matches() {
				list = append(list, a.String())
			}
		}
		return list
	}
	require.Empty(t, mismatches(nil))
	require.Empty(t, mismatches(map[string]float64{"wsd_accepted_total": -1, "wsd_closed_total": -1, `wsd_closed_total{reason="gone"}`: -1}), "the silent one")
	for _, tc := range []struct {
		change map[string]float64
		want   string
	}{
		{map[string]float64{"wsd_accepted_total": 1}, "connections accepted: 156  NOT in 154 to 155"},
		{map[string]float64{"wsd_accepted_total": -2}, "connections accepted: 153  NOT in 154 to 155"},
		{map[string]float64{"wsd_closed_total": -1}, "connections ended, all reasons: 154  NOT 155"},
		{map[string]float64{`wsd_closed_total{reason="client"}`: 1}, "ended by the client's close frame: 110  NOT 109"},
		{map[string]float64{`wsd_closed_total{reason="slow"}`: 3}, "ended as slow: 13  NOT in 5 to 10"},
		{map[string]float64{`wsd_closed_total{reason="no_pong"}`: -2}, "ended without a pong: 0  NOT in 2 to 8"},
		{map[string]float64{`wsd_closed_total{reason="no_progress"}`: 6}, "ended without progress: 7  NOT in 0 to 6"},
		{map[string]float64{`wsd_closed_total{reason="slow"}`: -3}, "ended as slow, without a pong or progress: 10  NOT in 11 to 14"},
		{map[string]float64{`wsd_closed_total{reason="gone"}`: -3}, "ended by a reset: 28  NOT in 29 to 33"},
		{map[string]float64{`wsd_closed_total{reason="protocol_error"}`: 1}, "ended as protocol_error: 1  NOT 0"},
		{map[string]float64{`wsd_closed_total{reason="frame_timeout"}`: -1}, "ended as frame_timeout: 0  NOT 1"},
		{map[string]float64{`wsd_slow_total{policy="disconnect"}`: 1}, "times the slow policy disconnected, to those ended as slow: 11  NOT 10"},
		{map[string]float64{`wsd_slow_total{policy="conflate"}`: 1}, "times the slow policy conflated: 1  NOT 0"},
		{map[string]float64{`wsd_kafka_records_total{topic="loadtest"}`: -1}, "records read from Kafka: 49  NOT 50"},
		{map[string]float64{"wsd_deliveries_total": -27}, "records delivered, to those that came: 5693  NOT in 5694 to 5740"},
		{map[string]float64{"wsd_deliveries_total": 21}, "records delivered, to those that came: 5741  NOT in 5694 to 5740"},
		{map[string]float64{"wsd_dropped_total": 31}, "records delivered, dropped or conflated, to those that came: 5791  NOT in 5700 to 5790"},
		{map[string]float64{"wsd_connections": 1}, "connections at the end: 1  NOT 0"},
		{map[string]float64{"wsd_bus_pinned_bytes": 1}, "bytes pinned at the end: 1  NOT 0"},
	} {
		require.Contains(t, mismatches(tc.change), tc.want)
	}
}

func TestGrown(t *testing.T) {
	before := serverstat.Metrics{"a_total": 3, `a_total{reason="x"}`: 1, "gauge": 9}
	after := serverstat.Metrics{"a_total": 5, `a_total{reason="x"}`: 1, `a_total{reason="y"}`: 2, "gauge": 4}
	require.Equal(t, serverstat.Metrics{"a_total": 2, `a_total{reason="x"}`: 0, `a_total{reason="y"}`: 2, "gauge": 4}, grown(before, after))
}

func TestMemory(t *testing.T) {
	const mb = 1 << 20
	series := func(at func(i int) int64) (list []report.Point) {
		for i := range 100 {
			list = append(list, report.Point{RSS: report.Figure(at(i)), TCP: report.Figure(i)})
		}
		return list
	}
	r := memoryOf(series(func(i int) int64 { return 200*mb + int64(i)*mb/10 }), time.Minute)
	require.Equal(t, &report.Memory{
		Samples: 100, RSSSecondQuarter: 200*mb + 37*mb/10, RSSLastQuarter: 200*mb + 87*mb/10, RSSAllowed: r.RSSAllowed, RSSMax: 200*mb + 99*mb/10,
		SlopePerMinute: r.SlopePerMinute, TCPMax: 99, Judged: true, Flat: true,
	}, r)
	require.InEpsilon(t, 6*mb, r.SlopePerMinute, 0.01)
	require.False(t, memoryOf(series(func(i int) int64 { return 200*mb + int64(i)*mb/2 }), time.Minute).Flat)
	require.True(t, memoryOf(series(func(i int) int64 { return int64(min(i, 25)) * 8 * mb }), time.Minute).Flat, "what grows at first does not count")
	require.False(t, memoryOf(series(func(int) int64 { return 1 }), time.Second).Judged)
	require.Nil(t, memoryOf(nil, time.Minute))
}
