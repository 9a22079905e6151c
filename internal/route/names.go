package route

import (
	"slices"
	"strconv"
	"strings"

	"wsd/internal/routing"
)

// AnyTopic stands for a topic that is not known by name.
const AnyTopic = ""

// AnyPartition stands for all partitions of a topic, including those that it may get later.
const AnyPartition = -1

// Always returns the channel that every record of the partition goes to. It returns nil if the channel depends on the
// record.
func (t *Topic) Always(partition int32) []byte {
	if t.overrides != nil || len(t.rules) == 0 {
		return nil
	}
	if r := t.rules[0]; r.unconditional() && !r.drop && r.channel.fixed() {
		return r.channel.fixedName(t.name, partition)
	}
	return nil
}

// Fixed returns the channels that topic and partition alone name and that records of the partition may go to. A name
// may occur twice.
func (t *Topic) Fixed(partition int32) (names [][]byte) {
	for _, r := range t.rules {
		if !r.drop && r.channel.fixed() {
			if name := r.channel.fixedName(t.name, partition); name != nil {
				names = append(names, name)
			}
		}
		if r.onError == ErrorChannel {
			names = append(names, r.fallback)
		}
	}
	return names
}

// Open reports whether a channel's name may depend on the record.
func (t *Topic) Open() bool {
	if t.listsChannels() {
		return true
	}
	for _, r := range t.rules {
		if !r.channel.fixed() {
			return true
		}
	}
	return false
}

// listsChannels reports whether a record's header may name any channel.
func (t *Topic) listsChannels() bool { return t.overrides != nil && t.overrides.channels != "" }

// CanFill reports whether a record of any partition may go to the channel because of its own content, such as its key.
// If it returns false, no record can. It is for when the topology changes or a client subscribes, and not for each
// record.
func (t *Topic) CanFill(channel string) bool {
	if routing.Reserved(channel) {
		return false
	}
	if t.listsChannels() {
		return true
	}
	for _, r := range t.rules {
		if !r.channel.fixed() && r.canName(channel, t.name, AnyPartition) {
			return true
		}
	}
	return false
}

// Prefixes returns texts with one of which a channel begins for which CanFill returns true; one of them may be empty.
func (t *Topic) Prefixes() (list []string) {
	if t.listsChannels() {
		return []string{""}
	}
	for _, r := range t.rules {
		if prefix := r.channel.prefix(t.name); !r.channel.fixed() && !slices.Contains(list, prefix) {
			list = append(list, prefix)
		}
	}
	return list
}

// prefix returns the text with which all names of the template begin.
func (t *template) prefix(topic string) string {
	var b strings.Builder
	for i := range t.parts {
		switch p := &t.parts[i]; p.kind {
		case partText:
			b.WriteString(p.text)
		case partTopic:
			b.WriteString(topic)
		default:
			return b.String()
		}
	}
	return b.String()
}

// CanName reports whether a record of the partition, which may be AnyPartition, may go to the channel. If it returns
// false, no record can. Like CanFill, it is not for each record.
func (t *Topic) CanName(partition int32, channel string) bool {
	if routing.Reserved(channel) {
		return false
	}
	if t.listsChannels() {
		return true
	}
	for _, r := range t.rules {
		if r.canName(channel, t.name, partition) || r.fallsBackTo(channel) {
			return true
		}
	}
	return false
}

// canName reports whether a record that the rule matches may go to the channel. Where the channel says which key the
// record has, the rule has to be for that key.
func (r *rule) canName(channel, topic string, partition int32) bool {
	if r.drop || !r.channel.canBe(channel, topic, partition) {
		return false
	}
	if r.anyKey {
		return true
	}
	key, ok := r.channel.key(channel, topic)
	return !ok || r.key.MatchString(key)
}

// canBe reports whether the template can name the channel. A part that a record fills stands for any text except the
// empty one.
func (t *template) canBe(name, topic string, partition int32) bool {
	// This is the usual matching of a pattern with wildcards. Each literal matches at the earliest place after a
	// wildcard. If a later literal does not match, the last wildcard takes one more byte. The cost is at most the
	// product of both lengths, which are bounded.
	pos := 0             // The position in name.
	retry, from := -1, 0 // The last wildcard's part, and where in name the part after it was last tried.
	for i := 0; ; {
		if i == len(t.parts) {
			if pos == len(name) {
				return true
			}
		} else if p := &t.parts[i]; p.unknown(topic, partition) {
			if pos == len(name) {
				// Nothing is left for the wildcard. Nothing would be left if earlier ones took more, either.
				return false
			}
			pos++
			retry, from = i, pos
			i++
			continue
		} else if text := p.fill(topic, partition); strings.HasPrefix(name[pos:], text) {
			pos += len(text)
			i++
			continue
		}
		if retry < 0 || from == len(name) {
			return false
		}
		from++
		pos, i = from, retry+1
	}
}

// unknown reports whether the part may be any text, where the topic may be AnyTopic and the partition AnyPartition.
func (p *part) unknown(topic string, partition int32) bool {
	return p.open() || p.kind == partPartition && partition == AnyPartition || p.kind == partTopic && topic == AnyTopic
}

// fill returns the text of a part that does not depend on the record.
func (p *part) fill(topic string, partition int32) string {
	switch p.kind {
	case partTopic:
		return topic
	case partPartition:
		return strconv.Itoa(int(partition))
	default:
		return p.text
	}
}

// fallsBackTo reports whether records that the rule cannot place go to the channel.
func (r *rule) fallsBackTo(channel string) bool {
	return r.onError == ErrorChannel && string(r.fallback) == channel
}
