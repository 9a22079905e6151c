// Package source reads every partition of the configured Kafka topics and publishes what somebody here wants on the bus.
//
// # Job
//
// A watcher asks for the cluster's metadata, finds the partitions and their leaders, and keeps one fetcher for each broker that
// leads some of them. A fetcher has one connection and one multi-partition Fetch in flight. What it reads is routed under one
// mutex: record to channel, channel to shards, value checked, record added to the batch, batch published. A bus that is full
// therefore stops all fetching: Kafka is the buffer.
//
// Requests for offsets and the SASL handshake go through kafka-go's protocol layer. Two things do not, on the same connection,
// because kafka-go cannot say what is needed here. Metadata, Fetch and whatever kafka-go does not have are encoded by kmsg, so that partitions are fetched by topic id: a topic
// that was deleted and created again is then an error from the broker, never a silent continuation in another log. And record
// batches are walked where they lie in the response: kafka-go's decoder hides a batch's last offset (an empty compacted batch would be
// fetched for ever), drops its own decoding errors, fails a whole response for one bad batch, and takes 64 KiB for every
// batch however small. Batches are decompressed piece by piece, by kafka-go's codecs for gzip and lz4; for snappy and zstd by
// klauspost's decoders directly, since kafka-go believes what compressed data says about its size.
//
// # Losses
//
// The position of a partition only ever moves past offsets that were routed, that Kafka explains (markers, aborted transactions,
// compaction) or that are lost. A loss, and a topic that was created again, is followed on the bus by a break, see loss.go.
//
// # Threads
//
// New is inert; Start and Stop are called once, by the same goroutine. Everything a shard or a scrape may call (Position, Stats,
// Status, Ready) takes no lock that routing holds. The fields of partition, topic and fetcher marked "mu" belong to Source.mu.
//
// # Memory
//
// For each broker that leads partitions: one response buffer of at most 2 × FetchTotalBytes, or 1.25 × the largest single batch when
// that is more, and while a compressed batch is read, a window of 256 KiB or of its largest record that is accepted (snappy: of its
// largest block, which is at most 22 times its compressed size; zstd: of what the producer chose, up to 128 MiB above level 19). For
// the process: one batch being built and one value being compacted, beside what the bus holds. Buffers that had to grow are given
// back. Nothing depends on the backlog, since a fetcher asks for more only after it has published what it has.
//
// # Not its job
//
// Membership in consumer groups (each process reads everything; a group is at most where positions are noted), creating topics, reading
// ranges again for recovery.
package source
