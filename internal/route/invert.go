package route

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The headers of records that wsd writes for somebody who publishes. Their values are texts.
const (
	HeaderClient    = "wsd-client" // The id of the client's connection.
	HeaderUser      = "wsd-user"   // The client's user.
	HeaderTagPrefix = "wsd-tag-"   // Followed by a tag's name.

	HeaderConnInfo = "wsd-conn-info" // What others may know of the client, as JSON.
	HeaderChanInfo = "wsd-chan-info" // What others may know of the client in this channel, as JSON.
)

// Limits of these headers. wsd writes nothing that exceeds them, and does not believe what does.
const (
	TagsMax      = 16
	TagBytesMax  = 255  // Of a tag's name, and of its value.
	InfoBytesMax = 4096 // Of HeaderConnInfo, and of HeaderChanInfo.
)

// Written is where a record has to be written to go to a channel.
type Written struct {
	Topic     string
	Partition int32  // AnyPartition if the channel does not name one.
	Key       []byte // Nil if the channel does not name one.
}

// Inverter finds for a channel where its records have to be written. Any goroutine may use it.
type Inverter struct {
	table  *Table
	topics map[string]*Topic // That are read by name.
	fixed  map[string][]Written
	open   []inverse // Those whose channels have a key, a partition or a topic that only a pattern names.
}

// inverse is a template of a rule, for one topic or for those that a pattern matches.
type inverse struct {
	topic    string   // Empty: pattern matches it.
	pattern  *Pattern // Nil: topic is it.
	rule     *rule
	template *template
}

// NotInvertible is a rule to whose channels nothing can be published.
type NotInvertible struct {
	Rule    int
	Channel string // Its template.
	Problem string
}

// Invert returns the Inverter for the topics, which are names or patterns, and what it cannot invert.
func (t *Table) Invert(topics []string) (*Inverter, []NotInvertible, error) {
	inv := &Inverter{table: t, topics: make(map[string]*Topic), fixed: make(map[string][]Written)}
	var faults []NotInvertible
	add := func(topic string, pattern *Pattern, r *rule) {
		problem := r.notInvertible(pattern != nil)
		if t.overrides != nil && (pattern != nil || t.overrides.covers(topic)) && t.overrides.takesIdentity() {
			problem = "overrides are enabled for the topic with a header that says who published (" + HeaderClient +
				", " + HeaderUser + " or " + HeaderTagPrefix + "...): the record would go there; give overrides " +
				"other headers"
		}
		one := NotInvertible{Rule: r.index, Channel: r.channel.String(), Problem: problem}
		switch {
		case r.drop:
		case problem != "":
			if !slices.Contains(faults, one) {
				faults = append(faults, one)
			}
		case pattern == nil && r.anyKey && r.channel.fixed() && !r.channel.has(partPartition):
			if name := r.channel.fixedName(topic, 0); name != nil {
				w := Written{Topic: topic, Partition: AnyPartition}
				inv.fixed[string(name)] = append(inv.fixed[string(name)], w)
			}
		default:
			inv.open = append(inv.open, inverse{topic, pattern, r, &r.channel})
		}
	}
	for _, text := range topics {
		p, err := ParseTopic(text)
		if err != nil {
			return nil, nil, fmt.Errorf("topic %q: %w", text, err)
		}
		if p.Exact() {
			topic := t.Topic(text)
			inv.topics[text] = topic
			for _, r := range topic.rules {
				add(text, nil, r)
			}
			continue
		}
		for i := range t.rules {
			r := &t.rules[i]
			switch {
			case r.anyTopic || !r.topic.Exact():
				add("", &p, r)
			case p.FindsTopic(r.topic.String()):
				add(r.topic.String(), nil, r)
			}
			if r.anyTopic && r.unconditional() {
				break
			}
		}
	}
	return inv, faults, nil
}

// takesIdentity reports whether a header that says who published would choose a record's receivers.
func (o *overrides) takesIdentity() bool {
	return slices.ContainsFunc([]string{o.channels, o.client, o.user, o.everybody}, func(name string) bool {
		return name == HeaderClient || name == HeaderUser || name == HeaderConnInfo || name == HeaderChanInfo ||
			strings.HasPrefix(name, HeaderTagPrefix)
	})
}

// has reports whether the template has a part of a kind.
func (t *template) has(kind partKind) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.kind == kind })
}

// String returns the template as it is written.
func (t *template) String() string {
	var b strings.Builder
	for i := range t.parts {
		switch p := &t.parts[i]; p.kind {
		case partText:
			b.WriteString(p.text)
		case partTopic:
			b.WriteString("{topic}")
		case partPartition:
			b.WriteString("{partition}")
		case partKey:
			b.WriteString("{key}")
		case partHeader:
			b.WriteString("{" + headerPrefix + p.text + "}")
		case partField:
			b.WriteString("{" + fieldPrefix + p.text + "}")
		}
	}
	return b.String()
}

// notInvertible returns why the channels of a rule do not name where their records are written, or an empty text.
func (r *rule) notInvertible(anyTopic bool) string {
	count := make(map[partKind]int)
	variable := false // Whether the part before may be any text.
	for i := range r.channel.parts {
		p := &r.channel.parts[i]
		varies := p.kind == partKey || p.kind == partPartition || p.kind == partTopic && anyTopic
		switch {
		case p.kind == partHeader || p.kind == partField:
			return "the channel depends on a header or on the value of a record"
		case varies && variable:
			return "nothing is between two parts of the channel, so that it cannot be taken apart"
		case varies && count[p.kind] > 0:
			return "the channel has a part twice"
		}
		if variable = varies; varies {
			count[p.kind]++
		}
	}
	if anyTopic && count[partTopic] > 0 && len(count) > 1 {
		return "the topic is read by a pattern, and the channel has more than {topic}: a channel could name several " +
			"topics"
	}
	if anyTopic && count[partTopic] == 0 {
		return "the topic is read by a pattern, and the channel does not name it"
	}
	if !r.anyKey && r.key.Exact() && count[partKey] == 0 {
		return "" // The key is the rule's.
	}
	if !r.anyKey && count[partKey] == 0 {
		return "the rule is for keys that match a pattern, and the channel does not name the key"
	}
	for i := range r.conditions {
		if r.conditions[i].header != "" && r.conditions[i].test != TestAbsent {
			return "the rule is for records with a header that publications do not have"
		}
	}
	return ""
}

// Find returns where records of the channel have to be written. It reports false if no rule can be inverted for the
// channel, or if several topics could have the record. The result still has to be confirmed for a record (Goes): an
// earlier rule may decide by its value.
func (inv *Inverter) Find(channel string) (w Written, ok bool) {
	found := inv.fixed[channel]
	if len(found) > 1 && slices.ContainsFunc(found, func(f Written) bool { return f.Topic != found[0].Topic }) {
		return w, false
	}
	if len(found) > 0 {
		w, ok = found[0], true
	}
	for i := range inv.open {
		one, fits := inv.open[i].match(channel)
		switch {
		case !fits:
		case ok && one.Topic != w.Topic:
			return Written{}, false
		case !ok:
			w, ok = one, true
		}
	}
	return w, ok
}

// match takes a channel apart.
func (in *inverse) match(channel string) (w Written, ok bool) {
	w = Written{Topic: in.topic, Partition: AnyPartition}
	if !in.parts(channel, in.template.parts, &w) {
		return w, false
	}
	if in.pattern != nil && (!in.pattern.FindsTopic(w.Topic) ||
		!in.rule.anyTopic && !in.rule.topic.MatchString(w.Topic)) {
		return w, false
	}
	if !in.rule.anyKey {
		if w.Key == nil {
			w.Key = []byte(in.rule.key.String())
		}
		return w, in.rule.key.Match(w.Key)
	}
	return w, true
}

// partitionDigits are those of the highest number of a partition.
const partitionDigits = 10

// parts matches the rest of a channel with the rest of a template. A part that varies is followed by text or by
// nothing; it takes as much as it can.
func (in *inverse) parts(rest string, parts []part, w *Written) bool {
	if len(parts) == 0 {
		return rest == ""
	}
	p := &parts[0]
	if p.kind == partText || p.kind == partTopic && in.pattern == nil {
		rest, ok := strings.CutPrefix(rest, p.fill(in.topic, 0))
		return ok && in.parts(rest, parts[1:], w)
	}
	end := len(rest)
	if p.kind == partPartition {
		end = min(end, partitionDigits)
	}
	for ; end > 0; end-- {
		if !utf8.ValidString(rest[:end]) || !in.parts(rest[end:], parts[1:], w) {
			continue
		}
		switch text := rest[:end]; p.kind {
		case partKey:
			w.Key = []byte(text)
		case partTopic:
			w.Topic = text
		default:
			n, err := strconv.ParseInt(text, 10, 32)
			if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
				continue
			}
			w.Partition = int32(n)
		}
		return true
	}
	return false
}

// Goes reports whether a record that is written as w says goes to the channel and to nothing else.
func (inv *Inverter) Goes(w *Written, rec *Record, channel string, scratch *Placement) bool {
	topic := inv.topics[w.Topic]
	if topic == nil {
		topic = inv.table.Topic(w.Topic)
	}
	topic.Place(scratch, max(w.Partition, 0), rec)
	return scratch.To == ToChannels && scratch.Why == Placed && len(scratch.Channels) == 1 &&
		bytes.Equal(scratch.Channels[0], []byte(channel))
}

// Names are channels: one, or all that begin alike.
type Names struct {
	Text   string
	Prefix bool // Text is only the beginning.
}

// Written returns the channels whose records Find may have written to the topic, or more.
func (inv *Inverter) Written(topic string) (list []Names) {
	for name, written := range inv.fixed {
		if slices.ContainsFunc(written, func(w Written) bool { return w.Topic == topic }) {
			list = append(list, Names{Text: name})
		}
	}
	for i := range inv.open {
		in := &inv.open[i]
		if in.topic == topic || in.pattern != nil && in.pattern.FindsTopic(topic) {
			list = append(list, Names{Text: in.template.prefix(topic), Prefix: true})
		}
	}
	return list
}
