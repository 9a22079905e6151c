package metrics

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"wsd/internal/deflate"
	"wsd/internal/kafka"
	"wsd/internal/route"
	"wsd/internal/routing"
	"wsd/internal/shard"
	"wsd/internal/source"
)

// families returns every metric of wsd, in the order of the documentation. It is called for each scrape, so that
// metrics which share a costly figure read it once.
func families(o Options) []family {
	var list []family
	for _, part := range [][]family{
		o.server(), o.drain(), o.connections(), o.tokens(), o.proxy(), o.tls(), o.api(), o.admission(), o.steering(),
		o.delivery(), o.latency(), o.recovery(), o.publish(), o.compression(), o.loop(), o.bus(), o.kafka(), process(),
	} {
		list = append(list, part...)
	}
	return list
}

func (o Options) server() []family {
	return []family{
		{name: "wsd_build_info", help: "Always 1. The labels identify the version of wsd.",
			labels: []string{"version", "commit"}, values: func(emit func(float64, ...string)) {
				emit(1, o.Version, o.Commit)
			}},
		{name: "wsd_ready", help: "1 if new clients should be sent here, like /ready.",
			values: func(emit func(float64, ...string)) {
				emit(boolean(o.Ready()))
			}},
	}
}

func (o Options) connections() []family {
	return []family{
		o.gauge("wsd_connections", "Open connections of the shard, including those that have not been upgraded yet.",
			func(s *shard.Stats) *atomic.Int64 { return &s.Connections }),
		o.gauge("wsd_clients", "Upgraded WebSocket connections.",
			func(s *shard.Stats) *atomic.Int64 { return &s.Clients }),
		o.gauge("wsd_subscriptions", "Subscriptions of the shard's clients.",
			func(s *shard.Stats) *atomic.Int64 { return &s.Subscriptions }),
		{name: "wsd_channels", help: "Channels with at least one subscriber.",
			values: func(emit func(float64, ...string)) { emit(float64(o.Channels())) }},
		o.counter("wsd_accepted_total", "Connections accepted.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Accepted }),
		o.counter("wsd_accept_errors_total", "Failed accepts because of a lack of file descriptors, memory or epoll "+
			"watches. Each one pauses accepting.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.AcceptErrors }),
		o.gauge("wsd_accept_paused", "1 while the shard does not accept because of a lack of file descriptors or "+
			"memory.", func(s *shard.Stats) *atomic.Int64 { return &s.PauseAccepts }),
		{
			name: "wsd_handshakes_rejected_total", help: "Upgrade requests rejected with an HTTP status, by reason " +
				"(docs/metrics.md explains each).",
			kind: counter, labels: []string{"shard", "reason"},
			values: func(emit func(float64, ...string)) {
				for i, s := range o.Shards {
					for at, cause := range shard.Causes() {
						emit(float64(s.Refused[at].Load()), strconv.Itoa(i), string(cause))
					}
				}
			},
		},
		{
			name: "wsd_limit_exceeded_total", help: "Times a client exceeded a limit, by limit (docs/limits.md " +
				"says what happens then). With limits.dry_run it is only counted.",
			kind: counter, labels: []string{"shard", "limit"},
			values: func(emit func(float64, ...string)) {
				for i, s := range o.Shards {
					for _, rate := range shard.Rates() {
						emit(float64(s.OverRate[rate].Load()), strconv.Itoa(i), rate.String())
					}
					for _, quota := range shard.AllQuotas() {
						emit(float64(s.Exceeded[quota].Load()), strconv.Itoa(i), quota.String())
					}
				}
			},
		},
		o.counter("wsd_input_put_off_total", "Times the rest of a client's input had to wait for the shard's next "+
			"turn, so that other clients got theirs.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.PutOff }),
		{
			name: "wsd_closed_total", help: "Closed connections, by reason (docs/metrics.md explains each).",
			kind: counter, labels: []string{"shard", "reason"},
			values: func(emit func(float64, ...string)) {
				for i, s := range o.Shards {
					for _, r := range shard.Reasons() {
						emit(float64(s.Closed[r].Load()), strconv.Itoa(i), r.String())
					}
				}
			},
		},
	}
}

func (o Options) delivery() []family {
	return []family{
		o.counter("wsd_deliveries_total", "Publications written to the kernel, summed over connections.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Deliveries }),
		o.counter("wsd_dropped_total", "Publications not sent because the connection was closed or left the channel "+
			"before.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Dropped }),
		o.counter("wsd_conflated_total", "Publications replaced by a newer record of their key while they waited for "+
			"a connection.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Conflated }),
		o.counter("wsd_absent_total", "Messages for a connection that no longer existed.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Absent }),
		{
			name: "wsd_slow_total", help: "Actions of client.slow_policies: a connection was closed " +
				"(client.outbound_max or bus.pinned_max), began to conflate, or had to subscribe again.",
			kind: counter, labels: []string{"shard", "policy"},
			values: func(emit func(float64, ...string)) {
				for i, s := range o.Shards {
					for _, p := range shard.Policies() {
						emit(float64(s.Slow[p].Load()), strconv.Itoa(i), p.String())
					}
				}
			},
		},
		o.counter("wsd_writes_total", "Calls of write and writev that sent at least one byte.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Writes }),
		o.counter("wsd_sent_bytes_total", "Bytes written to the kernel for clients.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.BytesOut }),
		o.gauge("wsd_outbound_bytes", "Bytes queued for connections and not written to the kernel yet.",
			func(s *shard.Stats) *atomic.Int64 { return &s.OutboundBytes }),
		o.memory(),
		single("wsd_clients_memory_bytes", "Memory that clients hold alone: replies, recovered and merged "+
			"publications, and what they have sent (docs/clients.md).", gauge, o.Memory.Used),
		single("wsd_clients_memory_limit_bytes", "limits.memory, given or derived.", gauge,
			func() int64 { return o.Memory.Limit }),
		single("wsd_clients_answers_bytes", "Part of wsd_clients_memory_bytes that is histories and recovered "+
			"publications.", gauge, o.Memory.Answers),
		single("wsd_clients_answers_limit_bytes", "limits.answers_memory, given or derived.", gauge,
			func() int64 { return o.Memory.AnswersLimit }),
		o.gauge("wsd_inbound_bytes", "Memory for what clients have sent and wsd has not acted on: incomplete requests "+
			"and messages, and input that waits for its turn.",
			func(s *shard.Stats) *atomic.Int64 { return &s.InboundBytes }),
		o.counter("wsd_received_bytes_total", "Bytes read from clients.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.BytesIn }),
		o.counter("wsd_received_frames_total", "WebSocket frames received.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.FramesIn }),
		o.counter("wsd_commands_total", "Commands of the client protocol received.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Commands }),
	}
}

func (o Options) compression() []family {
	s := new(deflate.Stats)
	utilization, depth := func() float64 { return 0 }, func() int { return 0 }
	if o.Deflate != nil {
		s, utilization, depth = o.Deflate.Stats(), o.Deflate.Utilization, o.Deflate.QueueDepth
	}
	return []family{
		o.counter("wsd_compression_negotiated_total", "Upgrades that negotiated permessage-deflate.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Compressed }),
		single("wsd_compressed_messages_total", "Messages compressed, each once for all its clients. Includes those "+
			"that did not get smaller and were sent uncompressed.",
			counter, s.Messages.Load),
		single("wsd_compressed_input_bytes_total", "Bytes of these messages before compression.", counter,
			s.BytesIn.Load),
		single("wsd_compressed_output_bytes_total", "Bytes of these messages after compression.", counter,
			s.BytesOut.Load),
		single("wsd_compression_jobs_total", "Large segments compressed by the worker pool. Shards compress the "+
			"other ones themselves.", counter, s.Jobs.Load),
		single("wsd_compression_saturated_total", "Large segments sent uncompressed because too many others waited "+
			"for a worker.", counter, s.Saturated.Load),
		{name: "wsd_goroutine_pool_utilization", help: "Percentage of compression workers that are busy.",
			values: func(emit func(float64, ...string)) {
				emit(utilization())
			}},
		{name: "wsd_goroutine_pool_queue_depth", help: "Large segments that wait for a compression worker.",
			values: func(emit func(float64, ...string)) {
				emit(float64(depth()))
			}},
		o.counter("wsd_inflated_messages_total", "Compressed messages received from clients.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Inflated }),
	}
}

func (o Options) loop() []family {
	return []family{
		o.counter("wsd_shard_turns_total", "Turns of the shard's loop.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Turns }),
		o.counter("wsd_shard_wakeups_total", "Times another goroutine woke the shard's waiting loop.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Wakeups }),
		o.shards("wsd_shard_turn_seconds", "Duration of the last loop turn.", gauge,
			func(s *shard.Stats) float64 { return float64(s.TurnLastNanos.Load()) / 1e9 }),
		o.shards("wsd_shard_turn_max_seconds", "Longest loop turn since the start.", gauge,
			func(s *shard.Stats) float64 { return float64(s.TurnMaxNanos.Load()) / 1e9 }),
		{name: "wsd_shard_turn_running_seconds", labels: []string{"shard"}, help: "How long the turn under way has " +
			"lasted; 0 while the shard waits.",
			values: func(emit func(float64, ...string)) {
				for i := range o.Shards {
					emit(o.Steering.Slot(routing.ShardID(i)).Running().Seconds(), strconv.Itoa(i))
				}
			}},
		{name: "wsd_shard_long_turn_seconds", kind: histogram,
			help: "Loop turns of at least 1 ms, all shards together.", histogram: o.longTurns},
		o.counter("wsd_shard_batches_total", "Batches taken from the bus.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Batches }),
		o.counter("wsd_kafka_messages_processed_total", "Records the shard took from the bus for channels with a "+
			"subscriber on it.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Records }),
		o.counter("wsd_shard_paced_total", "Times the shard left batches on the bus for a short time because its "+
			"clients could not keep up.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Paced }),
		o.counter("wsd_shard_reattached_total", "Times the shard continued after the bus had detached it.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Reattached }),
		o.counter("wsd_recalled_total", "Subscriptions ended with 2500 (raw: 1013) because publications were missed "+
			"or the stream was replaced by another one.",
			func(s *shard.Stats) *atomic.Uint64 { return &s.Recalled }),
	}
}

func (o Options) bus() []family {
	r := o.Ring
	return []family{
		{name: "wsd_broadcast_batch_size", help: "Records in a batch put on the bus.", kind: histogram,
			histogram: r.BatchSize.Snapshot},
		single("wsd_bus_batches_total", "Batches put on the bus.", counter, r.Batches.Load),
		single("wsd_bus_records_total", "Records put on the bus.", counter, r.Records.Load),
		single("wsd_bus_bytes_total", "Bytes of values put on the bus.", counter, r.Bytes.Load),
		single("wsd_bus_stalls_total", "Times the source waited for the slowest shard because the ring was full.",
			counter, r.Stalls.Load),
		{name: "wsd_bus_stall_seconds_total", help: "Total time that the source waited for the slowest shard.",
			kind: counter, values: func(emit func(float64, ...string)) {
				emit(float64(r.StallNanos.Load()) / float64(time.Second))
			}},
		single("wsd_bus_retained_bytes", "Bytes that the ring holds, encoded messages included.", gauge,
			r.RetainedBytes.Load),
		single("wsd_bus_pinned_bytes", "Bytes of encoded messages that the ring has dropped and that still wait for "+
			"some connection.", gauge, r.PinnedBytes.Load),
		{
			name: "wsd_bus_detached_total", help: "Times the shard was detached because it made no progress for " +
				"bus.stall_max.", kind: counter,
			labels: []string{"shard"}, values: func(emit func(float64, ...string)) {
				for i := range r.Detached {
					emit(float64(r.Detached[i].Load()), strconv.Itoa(i))
				}
			},
		},
		{
			name: "wsd_bus_announced_total", help: "Batches that the shard was woken up for.", kind: counter,
			labels: []string{"shard"}, values: func(emit func(float64, ...string)) {
				for i := range r.Wakeups {
					emit(float64(r.Wakeups[i].Load()), strconv.Itoa(i))
				}
			},
		},
	}
}

func (o Options) kafka() []family {
	s := o.Source
	partitions := sync.OnceValue(s.Partitions) // One look for all metrics of a scrape.
	return append([]family{
		o.topic("wsd_kafka_records_total", "Committed data records read.",
			func(t *source.TopicStats) uint64 { return t.Records.Load() }),
		o.topic("wsd_kafka_bytes_total", "Bytes of the values of these records.",
			func(t *source.TopicStats) uint64 { return t.Bytes.Load() }),
		partition(partitions, "wsd_kafka_lag", "Offsets between the position and the end of the log; -1 until both "+
			"are known.",
			func(p source.PartitionStats) int64 { return p.Lag }),
		lagTimes(partitions),
		timestamps(s.Topics),
		partition(partitions, "wsd_kafka_high_watermark", "End of the log; -1 until it is known.",
			func(p source.PartitionStats) int64 { return p.HighWatermark }),
		partition(partitions, "wsd_kafka_last_stable_offset", "End of what is committed; -1 until it is known. If "+
			"it stays below the end of the log, an open transaction holds back all records after it.",
			func(p source.PartitionStats) int64 { return p.LastStable }),
		partition(partitions, "wsd_kafka_position", "Next offset to read; -1 until it is known.",
			func(p source.PartitionStats) int64 { return p.Position }),
		{
			name: "wsd_broadcast_routed_messages_total", kind: counter, labels: []string{"type", "by"},
			help: "Records by destination and by what chose it. type: every shard (broadcast), some shards " +
				"(targeted), or none because no one wants the record (unwanted). by: a rule, or the header for " +
				"channels, a connection, a user or everybody. A record for several channels counts once for each.",
			values: func(emit func(float64, ...string)) {
				for _, by := range route.AllBy() {
					n := &s.Routed[by]
					emit(float64(n.Broadcast.Load()), "broadcast", by.String())
					emit(float64(n.Targeted.Load()), "targeted", by.String())
					emit(float64(n.Unwanted.Load()), "unwanted", by.String())
				}
			},
		},
		o.topic("wsd_kafka_dropped_total", "Records dropped by a rule.",
			func(t *source.TopicStats) uint64 { return t.Dropped.Load() }),
		partition(partitions, "wsd_kafka_stopped", "1 if reading has stopped at a record that a rule with on_error: "+
			"stop could not place.",
			func(p source.PartitionStats) int64 { return int64(boolean(p.Stopped)) }),
		{name: "wsd_kafka_batch_size", help: "Records in a fetch response, except for empty responses.",
			kind: histogram, histogram: s.BatchSize.Snapshot},
		{name: "wsd_kafka_behind_seconds", help: "How long the partition that has been behind the end of its log for " +
			"longest has been so, or has waited for a full bus. /health names topics above kafka.behind_max.",
			values: func(emit func(float64, ...string)) { emit(s.Behind().Seconds()) }},
		{name: "wsd_kafka_nearest_replica_partitions", help: "Partitions that are read from another replica than the " +
			"leader (kafka.rack).",
			values: func(emit func(float64, ...string)) {
				near := 0
				for _, p := range s.Partitions() {
					if p.Near {
						near++
					}
				}
				emit(float64(near))
			}},
		single("wsd_kafka_fetches_total", "Fetch responses received.", counter, s.Fetches.Load),
		single("wsd_kafka_fetch_bytes_total", "Bytes of these responses on the wire.", counter, s.FetchBytes.Load),
		{
			name: "wsd_kafka_fetch_errors_total", help: "Failed requests to Kafka, by kind (docs/kafka.md explains " +
				"each).", kind: counter, labels: []string{"kind"},
			values: func(emit func(float64, ...string)) {
				for _, k := range kafka.AllErrorKinds() {
					emit(float64(s.FetchErrors[k].Load()), k.String())
				}
			},
		},
		single("wsd_kafka_reconnects_total",
			"Connections to a broker opened after one was lost or could not be opened.", counter, s.Reconnects.Load),
		single("wsd_kafka_reauthentications_total",
			"Logins on open connections, because the last one was about to expire (KIP-368).", counter,
			s.Reauthentications.Load),
		single("wsd_kafka_stalls_total",
			"Connections closed because they returned no records although there were some.", counter, s.Stalls.Load),
		{name: "wsd_kafka_throttled_seconds_total", kind: counter, help: "Pauses that brokers have asked for because " +
			"of quotas (throttle_time_ms). wsd keeps them.",
			values: func(emit func(float64, ...string)) {
				emit(float64(s.Throttled.Load()) / float64(time.Second))
			}},
		single("wsd_kafka_metadata_refreshes_total", "Requests for the cluster's topology.", counter,
			s.MetadataRefreshes.Load),
		single("wsd_kafka_metadata_errors_total", "Failed requests for the cluster's topology.", counter,
			s.MetadataErrors.Load),
		single("wsd_kafka_topics_left_out", "Topics that match a pattern of kafka.topics but are not read, because "+
			"kafka.topics_max is reached.", gauge, s.LeftOut.Load),
		single("wsd_kafka_topics", "Topics that are read, including those that do not exist.", gauge,
			func() int64 { return int64(len(s.Topics())) }),
		single("wsd_kafka_topics_unlisted", "Topics without metrics of their own, because of metrics.topics_max. The "+
			"topic (unlisted) has their sums.", gauge, func() int64 { return int64(s.TopicsUnlisted()) }),
		single("wsd_kafka_commits_total", "Successful commits of positions to kafka.commit_group.", counter,
			s.Commits.Load),
		single("wsd_kafka_commit_errors_total", "Failed commits of positions.", counter, s.CommitErrors.Load),
		single("wsd_kafka_panics_total", "Records skipped because reading them panicked.", counter, s.Panics.Load),
		{
			name: "wsd_kafka_unplaced_total", help: "Records that a rule or a header could not place, by reason " +
				"(docs/routing.md explains each).", kind: counter, labels: []string{"topic", "reason"},
			values: func(emit func(float64, ...string)) {
				for _, u := range route.AllUnplaced() {
					o.topics(func(t *source.TopicStats) uint64 { return t.Unplaced[u].Load() },
						func(v float64, topic string) { emit(v, topic, u.String()) })
				}
			},
		},
	}, o.kafkaLosses()...)
}

func (o Options) kafkaLosses() []family {
	return []family{
		o.topic("wsd_kafka_invalid_json_total", "Values with a subscriber that are not exactly one JSON value, are "+
			"nested deeper than kafka.json_depth_max or have a number of over 1,000 characters, and are therefore "+
			"not delivered to JSON clients.",
			func(t *source.TopicStats) uint64 { return t.InvalidJSON.Load() }),
		o.topic("wsd_kafka_markers_total", "Transaction markers skipped.",
			func(t *source.TopicStats) uint64 { return t.Markers.Load() }),
		o.topic("wsd_kafka_aborted_total", "Records of aborted transactions skipped.",
			func(t *source.TopicStats) uint64 { return t.Aborted.Load() }),
		o.topic("wsd_kafka_compacted_total", "Offsets missing because Kafka's compaction removed them.",
			func(t *source.TopicStats) uint64 { return t.Compacted.Load() }),
		o.topic("wsd_kafka_gaps_total", "Offsets missing between record batches of a topic whose cleanup.policy wsd "+
			"may not read: either compacted or lost.",
			func(t *source.TopicStats) uint64 { return t.Gaps.Load() }),
		{
			name: "wsd_kafka_lost_total", help: "Offsets never delivered, by reason (docs/kafka.md explains each).",
			kind: counter, labels: []string{"topic", "reason"},
			values: func(emit func(float64, ...string)) {
				for _, r := range source.AllLossReasons() {
					o.topics(func(t *source.TopicStats) uint64 { return t.Lost[r].Load() },
						func(v float64, topic string) { emit(v, topic, r.String()) })
				}
			},
		},
		o.topic("wsd_kafka_breaks_total", "Times subscribers had to subscribe again because of a loss or because the "+
			"topic was recreated.",
			func(t *source.TopicStats) uint64 { return t.Breaks.Load() }),
		o.topic("wsd_kafka_breaks_merged_total", "Losses that have no break of their own, because the next one came "+
			"soon: the breaks of a partition are limited to ten a second after the first fifty.",
			func(t *source.TopicStats) uint64 { return t.BreaksMerged.Load() }),
		o.topic("wsd_kafka_strays_total", "Checked records that are not in the partition that kafka.partitioner "+
			"would choose (docs/recovery.md).",
			func(t *source.TopicStats) uint64 { return t.Strays.Load() }),
		o.topic("wsd_kafka_truncations_total", "Times a new leader did not have records that had been read.",
			func(t *source.TopicStats) uint64 { return t.Truncations.Load() }),
		o.topic("wsd_kafka_recreations_total", "Times the topic was recreated with another id.",
			func(t *source.TopicStats) uint64 { return t.Recreations.Load() }),
	}
}
