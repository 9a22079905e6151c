package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"wsd/internal/route"
)

// checkRoutes checks the rules, and the overrides if they are enabled.
func (l *loader) checkRoutes(c *Config) {
	_, faults := route.Parse(c.Rules(), c.RouteOverrides())
	for _, f := range faults {
		option := f.Key
		if strings.HasPrefix(option, "routes") {
			option = "routes"
		}
		// checkRecovery reports a wrong kafka.partitioner.
		if l.bad[option] || strings.HasSuffix(f.Key, ".partitioner") {
			continue
		}
		value := f.Value
		if value != "" {
			value = cut(value)
		}
		l.fault(Fault{Key: f.Key, Value: value, Origin: l.routeOrigin(f.Key, option), Problem: f.Problem,
			Remedy: f.Remedy})
	}
}

// routeOrigin returns where a part of a rule comes from. key is like routes[2].headers.NAME, or the option.
func (l *loader) routeOrigin(key, option string) string {
	lines := l.loaded.given[option].lines
	var index int
	if _, err := fmt.Sscanf(key, "routes[%d]", &index); err != nil || index >= len(lines) {
		return l.loaded.Origin(option)
	}
	_, part, _ := strings.Cut(key, "].")
	for {
		if origin, ok := lines[index][part]; ok {
			return origin
		}
		// The next larger part, in the end the rule.
		part = part[:max(strings.LastIndexByte(part, '.'), 0)]
	}
}

// routeLines returns where the parts of a rule are in a file, in the words of Loaded.Origin. A part is named as in a
// fault of package route: "" is the rule itself, channel its channel, headers.NAME a condition.
func routeLines(path string, n *yaml.Node) map[string]string {
	lines := map[string]string{"": fileOrigin(path, n.Line)}
	var walk func(n *yaml.Node, prefix string)
	walk = func(n *yaml.Node, prefix string) {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], resolved(n.Content[i+1])
			if key.Value == "match" && prefix == "" {
				walk(value, "")
				continue
			}
			lines[prefix+key.Value] = fileOrigin(path, key.Line)
			if prefix == "" { // Not below a condition.
				walk(value, key.Value+".")
			}
		}
	}
	walk(n, "")
	return lines
}

// reviewRoutes warns of rules that are valid and that no record can meet.
func (l *loader) reviewRoutes(c *Config) {
	var topics []route.Pattern
	for _, t := range c.Kafka.Topics {
		if p, err := route.ParseTopic(t); err == nil {
			topics = append(topics, p)
		}
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		key := fmt.Sprintf("routes[%d]", i)
		warn := func(part, value, problem, remedy string) {
			l.loaded.Warnings = append(l.loaded.Warnings, Fault{Key: key + part, Value: cut(value),
				Origin: l.routeOrigin(key+part, "routes"), Problem: problem, Remedy: remedy})
		}
		if j := slices.IndexFunc(c.Routes[:i], func(earlier Route) bool { return earlier.covers(r) }); j >= 0 {
			warn("", r.String(), fmt.Sprintf("can never match: routes[%d] decides for every record that it is for", j),
				fmt.Sprintf("move it before routes[%d], or remove it", j))
			continue
		}
		// wsd dev reads topics of its own, too.
		if l.needTopics && r.Topic != "" && len(topics) > 0 && !anyRead(topics, r.Topic) {
			warn(".topic", r.Topic, "can never match: kafka.topics does not name such a topic",
				"add it to kafka.topics, or remove the rule")
		}
	}
	if !l.needTopics || !c.Overrides.Enabled || len(topics) == 0 {
		return
	}
	for _, t := range c.Overrides.Topics {
		if !anyRead(topics, t) {
			l.warn("overrides.topics", t, "kafka.topics does not name such a topic",
				"add it to kafka.topics, or remove it here")
		}
	}
}

// anyRead reports whether a topic that is read may be one that text, a name or a pattern, stands for.
func anyRead(topics []route.Pattern, text string) bool {
	want, err := route.ParseTopic(text)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(topics, func(t route.Pattern) bool {
		switch {
		case t.Exact():
			return want.MatchString(t.String())
		case want.Exact():
			return t.FindsTopic(want.String())
		}
		return true // Two patterns may have a topic in common.
	})
}

// covers reports whether every record that later matches is decided by r, which comes before it.
func (r *Route) covers(later *Route) bool {
	if r.Topic != "" && r.Topic != later.Topic {
		p, err := route.ParseTopic(r.Topic)
		l, errLater := route.ParseTopic(later.Topic)
		if later.Topic == "" || err != nil || errLater != nil || !l.Exact() || !p.MatchString(later.Topic) {
			return false
		}
	}
	if r.Key != "" && r.Key != later.Key {
		return false
	}
	return subset(r.Headers, later.Headers) && subset(r.Fields, later.Fields)
}

// subset reports whether all conditions of a are also in b.
func subset(a, b []route.Condition) bool {
	return !slices.ContainsFunc(a, func(c route.Condition) bool { return !slices.Contains(b, c) })
}
