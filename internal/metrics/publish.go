package metrics

import (
	"strconv"

	"wsd/internal/produce"
)

func (o Options) publish() []family {
	s := o.Produce
	if s == nil {
		s = produce.NewStats()
	}
	return []family{
		{
			name: "wsd_publications_total", kind: counter, labels: []string{"shard", "result"},
			help: "Publications of clients. ok: Kafka has acknowledged it. failed: it has not, or not in time. " +
				"refused: it was refused at once, by the rules, a limit or for its form.",
			values: func(emit func(float64, ...string)) {
				for i, s := range o.Shards {
					emit(float64(s.Published.Load()), strconv.Itoa(i), "ok")
					emit(float64(s.PublishFailed.Load()), strconv.Itoa(i), "failed")
					emit(float64(s.PublishRefused.Load()), strconv.Itoa(i), "refused")
				}
			},
		},
		single("wsd_produced_records_total", "Records that wsd has written to Kafka and answered in time.", counter,
			s.Acked.Load),
		single("wsd_produced_late_total", "Records that Kafka has acknowledged after they were answered with an error.",
			counter, s.Late.Load),
		single("wsd_produce_requests_total", "Requests to Kafka's brokers in which such records were sent.", counter,
			s.Requests.Load),
		{
			name: "wsd_produce_errors_total", kind: counter, labels: []string{"kind"},
			help: "Records that could not be written, by kind (docs/publish.md explains each).",
			values: func(emit func(float64, ...string)) {
				for _, kind := range produce.Kinds() {
					emit(float64(s.Failed[kind].Load()), kind.String())
				}
			},
		},
		{name: "wsd_produce_seconds", help: "Time from such a record to Kafka's acknowledgement.", kind: histogram,
			histogram: s.Latency.Snapshot},
		single("wsd_produce_waiting", "Records that wait for Kafka's acknowledgement, or whose outcome is not known.",
			gauge, s.Records.Load),
		single("wsd_produce_waiting_bytes", "Bytes of these records (publish.memory).", gauge, s.Bytes.Load),
	}
}
