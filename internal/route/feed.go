package route

import (
	"fmt"

	"wsd/internal/routing"
)

// Feeds returns a function that reports whether a record of one of the topics, which are names or patterns, may ever go
// to a channel. If it returns false, no record can. It may return true for a channel that none will. Any goroutine may
// call it; it is for when a client subscribes.
func (t *Table) Feeds(topics []string) (func(channel string) bool, error) {
	var known []*Topic
	var patterns []Pattern
	for _, text := range topics {
		p, err := ParseTopic(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("topic %q: %w", text, err)
		case p.Exact():
			known = append(known, t.Topic(text))
		default:
			patterns = append(patterns, p)
		}
	}
	return func(channel string) bool {
		for _, topic := range known {
			if topic.CanName(AnyPartition, channel) {
				return true
			}
		}
		for i := range patterns {
			if t.feedsByPattern(&patterns[i], channel) {
				return true
			}
		}
		return false
	}, nil
}

// feedsByPattern reports whether a record of a topic that matches the pattern may go to the channel.
func (t *Table) feedsByPattern(pattern *Pattern, channel string) bool {
	if routing.Reserved(channel) {
		return false
	}
	if t.overrides != nil && t.overrides.channels != "" {
		return true // Whichever topics the overrides are for, one may match both patterns.
	}
	for i := range t.rules {
		r := &t.rules[i]
		switch {
		case !r.anyTopic && r.topic.Exact():
			// The rule is for one topic.
			if name := r.topic.String(); pattern.FindsTopic(name) && t.Topic(name).CanName(AnyPartition, channel) {
				return true
			}
			continue
		case r.fallsBackTo(channel):
			return true
		case r.drop:
		case len(r.channel.parts) == 1 && r.channel.parts[0].kind == partTopic:
			// The channel is the topic.
			if pattern.FindsTopic(channel) && (r.anyTopic || r.topic.MatchString(channel)) {
				return true
			}
		case r.canName(channel, AnyTopic, AnyPartition):
			return true
		}
		if r.anyTopic && r.unconditional() {
			return false // No later rule can decide.
		}
	}
	return false
}
