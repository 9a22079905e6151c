package metrics

import (
	"strconv"
	"sync/atomic"
	"time"

	"wsd/internal/api"
	"wsd/internal/commands"
	"wsd/internal/shard"
)

// noCommands and noAPI are what metrics show without commands.topic and without a server API.
var (
	noCommands = &commands.Stats{}
	noAPI      = api.NewStats()
)

// api returns the metrics of the server API, and of what it has done with clients.
func (o Options) api() []family {
	c, s := o.Commands, o.API
	if c == nil {
		c = noCommands
	}
	if s == nil {
		s = noAPI
	}
	return []family{
		{
			name: "wsd_api_commands_total",
			help: "Commands of the server API, by method. The method unknown is one that does not exist.",
			kind: counter, labels: []string{"method"},
			values: func(emit func(float64, ...string)) {
				s.EachMethod(func(method string, n uint64) { emit(float64(n), method) })
			},
		},
		{
			name: "wsd_api_errors_total", help: "Commands of the server API that failed, by the code of their error.",
			kind: counter, labels: []string{"code"},
			values: func(emit func(float64, ...string)) {
				s.EachError(func(code uint32, n uint64) { emit(float64(n), strconv.Itoa(int(code))) })
			},
		},
		single("wsd_api_unauthorized_total", "Requests to the server API without a valid key.", counter,
			s.Unauthorized.Load),
		single("wsd_api_memory_bytes", "Part of wsd_clients_memory_bytes that requests of the server API hold.", gauge,
			o.Memory.Requests),
		o.orders("wsd_orders_total", "Orders of the server API that a shard has carried out, by kind: disconnect, "+
			"subscribe, unsubscribe or refresh.", func(s *shard.Stats, k shard.OrderKind) *atomic.Uint64 {
			return &s.Orders[k]
		}),
		o.orders("wsd_order_changes_total", "Connections that orders have changed, by kind.",
			func(s *shard.Stats, k shard.OrderKind) *atomic.Uint64 { return &s.OrdersChanged[k] }),
		o.counter("wsd_orders_refused_total", "Connections that an order wanted to subscribe and a limit refused.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.OrdersRefused }),
		{
			name: "wsd_cluster_commands_total",
			help: "Records read from commands.topic, by result: applied, missed (by a shard with too many orders), " +
				"old (older than commands.age_max), again (read before), malformed or unknown (of another version).",
			kind: counter, labels: []string{"result"},
			values: func(emit func(float64, ...string)) {
				emit(float64(c.Applied.Load()), "applied")
				emit(float64(c.Missed.Load()), "missed")
				emit(float64(c.Old.Load()), "old")
				emit(float64(c.Again.Load()), "again")
				emit(float64(c.Malformed.Load()), "malformed")
				emit(float64(c.Unknown.Load()), "unknown")
			},
		},
		single("wsd_cluster_commands_sent_total", "Commands written to commands.topic and acknowledged.", counter,
			c.Sent.Load),
		single("wsd_cluster_commands_failed_total", "Commands that could not be written to commands.topic in time.",
			counter, c.SendFailed.Load),
		{
			name: "wsd_cluster_commands_late",
			help: "1 while commands.topic cannot be read, so that commands of other machines come late; else 0.",
			values: func(emit func(float64, ...string)) {
				emit(boolean(o.CommandsLate != nil && o.CommandsLate()))
			},
		},
		{
			name: "wsd_cluster_clock_skew_seconds",
			help: "By how much at least this machine's clock is ahead of the Kafka brokers' (below 0: behind), as of " +
				"the last record of commands.topic.",
			values: func(emit func(float64, ...string)) { emit(time.Duration(c.Skew.Load()).Seconds()) },
		},
	}
}

// orders is a counter by kind of order, over all shards.
func (o Options) orders(name, help string, of func(*shard.Stats, shard.OrderKind) *atomic.Uint64) family {
	return family{
		name: name, help: help, kind: counter, labels: []string{"order"},
		values: func(emit func(float64, ...string)) {
			for _, k := range shard.OrderKinds() {
				n := uint64(0)
				for _, s := range o.Shards {
					n += of(s, k).Load()
				}
				emit(float64(n), k.String())
			}
		},
	}
}
