package route

import (
	"errors"
	"strings"
)

// Partitioner is how producers choose a record's partition by its key.
type Partitioner string

// The partitioners. PartitionerNone means that it is not known.
const (
	PartitionerNone    Partitioner = ""
	PartitionerMurmur2 Partitioner = "murmur2" // The default of the Java clients, and murmur2 of librdkafka.
	PartitionerCRC32   Partitioner = "crc32"   // The default of librdkafka ("consistent").
)

// check returns an error if the partitioner is not one of those above.
func (p Partitioner) check() error {
	switch p {
	case PartitionerNone, PartitionerMurmur2, PartitionerCRC32:
		return nil
	}
	return errors.New("unknown partitioner; write murmur2 or crc32")
}

// Key returns the only key that the channel's records can have, and the partitioner of their producers. It reports
// false if records may have other keys, or none. Like CanFill, it is not for each record.
func (t *Topic) Key(channel string) (key string, by Partitioner, ok bool) {
	if t.listsChannels() {
		return "", PartitionerNone, false
	}
	for _, r := range t.rules {
		if r.fallsBackTo(channel) {
			return "", PartitionerNone, false
		}
		if r.drop || !r.channel.canBe(channel, t.name, AnyPartition) {
			continue
		}
		k, one := r.channel.key(channel, t.name)
		if !one || ok && (k != key || r.partitioner != by) {
			return "", PartitionerNone, false
		}
		key, by, ok = k, r.partitioner, true
	}
	return key, by, ok
}

// key returns the key of a channel that the template can name. It reports false unless the key is the only part that
// varies, and occurs once.
func (t *template) key(channel, topic string) (key string, ok bool) {
	before, after := "", ""
	for i := range t.parts {
		switch p := &t.parts[i]; {
		case p.kind == partKey && !ok:
			ok = true
		case p.unknown(topic, AnyPartition):
			return "", false
		case ok:
			after += p.fill(topic, AnyPartition)
		default:
			before += p.fill(topic, AnyPartition)
		}
	}
	if !ok || len(channel) <= len(before)+len(after) {
		return "", false
	}
	return strings.TrimSuffix(strings.TrimPrefix(channel, before), after), true
}
