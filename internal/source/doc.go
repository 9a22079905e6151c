// Package source reads every partition of the configured Kafka topics, and publishes on the bus what a client of this
// process wants.
//
// # The way of a fetch
//
// The watcher asks the cluster for its metadata. It learns the topology (which topics and partitions exist, and which
// broker leads each partition) and runs one fetcher for each broker that leads partitions. A fetcher has one connection
// and one Fetch in flight. Each of its steps is this:
//
//  1. plan (fetcher.go) finds the partitions whose position must be looked up first (offsets.go, epochs.go), and makes
//     one request for all others. The gatherer decides how many bytes the broker waits for.
//  2. kafka.Conn.Request sends the request and reads the response. For many partitions, the request names only what has
//     changed since the last one (fetchsession.go).
//  3. take (take.go) takes the response partition by partition, under Source.mu. It ignores the part of a partition
//     that has moved since the request.
//  4. walkLocked (router.go) goes through a partition's batches, in slices (walk.go). It decides what a hole means
//     (loss.go) and keeps the raw batch for clients that come back (recent.go). It routes each record in three steps:
//  5. placeLocked (place.go) decides by rules and headers where the record goes, unless its partition has a fixed
//     channel.
//  6. The position of the partition moves past the record. Only then is the interest table read. A shard does it the
//     other way round, so no subscriber can miss a record; see routing.Interest.
//  7. recordLocked (place.go) checks the value (values.go) if a shard wants the record, and adds the record to the
//     batch being built. A full batch is published.
//  8. sealLocked (router.go) publishes the rest after the last partition of the response. Publishing waits while the
//     bus is full. That stops all fetching, so that Kafka is the buffer.
//
// Then the committer commits the positions, if there is a commit group, and the fetcher plans its next step.
//
// # Losses
//
// A partition's position only moves past offsets that were routed, that Kafka explains (markers, aborted transactions,
// compaction), or that are lost. A loss is followed by a break on the bus, and so is a topic that was created again.
// See loss.go.
//
// # Threads
//
// New does nothing; one goroutine calls Start and Stop once. What shards and metrics call (Position, Stats, Status,
// Ready) takes no lock that routing holds. Source.mu guards the fields marked "mu" in topic, partition and fetcher.
// Lock order: Source.mu, then a partition's window or the view or a stripe of the interest table. Nobody takes
// Source.mu while holding one of these.
//
// # Memory
//
// Each broker that leads partitions has one response buffer. It has at most 2 × FetchTotalBytes, or 1.25 × the
// largest single batch if that is more. While a compressed batch is read, there is a window of 256 KiB, or of the
// largest accepted record in the batch if that is more. Snappy also needs its largest block, which is at most 22 times
// its compressed size; zstd needs the window that the producer chose, which is up to 128 MiB above level 19. The
// process has one batch being built and one value being compacted, besides what the bus holds. Up to four walks of a
// broker that take long are put aside, each with its decompressor and its response; together these responses have at
// most 4 × FetchTotalBytes, unless one alone is larger. Buffers that had to grow
// are given back. Nothing depends on the backlog, because a fetcher asks for more only after it has published what it
// has.
//
// # Not its job
//
// The source is not a member of a consumer group: each process reads everything, and a group at most keeps positions.
// It does not create topics. It reads ranges again for package recovery (Reader), but recovery decides which.
//
// # Reading path
//
// Begin with source.go, partition.go and the eight steps above. Then watcher.go, topology.go and discover.go show where
// partitions come from. streams.go names what a client can recover, and reader.go, block.go and recent.go read it
// again. commit.go and group.go keep positions in Kafka. status.go and stats.go are for people and metrics, and so are
// events.go, digest.go and outage.go, which log what happens to many topics or partitions in one line.
package source
