package source

import "log/slog"

// Everything that may happen to many topics or partitions because of one cause, see digest. What a topic is called
// stands in the attribute topic, and a partition has partition, too.

const (
	topicsUnit     = "topics"
	partitionsUnit = "partitions"
)

// What the watcher notes.
var (
	eventFound = &event{slog.LevelInfo, "a pattern of kafka.topics has found a topic",
		"patterns of kafka.topics have found topics", topicsUnit, atFlush}
	eventFoundGone = &event{slog.LevelInfo, "a topic that a pattern found is gone",
		"topics that patterns found are gone", topicsUnit, atFlush}
	eventForgotten = &event{slog.LevelInfo, "a topic that a pattern found is gone and is forgotten",
		"topics that patterns found are gone and are forgotten", topicsUnit, atFlush}
	eventMissing = &event{slog.LevelWarn,
		"a topic does not exist; wsd does not create it, but reads it when it appears",
		"topics do not exist; wsd does not create them, but reads them when they appear", topicsUnit, atFlush}
	eventAppeared  = &event{slog.LevelInfo, "a topic has appeared", "topics have appeared", topicsUnit, atFlush}
	eventRecreated = &event{slog.LevelWarn,
		"a topic was deleted and created again: reading the new one from its beginning",
		"topics were deleted and created again: reading the new ones from their beginning", topicsUnit, atFlush}
	eventFormerPositions = &event{slog.LevelWarn,
		"a topic was created again after its positions were committed: reading from its beginning",
		"topics were created again after their positions were committed: reading from their beginning", topicsUnit,
		atFlush}
	eventCleanupUnknown = &event{slog.LevelInfo,
		"the cleanup.policy of a topic cannot be read (grant DESCRIBE_CONFIGS): holes count as gaps",
		"the cleanup.policy of topics cannot be read (grant DESCRIBE_CONFIGS): holes count as gaps", topicsUnit,
		atFlush}
	eventPartition = &event{slog.LevelInfo, "a topic has a new partition", "topics have new partitions",
		partitionsUnit, atFlush}
	eventEpochBack = &event{slog.LevelWarn, "the leader epoch of a partition has gone back",
		"the leader epochs of partitions have gone back", partitionsUnit, atFlush}
)

// What is noted where records are routed.
var (
	eventRecoverable = &event{slog.LevelInfo,
		"a channel can be recovered from now on; its subscribers are asked to subscribe again",
		"channels can be recovered from now on; their subscribers are asked to subscribe again", partitionsUnit,
		gathered}
	eventGap = &event{slog.LevelWarn,
		"offsets are missing between two batches: compacted or lost (cleanup.policy is unknown)",
		"offsets are missing between batches: compacted or lost (cleanup.policy is unknown)", partitionsUnit, atOnce}
	eventStopped = &event{slog.LevelError,
		"a partition is stopped: its rule cannot place a record and has on_error: stop",
		"partitions are stopped: their rules cannot place a record and have on_error: stop", partitionsUnit, atOnce}
)

// What is noted once for each topic, at the first record that it happens to. A producer that changes may hit many.
var (
	eventTooLarge = &event{slog.LevelWarn,
		"a record is larger than kafka.max_record_bytes and not delivered; further ones are only counted",
		"topics have records larger than kafka.max_record_bytes, which are not delivered and only counted", topicsUnit,
		atOnce}
	eventNotJSON = &event{slog.LevelWarn,
		"a value is not JSON, so JSON clients do not get it; further ones are only counted",
		"topics have values that are not JSON, which JSON clients do not get and which are only counted", topicsUnit,
		atOnce}
	eventJSONDepth = &event{slog.LevelWarn, "a value is nested deeper than kafka.json_depth_max, so JSON clients do " +
		"not get it; further ones are only counted",
		"topics have values nested deeper than kafka.json_depth_max, which JSON clients do not get and which are " +
			"only counted", topicsUnit, atOnce}
	eventJSONNumber = &event{slog.LevelWarn, "a value has a number that many JSON parsers refuse, so JSON clients do " +
		"not get it; further ones are only counted (send such a number as a string)",
		"topics have values with a number that many JSON parsers refuse, which JSON clients do not get and which are " +
			"only counted (send such a number as a string)", topicsUnit, atOnce}
	eventFallback = &event{slog.LevelInfo,
		"a record goes to the channel of its rule's on_error; further ones are only counted",
		"topics have records that go to the channel of their rule's on_error and are only counted", topicsUnit, atOnce}
	eventUnplaced = &event{slog.LevelWarn, "no channel can be named for a record; further ones are only counted",
		"topics have records for which no channel can be named, which are only counted", topicsUnit, atOnce}
	eventStray = &event{slog.LevelWarn,
		"kafka.partitioner is not what producers use: channels named by keys cannot be recovered",
		"kafka.partitioner is not what producers of several topics use: channels named by keys cannot be recovered",
		topicsUnit, atOnce}
)

func partitionOutages(d *digest) *outages {
	return newOutages(d, partitionsUnit, "reading a partition does not go on, retrying",
		"reading partitions does not go on, retrying", "reading a partition goes on", "reading partitions goes on",
		gathered)
}

func topicOutages(d *digest) *outages {
	return newOutages(d, topicsUnit, "a topic cannot be read", "topics cannot be read", "a topic can be read again",
		"topics can be read again", atFlush)
}

// note logs what happened to the topic, soon and together with others that it happened to.
func (s *Source) note(e *event, t *topic, single ...any) {
	s.digest.add(e, "", t.name, nil, append([]any{"topic", t.name}, single...))
}

// noteRecord notes what happened to a record of the partition, the first one of its topic. Shared is the same for all
// records that it happens to because of cause.
func (s *Source) noteRecord(e *event, cause string, p *partition, offset int64, shared []any, single ...any) {
	s.digest.add(e, cause, p.topic.name, shared, append(append(p.attrs(), "offset", offset), single...))
}

// notePartition is like note, for a partition.
func (s *Source) notePartition(e *event, p *partition, single ...any) {
	s.digest.add(e, "", p.name(), nil, append(p.attrs(), single...))
}
