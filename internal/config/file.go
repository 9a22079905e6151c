package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fileMax bounds what is read: a configuration has some hundred lines.
const fileMax = 1 << 20

// readFile reads the file that was asked for, else the default one if it exists.
func (l *loader) readFile(in Input) {
	path := in.File
	if path == "" {
		path = in.DefaultFile
	}
	if path == "" {
		return
	}
	text, err := readLimited(path)
	if in.File == "" && errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		l.fault(Fault{Key: path, Problem: "the configuration file cannot be read: " + explainFile(err), Remedy: "name another one by --config"})
		return
	}
	l.loaded.File = path
	l.parse(path, text)
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err == nil && len(text) > fileMax {
		err = fmt.Errorf("it has more than %d bytes", fileMax)
	}
	return text, err
}

// parse takes the values of a YAML text.
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
		wrong("it is no valid YAML: " + explainYAML(err))
		return
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		wrong("it holds more than one YAML document")
		return
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return
	}
	if root.Kind != yaml.MappingNode {
		wrong("it is no mapping of keys to values")
		return
	}
	l.section(path, "", root)
}

// section takes the values of a mapping whose keys begin with prefix.
func (l *loader) section(path, prefix string, node *yaml.Node) {
	seen := make(map[string]bool)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		key := prefix + name.Value
		origin := fmt.Sprintf("file %s:%d", path, name.Line)
		if seen[key] {
			l.fault(Fault{Key: key, Origin: origin, Problem: "it is there twice", Remedy: "leave one"})
			continue
		}
		seen[key] = true
		value = resolved(value)
		if _, known := l.options[key]; known {
			l.value(key, origin, value)
			continue
		}
		switch {
		case !l.isSection(key):
			l.fault(Fault{Key: cut(key), Origin: origin, Problem: "there is no such option", Remedy: didYouMean(key, l.keys)})
		case value.Kind == yaml.MappingNode:
			l.section(path, key+".", value)
		case value.Tag != "!!null":
			f := Fault{Key: key, Origin: origin, Problem: "it is a section, which holds options, and no value",
				Remedy: "write its options below it, indented"}
			if !l.hasSecret(key) { // Else it may be a password that was meant for one of its options.
				f.Value = cut(value.Value)
			}
			l.fault(f)
		}
	}
}

// resolved returns what an alias stands for, else the node itself.
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

// value takes one option's value. A key without a value leaves the option as it is.
func (l *loader) value(key, origin string, node *yaml.Node) {
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
			wrong("it takes one value and no list")
			return
		}
		nodes = node.Content
	}
	g := given{origin: origin, strict: true, texts: []string{}}
	if o.Kind == kindRoute {
		g.routes = make([]Route, len(nodes))
	}
	for i, n := range nodes {
		if n := resolved(n); o.Kind == kindRoute && n.Kind == yaml.MappingNode {
			r, problem := routeOf(n)
			if problem != "" {
				l.fault(Fault{Key: fmt.Sprintf("%s[%d]", key, i), Origin: origin, Problem: problem})
				r = Route{Drop: true} // The others are looked at, too.
			}
			g.routes[i] = r
			g.texts = append(g.texts, r.String())
			continue
		}
		text, problem := o.text(n)
		if problem != "" {
			wrong(problem)
			return
		}
		g.texts = append(g.texts, text)
		if o.Kind == kindRoute {
			_ = g.routes[i].UnmarshalText([]byte(text)) // It takes every text.
		}
	}
	l.loaded.given[key] = g
}

// text returns a node's value as the flag would be written.
func (o Option) text(n *yaml.Node) (text, problem string) {
	n = resolved(n)
	if n.Kind == yaml.MappingNode && o.Kind == kindPolicy {
		return pairText(n, "policy", "channel", "policy")
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", "it must be a plain value"
	}
	if o.Kind == kindRoute && !strings.Contains(n.Value, "=") {
		return "=" + n.Value, ""
	}
	return n.Value, ""
}

// pairText returns a mapping with the keys first and second, a what, in the form FIRST=SECOND. One that is left out is empty.
func pairText(n *yaml.Node, what, first, second string) (text, problem string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, resolved(n.Content[i+1])
		switch {
		case name != first && name != second:
			return "", fmt.Sprintf("the %s in line %d has an unknown key %q: %s and %s are known", what, n.Line, name, first, second)
		case seen[name]:
			return "", fmt.Sprintf("the %s in line %d has %s twice: leave one", what, n.Line, name)
		case value.Kind != yaml.ScalarNode:
			return "", fmt.Sprintf("the %s in line %d: %s is no text", what, n.Line, name)
		}
		seen[name] = true
	}
	return pairValue(n, first) + "=" + pairValue(n, second), ""
}

// pairValue returns the text of a key in a mapping, empty when it is not there or has no value.
func pairValue(n *yaml.Node, name string) string {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if value := resolved(n.Content[i+1]); n.Content[i].Value == name && value.Tag != "!!null" { // Its text may be ~, which is no name.
			return value.Value
		}
	}
	return ""
}

// explainYAML is the parser's message without the name of an unknown anchor: a password that begins with * is taken for one.
func explainYAML(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.Contains(text, "unknown anchor") {
		return "a value that begins with * names an anchor that is not there; put quotes around it if it is a text"
	}
	return text
}
