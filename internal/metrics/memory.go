package metrics

import "wsd/internal/stats"

// memory returns what wsd holds for clients and records, by kind: one metric, so that a sum is the whole.
func (o Options) memory() family {
	return family{name: "wsd_memory_bytes", labels: []string{"kind"}, help: "Memory that wsd holds, by kind. " +
		"clients: wsd_clients_memory_bytes. ring: wsd_bus_retained_bytes. pinned: wsd_bus_pinned_bytes. " +
		"recovery: records read again, kept or being collected. recent: wsd_recovery_recent_bytes.",
		values: func(emit func(float64, ...string)) {
			recovery := int64(0)
			if o.Recovery != nil {
				recovery = o.Recovery.PastBytes.Load() + o.Recovery.Collected()
			}
			for _, m := range []struct {
				kind  string
				bytes int64
			}{
				{"clients", o.Memory.Used()}, {"ring", o.Ring.RetainedBytes.Load()},
				{"pinned", o.Ring.PinnedBytes.Load()}, {"recovery", recovery}, {"recent", o.Source.RecentBytes.Load()},
			} {
				emit(float64(m.bytes), m.kind)
			}
		}}
}

// longTurns returns the turns of at least stats.DurationMin of all shards, by powers of two.
func (o Options) longTurns() stats.HistogramSnapshot {
	var total, one, none stats.DurationCounts
	for _, s := range o.Shards {
		s.LongTurns.Read(&one)
		total.AddSince(&one, &none)
	}
	h := stats.HistogramSnapshot{}
	for i, b := range total {
		h.Count += b.Count
		h.Sum += float64(b.Nanos) / 1e9
		if i < len(total)-1 { // The last has no end.
			h.Bounds = append(h.Bounds, float64(uint64(stats.DurationMin)<<(i+1))/1e9)
			h.Cumulative = append(h.Cumulative, h.Count)
		}
	}
	return h
}
