package main

import (
	"maps"
	"slices"
	"strings"

	"wsd/loadtest/client"
	"wsd/loadtest/report"
	"wsd/loadtest/serverstat"
)

// books is the data from which the accounts of a soak are computed.
type books struct {
	counted  serverstat.Metrics // Growth of the server's counters, and its gauges at the end.
	health   serverstat.Health  // Health at the end.
	healthBy uint64             // Growth of the deliveries in /health.
	topic    string             // Topic of the soak.
	produced uint64             // Records that Kafka has acknowledged.
	good     *client.Counters   // Counters of the good clients.
	bad      *client.Disturbed  // Counters of the disturbing clients.
}

// grown returns the growth of the counters between two readings, and the gauges of the second.
func grown(before, after serverstat.Metrics) serverstat.Metrics {
	m := serverstat.Metrics{}
	for series, n := range after {
		m[series] = n
		if isCounter(series) {
			m[series] -= before[series]
		}
	}
	return m
}

func isCounter(series string) bool {
	name, _, _ := strings.Cut(series, "{")
	return strings.HasSuffix(name, "_total")
}

// closeReasons maps the content of the server's close frames to reasons of wsd_closed_total.
var closeReasons = map[string]string{
	"1008 slow": "slow", "3008 slow": "slow", "1008 no pong": "no_pong", "3012 no pong": "no_pong",
	"1013 messages were missed, reconnect": "insufficient_state", "1001 shutdown": "shutdown",
	"3001 shutdown":                        "shutdown",
	"1008 message incomplete for too long": "frame_timeout", "1008 stale": "stale", "3502 stale": "stale",
	"1008 bad request": "bad_request",
	"3501 bad request": "bad_request", "1008 not available": "not_available", "1009 message too big": "too_big",
	"1011 internal error": "internal",
}

// accounts compares the server's counters with what the clients did and saw. A line has an exact value where the
// clients can know it. It has a range if the server may have closed a connection just before a client reset it.
func (b *books) accounts() []report.Account {
	var list []report.Account
	exactly := func(what string, server float64, want int64) {
		list = append(list, report.Account{What: what, Server: int64(server), Min: want, Max: want})
	}
	between := func(what string, server float64, lowest, highest int64) {
		list = append(list, report.Account{What: what, Server: int64(server), Min: lowest, Max: highest})
	}
	good, bad := b.good, b.bad
	connected := good.Connected + bad.Connected
	accepted := b.counted["wsd_accepted_total"]
	between("connections accepted", accepted, connected-bad.ResetSilent, connected)
	exactly("connections ended, all reasons", b.counted["wsd_closed_total"], int64(accepted))

	// It is not known how the connections of good clients ended that did not close properly. A soak with any of them
	// fails anyway.
	frames, unknown := map[string]int64{}, good.Connected-good.Closed-good.Left
	for _, closes := range []map[string]int64{good.Closes, bad.Frames} {
		for text, n := range closes {
			if reason, known := closeReasons[text]; known {
				frames[reason] += n
			} else {
				unknown += n
			}
		}
	}
	closed := b.counted.Values("wsd_closed_total", "reason")
	count := func(reason string) int64 { return closed[reason] }
	maybe := bad.ResetBehind + unknown
	exactly("ended by the client's close frame", float64(count("client")), good.Left+bad.Left)
	between("ended as slow", float64(count("slow")), frames["slow"], frames["slow"]+bad.MayBeSlow+unknown)
	between("ended without a pong", float64(count("no_pong")), frames["no_pong"],
		frames["no_pong"]+bad.MayBeLate+unknown)
	ended := frames["slow"] + frames["no_pong"] + bad.Cut
	// The server resets such a connection, so that it counts as cut. It is late for the same reason as a pong is.
	between("ended without progress", float64(count("no_progress")), 0, bad.MayBeLate+unknown)
	between("ended as slow, without a pong or progress", float64(count("slow")+count("no_pong")+count("no_progress")),
		ended, ended+maybe)
	between("refused by HTTP status", float64(count("handshake_rejected")), bad.Refused,
		bad.Refused+bad.ResetWhole+unknown)
	reset := bad.ResetClear + bad.ResetUpgrade
	refused := count("handshake_rejected") - bad.Refused // Refused, but reset before the client could read it.
	between("ended by a reset", float64(count("gone")+count("write_error")+refused), reset-bad.ResetSilent, reset+maybe)
	for _, reason := range slices.Sorted(maps.Keys(closed)) {
		switch reason {
		case "client", "slow", "no_pong", "no_progress", "handshake_rejected", "gone", "write_error":
		default:
			between("ended as "+reason, float64(closed[reason]), frames[reason], frames[reason]+unknown)
		}
	}
	disconnected, conflated := `wsd_slow_total{policy="disconnect"}`, `wsd_slow_total{policy="conflate"}`
	exactly("times the slow policy disconnected, to those ended as slow", b.counted[disconnected], count("slow"))
	exactly("times the slow policy conflated", b.counted[conflated], 0)
	return append(list, b.recordAccounts()...)
}

// recordAccounts compares the counters of records, and checks what must be 0 at the end.
func (b *books) recordAccounts() []report.Account {
	good, bad := b.good, b.bad
	came := good.Deliveries + good.Foreign + good.Corrupt + bad.Deliveries + bad.Records.Foreign + bad.Records.Corrupt
	deliveries, dropped := int64(b.counted["wsd_deliveries_total"]), int64(b.counted["wsd_dropped_total"])
	// A disconnected good client makes the soak fail; it missed at most this much.
	lost := good.Lost + good.LostClosed
	read := int64(b.counted[`wsd_kafka_records_total{topic="`+b.topic+`"}`])
	list := []report.Account{
		{What: "records read from Kafka", Server: read, Min: int64(b.produced), Max: int64(b.produced)},
		{What: "records delivered, dropped or conflated, to those that came",
			Server: deliveries + dropped + int64(b.counted["wsd_conflated_total"]),
			Min:    came, Max: came + int64(bad.UnreadMax) + lost},
		{What: "records delivered, to those that came", Server: deliveries, Min: came - int64(bad.PartialMax),
			Max: came + int64(bad.InKernelMax) + lost},
		{What: "records dropped", Server: dropped, Min: 0, Max: int64(bad.UnreadMax+bad.PartialMax) + lost},
		{What: "records delivered according to /health", Server: int64(b.healthBy), Min: deliveries, Max: deliveries},
	}
	_, highest := b.health.ConnectionsPerShard()
	list = append(list, report.Account{What: "connections at the end, max. per shard, according to /health",
		Server: highest})
	for _, left := range []struct{ name, what string }{
		{"wsd_connections", "connections at the end"}, {"wsd_clients", "clients at the end"},
		{"wsd_subscriptions", "subscriptions at the end"},
		{"wsd_channels", "channels at the end"}, {"wsd_outbound_bytes", "bytes waiting at the end"},
		{"wsd_bus_pinned_bytes", "bytes pinned at the end"},
		{"wsd_shard_reattached_total", "shards that fell behind the bus"},
		{"wsd_recalled_total", "subscriptions ended because records were missed"},
		{"wsd_accept_errors_total", "accept errors"},
		{"wsd_kafka_lost_total", "records that Kafka deleted before they were read"},
	} {
		list = append(list, report.Account{What: left.what, Server: int64(b.counted[left.name])})
	}
	return list
}
