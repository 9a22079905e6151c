package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"go.yaml.in/yaml/v3"

	"wsd/internal/reload"
)

// readFile reads the requested file, or the default file if none was requested and that exists.
func (l *loader) readFile(in Input) {
	path := in.File
	if path == "" {
		path = in.DefaultFile
	}
	if path == "" {
		return
	}
	text, err := reload.Read(path)
	if in.File == "" && errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		l.fault(Fault{Key: path, Problem: "cannot read the configuration file: " + explainFile(err),
			Remedy: "name another file with --config"})
		return
	}
	l.loaded.File = path
	l.parse(path, text)
}

// parse reads the values of a YAML text.
func (l *loader) parse(path string, text []byte) {
	wrong := func(problem string) {
		l.fault(Fault{Key: path, Problem: problem, Remedy: "`wsd config defaults` prints a valid file"})
	}
	var document yaml.Node
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return // Empty, or only comments.
	}
	if err != nil {
		wrong("not valid YAML: " + explainYAML(err))
		return
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		wrong("contains more than one YAML document")
		return
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return
	}
	if root.Kind != yaml.MappingNode {
		wrong("not a mapping of keys to values")
		return
	}
	l.section(path, "", root)
}

// section reads the values of a mapping. prefix is the key of the section with a dot, or empty at the top.
func (l *loader) section(path, prefix string, node *yaml.Node) {
	seen := make(map[string]bool)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		key := prefix + name.Value
		origin := fileOrigin(path, name.Line)
		if seen[key] {
			l.fault(Fault{Key: key, Origin: origin, Problem: "duplicate key", Remedy: "remove one"})
			continue
		}
		seen[key] = true
		value = resolved(value)
		if _, known := l.options[key]; known {
			l.value(path, key, origin, value)
			continue
		}
		switch {
		case !l.isSection(key):
			l.fault(Fault{Key: cut(key), Origin: origin, Problem: "no such option", Remedy: didYouMean(key, l.keys)})
		case value.Kind == yaml.MappingNode:
			l.section(path, key+".", value)
		case value.Tag != "!!null":
			f := Fault{Key: key, Origin: origin, Problem: "a section of options, not an option",
				Remedy: "write its options below it, indented"}
			if !l.hasSecret(key) { // Otherwise the value may be a password that belongs to one of the options.
				f.Value = cut(value.Value)
			}
			l.fault(f)
		}
	}
}

// fileOrigin returns the origin of a value in a file, as Loaded.Origin returns it.
func fileOrigin(path string, line int) string { return fmt.Sprintf("file %s:%d", path, line) }

// resolved returns the node that an alias refers to, or n itself if it is not an alias.
func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func (l *loader) isSection(key string) bool {
	for _, k := range l.keys {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

func (l *loader) hasSecret(section string) bool {
	for _, k := range l.keys {
		if l.options[k].Secret && strings.HasPrefix(k, section+".") {
			return true
		}
	}
	return false
}

// value reads the value of one option. A key without a value leaves the option unset.
func (l *loader) value(path, key, origin string, node *yaml.Node) {
	o := l.options[key]
	wrong := func(problem string) {
		shown := node.Value
		if o.Secret {
			shown = ""
		}
		l.fault(Fault{Key: key, Value: shown, Origin: origin, Problem: problem})
	}
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return
	}
	nodes := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		if !o.List {
			wrong("takes one value, not a list")
			return
		}
		nodes = node.Content
	}
	g := given{origin: origin, strict: true, texts: []string{}}
	if o.Kind == kindRoute {
		g.routes = make([]Route, len(nodes))
	}
	bad := false
	for i, n := range nodes {
		if n := resolved(n); o.Kind == kindRoute && n.Kind == yaml.MappingNode {
			r, faults := routeOf(n)
			for _, f := range faults {
				l.fault(Fault{Key: fmt.Sprintf("%s[%d]", key, i), Origin: fileOrigin(path, f.line), Problem: f.problem})
			}
			if len(faults) > 0 && r.Channel == "" && !r.Drop {
				r.Channel = "{topic}" // What is there is checked as well, but not what may be missing for that fault.
			}
			g.routes[i] = r
			g.lines = append(g.lines, routeLines(path, n))
			g.texts = append(g.texts, r.String())
			continue
		}
		text, problem := o.text(n)
		if problem != "" {
			wrong(problem)
			bad = true
			continue
		}
		g.texts = append(g.texts, text)
		if o.Kind == kindRoute {
			_ = g.routes[i].UnmarshalText([]byte(text)) // Never fails.
			g.lines = append(g.lines, map[string]string{"": fileOrigin(path, n.Line)})
		}
	}
	if !bad {
		l.loaded.given[key] = g
	}
}

// text returns the value of a node as it would be written in a flag.
func (o Option) text(n *yaml.Node) (text, problem string) {
	n = resolved(n)
	if n.Kind == yaml.MappingNode && o.Kind == kindPolicy {
		return pairText(n, "policy", "channel", "policy")
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", "must be a plain value, not a list or a mapping, and not null"
	}
	if o.Kind == kindRoute && !strings.Contains(n.Value, "=") {
		return "=" + n.Value, ""
	}
	return n.Value, ""
}

// pairText returns a mapping with the keys first and second in the form FIRST=SECOND, with an empty text for a missing
// key. what names the mapping in messages.
func pairText(n *yaml.Node, what, first, second string) (text, problem string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, resolved(n.Content[i+1])
		switch {
		case name != first && name != second:
			return "", fmt.Sprintf("line %d: %s", n.Line, unknownKey(name, "the "+what, []string{first, second}))
		case seen[name]:
			return "", fmt.Sprintf("line %d: duplicate key %q in the %s; remove one", n.Line, name, what)
		case value.Kind != yaml.ScalarNode:
			return "", fmt.Sprintf("line %d: %s of the %s must be a text", n.Line, name, what)
		}
		seen[name] = true
	}
	return pairValue(n, first) + "=" + pairValue(n, second), ""
}

// unknownKey says that a mapping has a key that it may not have, and which one may be meant.
func unknownKey(key, what string, known []string) string {
	if best := nearest(key, known); best != "" {
		return fmt.Sprintf("unknown key %q in %s; did you mean %q?", key, what, best)
	}
	return fmt.Sprintf("unknown key %q in %s; possible keys: %s", key, what, strings.Join(known, ", "))
}

// pairValue returns the text of a key in a mapping, or an empty text if the key is missing or has no value.
func pairValue(n *yaml.Node, name string) string {
	for i := 0; i+1 < len(n.Content); i += 2 {
		// The text of a null may be ~, which is not a name.
		if value := resolved(n.Content[i+1]); n.Content[i].Value == name && value.Tag != "!!null" {
			return value.Value
		}
	}
	return ""
}

// explainYAML returns the parser's message without the name of an unknown anchor, which may be a password that begins
// with *.
func explainYAML(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.Contains(text, "unknown anchor") {
		return "a value that begins with * refers to an anchor that does not exist; if it is meant as text, put it " +
			"in quotes"
	}
	return strings.Replace(text, "found character that cannot start any token",
		"found a character that cannot start a value; tabs are not allowed for indentation", 1)
}
