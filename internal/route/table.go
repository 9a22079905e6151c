package route

import "fmt"

// Table has all rules, in order, and the overrides.
type Table struct {
	rules     []rule
	overrides *overrides // Nil means none.
	fields    []string   // The paths of the JSON fields that the rules read.
}

// New compiles the rules and the overrides, which may be nil. If there are no rules, there is one with the channel
// {topic}. The error joins a *Fault for each mistake. A fault names the rule as routes[i], and what to do.
func New(rules []Rule, o *Overrides) (*Table, error) {
	t, faults := Parse(rules, o)
	return t, joined(faults)
}

// Parse is New, but returns each fault.
func Parse(rules []Rule, o *Overrides) (*Table, []*Fault) {
	if len(rules) == 0 {
		rules = []Rule{{Channel: "{topic}"}}
	}
	p := &parser{}
	if len(rules) > RulesMax {
		p.faults = append(p.faults, &Fault{Key: "routes",
			Problem: fmt.Sprintf("there are %d rules, at most %d are allowed", len(rules), RulesMax)})
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

// Topic is the part of a table that concerns one topic.
type Topic struct {
	name      string
	rules     []*rule    // The rules that can match a record of the topic, in order.
	overrides *overrides // Nil means none for this topic.
	fields    []string   // The table's.
	headers   bool       // Whether a rule or an override may look at headers.
}

// Topic returns the part of the table that concerns the topic. It is for when a topic is first seen, and not for each
// record.
func (t *Table) Topic(name string) *Topic {
	out := &Topic{name: name, fields: t.fields}
	if t.overrides != nil && t.overrides.covers(name) {
		out.overrides, out.headers = t.overrides, true
	}
	for i := range t.rules {
		r := &t.rules[i]
		if !r.anyTopic && !r.topic.MatchString(name) {
			continue
		}
		out.rules = append(out.rules, r)
		out.headers = out.headers || r.readsHeaders()
		if r.unconditional() {
			break // No later rule can decide.
		}
	}
	return out
}

// Place sets dst to where a record of the partition goes.
func (t *Topic) Place(dst *Placement, partition int32, rec *Record) {
	dst.reset()
	if t.headers && rec.Headers.tooMany() {
		dst.badHeader(UnplacedHeader)
		return
	}
	if t.overrides != nil && t.overrides.place(dst, rec) {
		return
	}
	for _, r := range t.rules {
		if !r.unconditional() && !r.matches(dst, t.fields, rec) {
			continue
		}
		r.place(dst, t.fields, t.name, partition, rec)
		dst.forget()
		return
	}
	dst.forget()
	dst.Why = UnplacedNoRoute
}
