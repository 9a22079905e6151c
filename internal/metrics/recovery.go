package metrics

import (
	"strconv"
	"sync/atomic"

	"wsd/internal/bus"
	"wsd/internal/recovery"
	"wsd/internal/shard"
)

func (o Options) recovery() []family {
	s := o.Recovery
	if s == nil {
		s = recovery.NewStats()
	}
	return []family{
		{
			name: "wsd_recoveries_total", kind: counter, labels: []string{"shard", "result", "source"},
			help: "Subscriptions that asked to recover, by whether they did, and by where the answer came from " +
				"(docs/recovery.md explains each).",
			values: func(emit func(float64, ...string)) {
				for i, s := range o.Shards {
					for _, from := range shard.RecoveryOrigins() {
						emit(float64(s.Recovered[from].Load()), strconv.Itoa(i), "recovered", from.String())
						emit(float64(s.Unrecovered[from].Load()), strconv.Itoa(i), "unrecovered", from.String())
					}
				}
			},
		},
		o.counter("wsd_histories_total", "History commands answered with publications.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Histories }),
		{
			name: "wsd_recovery_queries_total", help: "Queries for recoveries and history, by result.", kind: counter,
			labels: []string{"result"},
			values: func(emit func(float64, ...string)) {
				for _, result := range bus.Results() {
					emit(float64(s.Queries[result].Load()), result.String())
				}
			},
		},
		single("wsd_recovery_portions_total", "Answers with the publications that follow an offset. A client that "+
			"recovers more than its reply holds gets it in such portions.", counter, s.Portions.Load),
		single("wsd_recovery_passes_total", "Passes over the queries that wait for a partition. Each does a limited "+
			"amount of work.", counter, s.Passes.Load),
		{name: "wsd_recovery_seconds", help: "Time from such a query to its answer.", kind: histogram,
			histogram: s.Duration.Snapshot},
		single("wsd_recovery_waiting", "Queries that wait for an answer.", gauge, s.Waiting.Load),
		single("wsd_recovery_reads_total", "Blocks of a partition read from Kafka again. One read answers all "+
			"queries that wait for it.", counter, s.Reads.Load),
		single("wsd_recovery_fetches_total", "Fetch requests for these reads.", counter, s.Fetches.Load),
		single("wsd_recovery_read_bytes_total", "Bytes of record batches in their responses.", counter,
			s.ReadBytes.Load),
		single("wsd_recovery_kept_bytes", "Bytes of records read again that are cached for later queries.", gauge,
			s.PastBytes.Load),
		single("wsd_recovery_recent_bytes", "Bytes of the most recent records, which are cached for recovery.", gauge,
			o.Source.RecentBytes.Load),
	}
}
