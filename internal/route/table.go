package route

import "fmt"

// Rule says where the records that it fits go. The first rule that fits a record decides.
type Rule struct {
	Topic   string // Exact name of the topic; empty: any.
	Channel string // Template: text with {topic}, {key}, {partition} and {header.NAME}.

	// How those who produce the records choose a partition by the key, so that a channel named by a key is known to be fed by one
	// partition alone. Default: not known.
	Partitioner Partitioner
}

// Table holds all rules, checked and in order.
type Table struct {
	rules []rule
}

// rule is a Rule made ready.
type rule struct {
	index   int // In the configuration.
	topic   string
	channel template

	partitioner Partitioner
}

// New checks the rules. An error names the rule as routes[i], and what to do. No rule at all means one: channel {topic}.
func New(rules []Rule) (*Table, error) {
	if len(rules) == 0 {
		rules = []Rule{{Channel: "{topic}"}}
	}
	t := &Table{rules: make([]rule, 0, len(rules))}
	for i, r := range rules {
		channel, err := parseTemplate(r.Channel)
		if err != nil {
			return nil, fmt.Errorf("routes[%d].channel %q: %w", i, r.Channel, err)
		}
		if err := r.Partitioner.check(); err != nil {
			return nil, fmt.Errorf("routes[%d].%w", i, err)
		}
		t.rules = append(t.rules, rule{index: i, topic: r.Topic, channel: channel, partitioner: r.Partitioner})
	}
	return t, nil
}

// Topic is what of a table concerns one topic.
type Topic struct {
	name  string
	rules []*rule // Those that can fit a record of the topic, in order.
}

// Topic returns the table as it applies to the topic. It is for the moment when a topic is first seen, not for each record.
func (t *Table) Topic(name string) *Topic {
	out := &Topic{name: name}
	for i := range t.rules {
		if r := &t.rules[i]; r.topic == "" || r.topic == name {
			out.rules = append(out.rules, r)
			break // It fits every record of the topic: no later rule is asked.
		}
	}
	return out
}

// Place decides where a record of the partition goes, and says so in dst.
func (t *Topic) Place(dst *Placement, partition int32, rec *Record) {
	dst.reset()
	if len(t.rules) == 0 {
		dst.Why = UnplacedNoRoute
		return
	}
	r := t.rules[0]
	dst.Rule = r.index
	name, why := r.channel.render(dst.names, t.name, partition, rec)
	if why != Placed {
		dst.Why = why
		return
	}
	dst.names = name
	dst.Channels = append(dst.Channels, name)
}
