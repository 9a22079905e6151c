package route

import "fmt"

// Table holds all rules and the overrides, checked and in order.
type Table struct {
	rules     []rule
	overrides *overrides // nil: none.
	fields    []string   // Paths of the JSON fields that rules ask for.
}

// New checks the rules and the overrides, nil for none. No rule at all means one: channel {topic}. The error, joined of a *Fault for each
// mistake, names the rule as routes[i], and what to do.
func New(rules []Rule, o *Overrides) (*Table, error) {
	t, faults := Parse(rules, o)
	return t, joined(faults)
}

// Parse is New that returns each fault.
func Parse(rules []Rule, o *Overrides) (*Table, []*Fault) {
	if len(rules) == 0 {
		rules = []Rule{{Channel: "{topic}"}}
	}
	p := &parser{}
	if len(rules) > RulesMax {
		p.faults = append(p.faults, &Fault{Key: "routes", Problem: fmt.Sprintf("%d rules, at most %d are allowed", len(rules), RulesMax)})
		return nil, p.faults
	}
	t := &Table{rules: make([]rule, 0, len(rules))}
	for i := range rules {
		t.rules = append(t.rules, p.rule(i, &rules[i]))
	}
	t.fields = p.fields
	var faults []*Fault
	t.overrides, faults = o.check()
	if faults = append(p.faults, faults...); len(faults) > 0 {
		return nil, faults
	}
	return t, nil
}

// Topic is what of a table concerns one topic.
type Topic struct {
	name      string
	rules     []*rule    // Those that can fit a record of the topic, in order.
	overrides *overrides // nil: none for this topic.
	fields    []string   // Of the table.
}

// Topic returns the table as it applies to the topic. It is for the moment when a topic is first seen, not for each record.
func (t *Table) Topic(name string) *Topic {
	out := &Topic{name: name, fields: t.fields}
	if t.overrides != nil && t.overrides.covers(name) {
		out.overrides = t.overrides
	}
	for i := range t.rules {
		r := &t.rules[i]
		if !r.anyTopic && !r.topic.MatchString(name) {
			continue
		}
		out.rules = append(out.rules, r)
		if r.unconditional() {
			break // No later rule is asked.
		}
	}
	return out
}

// Place decides where a record of the partition goes, and says so in dst.
func (t *Topic) Place(dst *Placement, partition int32, rec *Record) {
	dst.reset()
	if t.overrides != nil && t.overrides.place(dst, rec) {
		return
	}
	for _, r := range t.rules {
		if !r.unconditional() && !r.fits(dst, t.fields, rec) {
			continue
		}
		r.place(dst, t.fields, t.name, partition, rec)
		dst.forget()
		return
	}
	dst.forget()
	dst.Why = UnplacedNoRoute
}
