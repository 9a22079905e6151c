package metrics

import (
	"strconv"

	"wsd/internal/proxy"
	"wsd/internal/shard"
	"wsd/internal/stats"
)

// proxy returns what becomes of calls of the backend.
func (o Options) proxy() []family {
	s := o.Proxy
	if s == nil {
		s = proxy.NewStats()
	}
	counts := func(name, help string, k kind, load func(proxy.Kind) float64) family {
		return family{name: name, help: help, kind: k, labels: []string{"kind"},
			values: func(emit func(float64, ...string)) {
				for _, kind := range proxy.Kinds() {
					emit(load(kind), kind.String())
				}
			}}
	}
	return []family{
		{
			name: "wsd_proxy_calls_total", help: "Calls of the backend that ended, by kind and result " +
				"(docs/metrics.md explains each).", kind: counter, labels: []string{"kind", "result"},
			values: func(emit func(float64, ...string)) {
				for i, kind := range proxy.Kinds() {
					for j, result := range proxy.Results() {
						emit(float64(s.Results[i][j].Load()), kind.String(), result.String())
					}
				}
			},
		},
		counts("wsd_proxy_retries_total", "Requests that were sent to the backend a second time.", counter,
			func(k proxy.Kind) float64 { return float64(s.Retries[k].Load()) }),
		counts("wsd_proxy_running", "Calls of the backend under way; proxy.concurrency bounds them.", gauge,
			func(k proxy.Kind) float64 { return float64(s.Running[k].Load()) }),
		counts("wsd_proxy_waiting", "Calls of the backend that wait for others to end; proxy.waiting_max bounds them.",
			gauge, func(k proxy.Kind) float64 { return float64(s.Waiting[k].Load()) }),
		single("wsd_proxy_bytes", "Bytes of requests and answers of calls of the backend; proxy.bytes_max bounds them.",
			gauge, s.Bytes.Load),
		{
			name: "wsd_proxy_call_seconds", kind: histogram, labels: []string{"kind"},
			help: "Time from a client's command to the backend's answer, of calls that were not canceled.",
			histograms: func(emit func(stats.HistogramSnapshot, ...string)) {
				for i, kind := range proxy.Kinds() {
					emit(s.Seconds[i].Snapshot(), kind.String())
				}
			},
		},
		o.sends(),
	}
}

// sends returns what became of messages of the send command.
func (o Options) sends() family {
	return family{
		name: "wsd_sends_total", help: "Messages of the send command, by result: taken by the backend, failed " +
			"because it did not answer, or ignored (client.ignore_send).", kind: counter,
		labels: []string{"shard", "result"},
		values: func(emit func(float64, ...string)) {
			for i, s := range o.Shards {
				for j, result := range shard.SendResults() {
					emit(float64(s.Sends[j].Load()), strconv.Itoa(i), result)
				}
			}
		},
	}
}
