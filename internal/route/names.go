package route

import (
	"strconv"
	"strings"

	"wsd/internal/routing"
)

// AnyPartition stands for all partitions of a topic, and for those that it may get.
const AnyPartition = -1

// Always returns the channel that every record of the partition goes to, whatever it holds; nil when records differ.
func (t *Topic) Always(partition int32) []byte {
	if t.overrides != nil || len(t.rules) == 0 {
		return nil
	}
	if r := t.rules[0]; r.unconditional() && !r.drop && r.channel.fixed() {
		return r.channel.fixedName(t.name, partition)
	}
	return nil
}

// Fixed returns the channels that topic and partition alone name: records of the partition may go there, whatever they hold beside what the
// rules ask for. A name may be there twice.
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

// Open reports whether some channel's name depends on what a record holds.
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

// listsChannels reports whether a header of a record may name any channel.
func (t *Topic) listsChannels() bool { return t.overrides != nil && t.overrides.channels != "" }

// CanFill reports whether some record, of whatever partition, can go to the channel because of what it holds: its key, for example. When it
// says no, none can. It is for the moments when the layout changes or a client comes, not for each record.
func (t *Topic) CanFill(channel string) bool {
	if routing.Reserved(channel) {
		return false
	}
	if t.listsChannels() {
		return true
	}
	for _, r := range t.rules {
		if !r.channel.fixed() && r.channel.canBe(channel, t.name, AnyPartition) {
			return true
		}
	}
	return false
}

// CanName reports whether some record of the partition, or with AnyPartition of any, can go to the channel. When it says no, none can. It is for the
// same moments as CanFill.
func (t *Topic) CanName(partition int32, channel string) bool {
	if routing.Reserved(channel) {
		return false
	}
	if t.listsChannels() {
		return true
	}
	for _, r := range t.rules {
		if !r.drop && r.channel.canBe(channel, t.name, partition) || r.fallsBackTo(channel) {
			return true
		}
	}
	return false
}

// canBe reports whether the template can yield name. What a record fills in stands for any text but none.
func (t *template) canBe(name, topic string, partition int32) bool {
	// The usual matching of a pattern with wildcards: each literal at its earliest place behind a wildcard, and when a later one does not
	// fit, the last wildcard takes a byte more. Its cost is at most the product of both lengths, which are bounded.
	at := 0              // In name.
	retry, from := -1, 0 // The last wildcard's part, and where in name what follows it was last tried.
	for i := 0; ; {
		if i == len(t.parts) {
			if at == len(name) {
				return true
			}
		} else if p := &t.parts[i]; p.open() || p.kind == partPartition && partition == AnyPartition {
			if at == len(name) {
				return false // Nothing is left for it, nor would there be if earlier ones took more.
			}
			at++
			retry, from = i, at
			i++
			continue
		} else if text := p.fill(topic, partition); strings.HasPrefix(name[at:], text) {
			at += len(text)
			i++
			continue
		}
		if retry < 0 || from == len(name) {
			return false
		}
		from++
		at, i = from, retry+1
	}
}

// fill returns the text of a part that no record fills.
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
