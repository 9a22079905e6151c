package route

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// Rule says where the records go that meet all its conditions. The first rule that fits a record decides.
type Rule struct {
	Topic   string      // Name of the topic or a pattern (see Pattern); empty: any.
	Key     string      // Key or a pattern; empty: any key, and none.
	Headers []Condition // On headers.
	Fields  []Condition // On fields of a value that is JSON.

	Channel string  // Template: text with {topic}, {key}, {partition}, {header.NAME} and {json.FIELD}.
	Drop    bool    // In place of Channel: such records go nowhere.
	OnError OnError // What becomes of a record that has not what the template needs.

	// How those who produce the records choose a partition by the key, so that a channel named by a key is known to be fed by one
	// partition alone. Default: not known.
	Partitioner Partitioner
}

// OnError is what becomes of a record that its rule fits but cannot place.
type OnError struct {
	Action  ErrorAction
	Channel string // With ErrorChannel: its name, which is no template.
}

// ErrorAction is one way to go on.
type ErrorAction uint8

// The ways.
const (
	ErrorSkip    ErrorAction = iota // Count the record, and go on with the next one.
	ErrorChannel                    // Count it, and give it to OnError.Channel.
	ErrorStop                       // Read nothing more from its partition, this record neither.
)

// rule is a Rule made ready.
type rule struct {
	index      int // In the configuration.
	topic      Pattern
	anyTopic   bool
	key        Pattern
	anyKey     bool
	conditions []condition
	channel    template
	drop       bool
	onError    ErrorAction
	fallback   []byte // The channel of ErrorChannel.

	partitioner Partitioner
}

// parser makes rules ready, and collects faults.
type parser struct {
	fields []string // Paths of all JSON fields that are asked for.
	faults []*Fault
	prefix string // Key of the rule being read.
}

func (p *parser) fault(field, value, problem, remedy string) {
	key := p.prefix
	if field != "" {
		key += "." + field
	}
	p.faults = append(p.faults, &Fault{Key: key, Value: value, Problem: problem, Remedy: remedy})
}

// rule checks r and makes it ready.
func (p *parser) rule(index int, r *Rule) rule {
	p.prefix = fmt.Sprintf("routes[%d]", index)
	out := rule{index: index, anyTopic: r.Topic == "", anyKey: r.Key == "", drop: r.Drop, onError: r.OnError.Action, partitioner: r.Partitioner}
	var err error
	if r.Topic != "" {
		if out.topic, err = ParseTopic(r.Topic); err != nil {
			p.fault("topic", r.Topic, err.Error(), "")
		}
	}
	if out.key, err = ParsePattern(r.Key); err != nil {
		p.fault("key", r.Key, err.Error(), "")
	}
	if n := len(r.Headers) + len(r.Fields); n > conditionsMax {
		p.fault("", "", fmt.Sprintf("it asks for %d headers and JSON fields, at most %d are allowed", n, conditionsMax), "")
		return out
	}
	for _, c := range r.Headers {
		out.conditions = append(out.conditions, p.header(c))
	}
	for _, c := range r.Fields {
		out.conditions = append(out.conditions, p.fieldCondition(c))
	}
	if err := r.Partitioner.check(); err != nil {
		p.fault("partitioner", string(r.Partitioner), err.Error(), "")
	}
	p.channel(r, &out)
	p.onError(r, &out)
	return out
}

// channel reads where the rule's records go.
func (p *parser) channel(r *Rule, out *rule) {
	switch {
	case r.Drop && r.Channel != "":
		p.fault("channel", r.Channel, "a rule that drops its records has no channel", "leave out channel or drop")
		return
	case r.Drop:
		return
	case r.Channel == "":
		p.fault("channel", "", "the channel is empty", "write a template such as {topic} or user.{key}, or drop: true")
		return
	}
	var err error
	if out.channel, err = parseTemplate(r.Channel); err != nil {
		p.fault("channel", r.Channel, err.Error(), "")
	}
	for i := range out.channel.parts {
		if at := &out.channel.parts[i]; at.kind == partField {
			at.field = p.field(at.text, "channel")
		}
	}
}

// onError reads what becomes of records that the rule cannot place.
func (p *parser) onError(r *Rule, out *rule) {
	name := r.OnError.Channel
	switch {
	case r.Drop && r.OnError != (OnError{}):
		p.fault("on_error", "", "a rule that drops its records has no errors", "leave out on_error or drop")
	case r.OnError.Action != ErrorChannel:
	case name == "":
		p.fault("on_error.channel", "", "the channel is empty", "write a channel's name")
	case len(name) > ChannelBytesMax || !utf8.ValidString(name):
		p.fault("on_error.channel", name, fmt.Sprintf("it is no channel's name of UTF-8 with at most %d bytes", ChannelBytesMax), "")
	case strings.ContainsAny(name, "{}"):
		p.fault("on_error.channel", name, "it is a name and no template, which could fail again", "write it without braces")
	}
	out.fallback = []byte(name)
}

// header reads a condition on a header.
func (p *parser) header(c Condition) condition {
	key := "headers." + c.Name
	if c.Name == "" || len(c.Name) > nameBytesMax || !utf8.ValidString(c.Name) {
		p.fault("headers", c.Name, "it is no header's name", fmt.Sprintf("write 1 to %d bytes of UTF-8", nameBytesMax))
	}
	out := condition{test: c.Test, header: c.Name}
	switch c.Test {
	case TestText:
		out.text = p.text(key, c.Value)
	case TestExists, TestAbsent:
	default:
		p.fault(key, c.Value, "a header's value is a text", "put quotes around it")
	}
	return out
}

// fieldCondition reads a condition on a JSON field.
func (p *parser) fieldCondition(c Condition) condition {
	key := "json." + c.Name
	path, fault := fieldPath(c.Name)
	if fault != nil {
		p.fault("json", fault.Value, fault.Problem, fault.Remedy)
	}
	out := condition{test: c.Test, field: p.field(path, "json"), raw: c.Value, want: gjson.False}
	switch c.Test {
	case TestText:
		out.text = p.text(key, c.Value)
	case TestNumber:
		var ok bool
		if out.number, ok = parseNumber(c.Value); !ok {
			p.fault(key, c.Value, "it is no number of JSON", "put quotes around a text")
		}
	case TestBool:
		if c.Value == "true" {
			out.want = gjson.True
		}
	case TestExists, TestAbsent:
	}
	return out
}

func (p *parser) text(key, text string) Pattern {
	pattern, err := ParsePattern(text)
	if err != nil {
		p.fault(key, text, err.Error(), "")
	}
	return pattern
}

// field returns the index of a JSON field.
func (p *parser) field(path, key string) int {
	for i, known := range p.fields {
		if known == path {
			return i
		}
	}
	if len(p.fields) == fieldsMax {
		p.fault(key, path, "the rules look at more than "+strconv.Itoa(fieldsMax)+" different JSON fields", "")
		return 0
	}
	p.fields = append(p.fields, path)
	return len(p.fields) - 1
}

// topicBytesMax is the longest name of a topic in Kafka.
const topicBytesMax = 249

// ParseTopic reads the name of a topic, or a pattern of names.
func ParseTopic(text string) (Pattern, error) {
	p, err := ParsePattern(text)
	if err != nil || !p.Exact() {
		return p, err
	}
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	if text == "" || text == "." || text == ".." || len(text) > topicBytesMax || strings.ContainsFunc(text, func(c rune) bool { return !strings.ContainsRune(allowed, c) }) {
		return p, errors.New("it is no topic's name: a name has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', a pattern begins with re: and goes on")
	}
	return p, nil
}

// internalPrefix begins the names of topics that Kafka and what runs on it keep for themselves.
const internalPrefix = "__"

// FindsTopic reports whether the name of a topic to be read, or a pattern of names, means the topic. No pattern means one that Kafka keeps for itself.
func (p *Pattern) FindsTopic(name string) bool {
	return p.MatchString(name) && (p.Exact() || !strings.HasPrefix(name, internalPrefix))
}

// unconditional reports whether the rule fits every record of the topics that it fits.
func (r *rule) unconditional() bool { return r.anyKey && len(r.conditions) == 0 }

// fits reports whether a record of a topic that the rule fits meets the conditions.
func (r *rule) fits(dst *Placement, fields []string, rec *Record) bool {
	if !r.anyKey && (rec.Key == nil || !r.key.Match(rec.Key)) {
		return false
	}
	for i := range r.conditions {
		if !r.conditions[i].holds(dst, fields, rec) {
			return false
		}
	}
	return true
}

// place says in dst where a record goes that the rule fits.
func (r *rule) place(dst *Placement, fields []string, topic string, partition int32, rec *Record) {
	dst.Rule = r.index
	if r.drop {
		dst.To = ToDrop
		return
	}
	name, why := r.channel.render(dst, fields, topic, partition, rec)
	if why == Placed {
		dst.channel(name)
		return
	}
	dst.Why = why
	switch r.onError {
	case ErrorChannel:
		dst.channel(r.fallback)
	case ErrorStop:
		dst.To = ToStop
	case ErrorSkip:
	}
}
