package route

import (
	"errors"
	"strings"
)

// Partitioner is how the producers of a topic choose a record's partition by its key.
type Partitioner string

// The partitioners. PartitionerNone says that it is not known.
const (
	PartitionerNone    Partitioner = ""
	PartitionerMurmur2 Partitioner = "murmur2" // Of the Java clients, by default; also murmur2 of librdkafka.
	PartitionerCRC32   Partitioner = "crc32"   // Of librdkafka, by default ("consistent").
)

// check returns what is wrong with the partitioner.
func (p Partitioner) check() error {
	switch p {
	case PartitionerNone, PartitionerMurmur2, PartitionerCRC32:
		return nil
	}
	return errors.New("it is not known: murmur2 and crc32 are")
}

// Key returns the only key that records can have which go to the channel, and the partitioner of those who produce them. ok is false
// when there may be others, or none. It is for the same moments as CanFill.
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

// key returns the key of a channel that the template can yield, if the key is all that varies, and that once.
func (t *template) key(channel, topic string) (key string, ok bool) {
	before, after := "", ""
	for i := range t.parts {
		switch p := &t.parts[i]; {
		case p.kind == partKey && !ok:
			ok = true
		case p.open() || p.kind == partPartition:
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
