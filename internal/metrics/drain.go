package metrics

import "time"

// drain returns the metrics of wsd drain, and of the close of clients when wsd stops.
func (o Options) drain() []family {
	return []family{
		{name: "wsd_drain_since_seconds", help: "When the drain began, as a Unix time; 0 if none is on.",
			values: func(emit func(float64, ...string)) { emit(unixTime(o.Drain().Since)) }},
		{name: "wsd_drain_until_seconds", help: "When the drain is to have closed its last client, as a Unix time; 0 " +
			"if none is on.",
			values: func(emit func(float64, ...string)) { emit(unixTime(o.Drain().Until)) }},
		{name: "wsd_drain_closed_total", help: "Clients that drains have closed.", kind: counter,
			values: func(emit func(float64, ...string)) { emit(float64(o.Drain().Closed)) }},
	}
}

func unixTime(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
