package route

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// Rule says where records go that meet all its conditions. The first rule that matches a record decides.
type Rule struct {
	Topic   string      // The topic's name or a pattern (see Pattern). Empty means any topic.
	Key     string      // The key or a pattern. Empty means any key, or none.
	Headers []Condition // Conditions on headers.
	Fields  []Condition // Conditions on fields of a JSON value.

	Channel string  // A template: text with {topic}, {key}, {partition}, {header.NAME} and {json.FIELD}.
	Drop    bool    // Drop the records. Then Channel is empty.
	OnError OnError // What to do with a record that lacks what the template needs.

	// Partitioner is how producers choose a partition by the key. It shows which single partition feeds a channel that
	// is named by a key. By default it is not known.
	Partitioner Partitioner
}

// OnError is what to do with a record that its rule matches but cannot place.
type OnError struct {
	Action  ErrorAction
	Channel string // For ErrorChannel: the channel's name, which is not a template.
}

// ErrorAction is what a rule does with a record that it cannot place.
type ErrorAction uint8

// The actions.
const (
	ErrorSkip    ErrorAction = iota // Count the record and continue with the next one.
	ErrorChannel                    // Count the record and deliver it to OnError.Channel.
	ErrorStop                       // Stop reading the partition, before this record.
)

// rule is a compiled Rule.
type rule struct {
	index      int // Its index in the configuration.
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

// readsHeaders reports whether the rule may look at a record's headers.
func (r *rule) readsHeaders() bool {
	for i := range r.conditions {
		if r.conditions[i].header != "" {
			return true
		}
	}
	for i := range r.channel.parts {
		if r.channel.parts[i].kind == partHeader {
			return true
		}
	}
	return false
}

// parser compiles rules and collects faults.
type parser struct {
	fields []string // The paths of all JSON fields that the rules read.
	faults []*Fault
	prefix string // The key of the rule being compiled.
}

func (p *parser) fault(field, value, problem, remedy string) {
	key := p.prefix
	if field != "" {
		key += "." + field
	}
	p.faults = append(p.faults, &Fault{Key: key, Value: value, Problem: problem, Remedy: remedy})
}

// rule checks and compiles r.
func (p *parser) rule(index int, r *Rule) rule {
	p.prefix = fmt.Sprintf("routes[%d]", index)
	out := rule{index: index, anyTopic: r.Topic == "", anyKey: r.Key == "", drop: r.Drop, onError: r.OnError.Action,
		partitioner: r.Partitioner}
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
		p.fault("", "", fmt.Sprintf("the rule has conditions on %d headers and JSON fields, at most %d are allowed", n,
			conditionsMax), "")
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

// channel compiles where the rule's records go.
func (p *parser) channel(r *Rule, out *rule) {
	switch {
	case r.Drop && r.Channel != "":
		p.fault("channel", r.Channel, "a rule that drops its records cannot have a channel", "remove channel or drop")
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
		if part := &out.channel.parts[i]; part.kind == partField {
			part.field = p.field(part.text, "channel")
		}
	}
}

// onError compiles what happens to records that the rule cannot place.
func (p *parser) onError(r *Rule, out *rule) {
	name := r.OnError.Channel
	switch {
	case r.Drop && r.OnError != (OnError{}):
		p.fault("on_error", "", "a rule that drops its records cannot have on_error", "remove on_error or drop")
	case r.OnError.Action != ErrorChannel:
	case name == "":
		p.fault("on_error.channel", "", "the channel is empty", "write a channel's name")
	case len(name) > ChannelBytesMax || !utf8.ValidString(name):
		p.fault("on_error.channel", name, fmt.Sprintf("not a channel's name, which is UTF-8 with at most %d bytes",
			ChannelBytesMax), "")
	case strings.ContainsAny(name, "{}"):
		p.fault("on_error.channel", name, "a template could fail again", "write a channel's name without braces")
	}
	out.fallback = []byte(name)
}

// header compiles a condition on a header.
func (p *parser) header(c Condition) condition {
	key := "headers." + c.Name
	if c.Name == "" || len(c.Name) > nameBytesMax || !utf8.ValidString(c.Name) {
		p.fault("headers", c.Name, "not a header's name", fmt.Sprintf("write 1 to %d bytes of UTF-8", nameBytesMax))
	}
	out := condition{test: c.Test, header: c.Name}
	switch c.Test {
	case TestText:
		out.text = p.text(key, c.Value)
	case TestExists, TestAbsent:
	default:
		p.fault(key, c.Value, "a header's value must be a text", "put quotes around it")
	}
	return out
}

// fieldCondition compiles a condition on a JSON field.
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
			p.fault(key, c.Value, "not a JSON number", "put quotes around a text")
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

// field returns the index of a JSON field, adding it if it is new.
func (p *parser) field(path, key string) int {
	for i, known := range p.fields {
		if known == path {
			return i
		}
	}
	if len(p.fields) == fieldsMax {
		p.fault(key, path, "the rules read more than "+strconv.Itoa(fieldsMax)+" different JSON fields", "")
		return 0
	}
	p.fields = append(p.fields, path)
	return len(p.fields) - 1
}

// topicBytesMax is the longest name of a topic in Kafka.
const topicBytesMax = 249

// ParseTopic parses the name of a topic, or a pattern for names.
func ParseTopic(text string) (Pattern, error) {
	p, err := ParsePattern(text)
	if err != nil || !p.Exact() {
		return p, err
	}
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	forbidden := func(c rune) bool { return !strings.ContainsRune(allowed, c) }
	if text == "" || text == "." || text == ".." || len(text) > topicBytesMax || strings.ContainsFunc(text, forbidden) {
		return p, errors.New(
			"not a topic's name, which has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'; a pattern begins with 're:'")
	}
	return p, nil
}

// internalPrefix begins the names of topics that Kafka, or software built on it, keeps for itself.
const internalPrefix = "__"

// FindsTopic reports whether p, which comes from ParseTopic, means the topic. A pattern never means an internal topic.
func (p *Pattern) FindsTopic(name string) bool {
	return p.MatchString(name) && (p.Exact() || !strings.HasPrefix(name, internalPrefix))
}

// unconditional reports whether the rule matches every record of the topics that it is for.
func (r *rule) unconditional() bool { return r.anyKey && len(r.conditions) == 0 }

// matches reports whether a record of a topic that the rule is for meets the conditions.
func (r *rule) matches(dst *Placement, fields []string, rec *Record) bool {
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

// place sets dst to where the rule sends a record that it matches.
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
