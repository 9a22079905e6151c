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
// because kafka-go cannot say what is needed here. Metadata and Fetch are encoded by kmsg, so that partitions are fetched by topic id: a topic
// that was deleted and created again is then an error from the broker, never a silent continuation in another log. And record
// batches are walked where they lie in the response: kafka-go's decoder hides a batch's last offset (an empty compacted batch would be
// fetched for ever), drops its own decoding errors, fails a whole response for one bad batch, and takes 64 KiB for every
// batch however small. Its codecs decompress.
//
// # Threads
//
// New is inert; Start and Stop are called once, by the same goroutine. Everything a shard or a scrape may call (Position, Stats,
// Status, Ready) takes no lock that routing holds. The fields of partition, topic and fetcher marked "mu" belong to Source.mu.
//
// # Memory
//
// For each broker that leads partitions: one response buffer of at most 2 × FetchTotalBytes, or 1.25 × the largest single batch when
// that is more, and while a compressed batch is read, that batch decompressed (at most 2 × BatchBytesMax; 4 MiB are kept). For the
// process: one batch being built and one value being compacted, beside what the bus holds. Buffers that had to grow are given
// back. Nothing depends on the backlog, since a fetcher asks for more only after it has published what it has.
//
// # Not its job
//
// Consumer groups and commits (each process reads everything, positions live in memory), creating topics, telling clients that a
// topic was recreated, reading ranges again for recovery.
package source
