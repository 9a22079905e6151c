package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"wsd/internal/route"
)

// Route is a rule that chooses the channel of a record.
type Route route.Rule

// UnmarshalText reads [TOPIC=]CHANNEL and never fails. Only a file can express the other parts of a rule.
func (r *Route) UnmarshalText(text []byte) error {
	topic, channel, found := strings.Cut(string(text), "=")
	if !found {
		topic, channel = "", string(text)
	}
	*r = Route{Topic: topic, Channel: channel}
	return nil
}

// String returns the rule in the form that UnmarshalText reads, or as one line of YAML if that form cannot express it.
func (r Route) String() string {
	switch {
	case !r.simple() || strings.Contains(r.Topic, "="):
		text, err := yaml.Marshal(r.node())
		if err != nil {
			return "BUG: " + err.Error()
		}
		return strings.TrimSpace(string(text))
	case r.Topic == "":
		return r.Channel
	}
	return r.Topic + "=" + r.Channel
}

// simple reports whether the rule has only a topic and a channel.
func (r *Route) simple() bool {
	return r.Key == "" && r.Headers == nil && r.Fields == nil && !r.Drop && r.OnError == route.OnError{}
}

// Rules returns Routes for package route.
func (c *Config) Rules() []route.Rule {
	rules := make([]route.Rule, len(c.Routes))
	for i, r := range c.Routes {
		rules[i] = route.Rule(r)
		rules[i].Partitioner = route.Partitioner(c.Kafka.Partitioner)
	}
	return rules
}

// RouteOverrides returns Overrides for package route, or nil if they are not enabled.
func (c *Config) RouteOverrides() *route.Overrides {
	o := c.Overrides
	if !o.Enabled {
		return nil
	}
	return &route.Overrides{Topics: o.Topics, Channels: o.Channels, Client: o.Client, User: o.User,
		Everybody: o.Broadcast, ChannelsMax: o.ChannelsMax}
}

// routeFault is a fault in a rule of a file.
type routeFault struct {
	line    int
	problem string
}

// routeReader reads a rule from YAML, and collects its faults.
type routeReader struct{ faults []routeFault }

func (r *routeReader) wrong(n *yaml.Node, format string, args ...any) {
	r.faults = append(r.faults, routeFault{n.Line, fmt.Sprintf(format, args...)})
}

// each calls fn with the keys and values of a mapping. Its keys must be in known, unless known is empty. what names the
// mapping in messages.
func (r *routeReader) each(n *yaml.Node, what string, known []string, fn func(name string, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "%s must be a mapping", what)
		return
	}
	var seen []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolved(n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode || len(known) > 0 && !slices.Contains(known, key.Value):
			r.wrong(key, "%s", unknownKey(key.Value, what, known))
		case slices.Contains(seen, key.Value):
			r.wrong(key, "duplicate key %q in %s; remove one", key.Value, what)
		default:
			seen = append(seen, key.Value)
			fn(key.Value, value)
		}
	}
}

// text returns a value that must be a text, and an empty text for null.
func (r *routeReader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode {
		r.wrong(n, "%s must be a text", what)
		return ""
	}
	if n.Tag == "!!null" { // Its text may be ~, which is no name.
		return ""
	}
	return n.Value
}

func (r *routeReader) boolean(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		r.wrong(n, "%s must be true or false", what)
		return false
	}
	return isTrue(n)
}

// isTrue reads a !!bool. YAML allows true, True and TRUE.
func isTrue(n *yaml.Node) bool { return strings.EqualFold(n.Value, "true") }

// routeOf reads a rule. With faults it is incomplete.
func routeOf(n *yaml.Node) (out Route, faults []routeFault) {
	r := &routeReader{}
	r.each(n, "the route", []string{"match", "topic", "channel", "drop", "on_error"},
		func(name string, value *yaml.Node) {
			switch name {
			case "match":
				r.match(value, &out)
			case "topic":
				r.topic(value, &out)
			case "channel":
				out.Channel = r.text(value, "channel")
			case "drop":
				out.Drop = r.boolean(value, "drop")
			case "on_error":
				out.OnError = r.onError(value)
			}
		})
	return out, r.faults
}

// topic reads a topic, which may be a key of match or of the route itself.
func (r *routeReader) topic(n *yaml.Node, out *Route) {
	text := r.text(n, "topic")
	if out.Topic != "" && text != "" {
		r.wrong(n, "topic is set both in match and next to it; remove one")
		return
	}
	if text != "" {
		out.Topic = text
	}
}

func (r *routeReader) match(n *yaml.Node, out *Route) {
	r.each(n, "match", []string{"topic", "key", "headers", "json"}, func(name string, value *yaml.Node) {
		switch name {
		case "topic":
			r.topic(value, out)
		case "key":
			if out.Key = r.text(value, "key"); out.Key == "" {
				r.wrong(value, "key is empty; write a key or a pattern, such as re:.+ for any key")
			}
		case "headers":
			r.each(value, "headers", nil, func(name string, value *yaml.Node) {
				out.Headers = append(out.Headers, r.condition(name, value))
			})
		case "json":
			r.each(value, "json", nil, func(name string, value *yaml.Node) {
				out.Fields = append(out.Fields, r.condition(name, value))
			})
		}
	})
}

// condition reads the condition on a header or a JSON field: a value, {exists: true} or {exists: false}.
func (r *routeReader) condition(name string, n *yaml.Node) route.Condition {
	c := route.Condition{Name: name}
	if n.Kind == yaml.MappingNode {
		c.Test = route.TestAbsent
		if len(n.Content) == 0 {
			r.wrong(n, "the condition on %s is empty; write a value, or {exists: true}", name)
		}
		r.each(n, name, []string{"exists"}, func(_ string, value *yaml.Node) {
			if r.boolean(value, "exists") {
				c.Test = route.TestExists
			}
		})
		return c
	}
	c.Value = n.Value
	switch {
	case n.Kind != yaml.ScalarNode:
		r.wrong(n, "the condition on %s must not be a list; write a value, or {exists: true}", name)
	case n.Tag == "!!str":
	case n.Tag == "!!int", n.Tag == "!!float":
		c.Test = route.TestNumber
	case n.Tag == "!!bool":
		c.Test, c.Value = route.TestBool, fmt.Sprint(isTrue(n))
	default:
		r.wrong(n, "the condition on %s is %q, which is not a text, number or boolean; put a text in quotes, or "+
			"write {exists: true}", name, n.Value)
	}
	return c
}

func (r *routeReader) onError(n *yaml.Node) (out route.OnError) {
	if n.Kind == yaml.MappingNode {
		out.Action = route.ErrorChannel
		r.each(n, "on_error", []string{"channel"}, func(_ string, value *yaml.Node) {
			out.Channel = r.text(value,
				"channel")
		})
		return out
	}
	switch text := r.text(n, "on_error"); text {
	case "skip":
	case "stop":
		out.Action = route.ErrorStop
	default:
		r.wrong(n, "on_error is %q; write skip, stop or {channel: NAME}", text)
	}
	return out
}

// node returns the rule as YAML.
func (r *Route) node() *yaml.Node {
	if r.simple() {
		return mapping(text("topic"), text(r.Topic), text("channel"), text(r.Channel))
	}
	match := mapping()
	add := func(to *yaml.Node, name string, value *yaml.Node) { to.Content = append(to.Content, text(name), value) }
	if r.Topic != "" {
		add(match, "topic", text(r.Topic))
	}
	if r.Key != "" {
		add(match, "key", text(r.Key))
	}
	for _, part := range []struct {
		name string
		list []route.Condition
	}{{"headers", r.Headers}, {"json", r.Fields}} {
		if len(part.list) == 0 {
			continue
		}
		conditions := mapping()
		for _, c := range part.list {
			add(conditions, c.Name, conditionNode(c))
		}
		add(match, part.name, conditions)
	}
	out := mapping()
	if len(match.Content) > 0 {
		add(out, "match", match)
	}
	if r.Drop {
		add(out, "drop", plain("!!bool", "true"))
	} else {
		add(out, "channel", text(r.Channel))
	}
	switch r.OnError.Action {
	case route.ErrorChannel:
		add(out, "on_error", mapping(text("channel"), text(r.OnError.Channel)))
	case route.ErrorStop:
		add(out, "on_error", text("stop"))
	case route.ErrorSkip:
	}
	return out
}

func conditionNode(c route.Condition) *yaml.Node {
	switch c.Test {
	case route.TestExists, route.TestAbsent:
		return mapping(text("exists"), plain("!!bool", fmt.Sprint(c.Test == route.TestExists)))
	case route.TestNumber:
		return plain("", c.Value)
	case route.TestBool:
		return plain("!!bool", c.Value)
	default:
		return text(c.Value)
	}
}

func mapping(content ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle, Content: content}
}

func plain(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}
