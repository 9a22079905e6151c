package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Show writes the effective configuration as YAML, with a comment after each value that says where it comes from.
// Secrets are redacted. A password that was read from password_file stays empty, because that option stands for it.
func (l *Loaded) Show(w io.Writer) error {
	c := l.Config
	for _, o := range Options() {
		if o.Secret && !l.written(o.Key) {
			reflect.ValueOf(&c).Elem().FieldByIndex(o.index).SetZero()
		}
	}
	return write(w, &c, func(o Option, _, value *yaml.Node) { value.LineComment = l.Origin(o.Key) })
}

// Defaults writes a configuration file with every option at its default, with its help as a comment.
func Defaults(w io.Writer) error {
	var c Config
	for _, o := range Options() {
		if o.Default == "" {
			continue
		}
		if err := o.decode(reflect.ValueOf(&c).Elem().FieldByIndex(o.index),
			given{texts: []string{o.Default}}); err != nil {
			return fmt.Errorf("BUG: default of %s: %w", o.Key, err)
		}
	}
	return write(w, &c, func(o Option, key, _ *yaml.Node) { key.HeadComment = wrap(o.Help, 110) })
}

// write writes a configuration as YAML. describe may add comments to the key and the value of an option.
func write(w io.Writer, c *Config, describe func(o Option, key, value *yaml.Node)) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	sections := map[string]*yaml.Node{"": root}
	for _, o := range Options() {
		value := reflect.ValueOf(c).Elem().FieldByIndex(o.index)
		section, name := "", o.Key
		if i := strings.LastIndexByte(o.Key, '.'); i >= 0 {
			section, name = o.Key[:i], o.Key[i+1:]
		}
		key, node := text(name), o.node(value)
		describe(o, key, node)
		in := sectionOf(sections, section)
		in.Content = append(in.Content, key, node)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return encoder.Close()
}

// sectionOf returns the mapping of a section, and creates it first if necessary.
func sectionOf(sections map[string]*yaml.Node, name string) *yaml.Node {
	if node, ok := sections[name]; ok {
		return node
	}
	parent, last := "", name
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		parent, last = name[:i], name[i+1:]
	}
	node := &yaml.Node{Kind: yaml.MappingNode}
	in := sectionOf(sections, parent)
	in.Content = append(in.Content, text(last), node)
	sections[name] = node
	return node
}

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// node returns an option's value as YAML.
func (o Option) node(value reflect.Value) *yaml.Node {
	if !o.List {
		return o.scalar(value)
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for i := range value.Len() {
		list.Content = append(list.Content, o.scalar(value.Index(i)))
	}
	return list
}

func (o Option) scalar(value reflect.Value) *yaml.Node {
	switch o.Kind {
	case kindRoute:
		r := value.Interface().(Route)
		return r.node()
	case kindPolicy:
		p := value.Interface().(SlowPolicy)
		return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle,
			Content: []*yaml.Node{text("channel"), text(p.Channel), text("policy"), text(p.Policy)}}
	case kindBool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(value.Interface())}
	case kindNumber:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: fmt.Sprint(value.Interface())}
	}
	return text(fmt.Sprint(value.Interface()))
}

// wrap breaks a text into lines of at most width bytes.
func wrap(s string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(s) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
