package source

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// template is a route's channel, parsed once. It is fixed after parseTemplate.
type template struct {
	topic       string // Of the route; empty: any.
	parts       []templatePart
	partitioner Partitioner // Of the topic's producers.
}

type templatePart struct {
	kind partKind
	text string // Literal text, or a header's name.
}

type partKind uint8

const (
	kindText partKind = iota
	kindTopic
	kindPartition
	kindKey
	kindHeader
)

const headerPrefix = "header."

func parseRoutes(routes []Route) ([]*template, error) {
	out := make([]*template, 0, len(routes))
	for i, r := range routes {
		t, err := parseTemplate(r)
		if err != nil {
			return nil, fmt.Errorf("routes[%d].channel %q: %w", i, r.Channel, err)
		}
		if t.partitioner, err = parsePartitioner(r.Partitioner); err != nil {
			return nil, fmt.Errorf("routes[%d].%w", i, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func parseTemplate(r Route) (*template, error) {
	t := &template{topic: r.Topic}
	if !utf8.ValidString(r.Channel) {
		return nil, fmt.Errorf("not valid UTF-8")
	}
	literal := 0
	for rest := r.Channel; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		switch {
		case open < 0:
			open = len(rest)
		case rest[open] == '}':
			return nil, fmt.Errorf("a } without its { at byte %d", len(r.Channel)-len(rest)+open)
		}
		if open > 0 {
			t.parts = append(t.parts, templatePart{kind: kindText, text: rest[:open]})
			literal += open
			rest = rest[open:]
			continue
		}
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return nil, fmt.Errorf("the { at byte %d is not closed", len(r.Channel)-len(rest))
		}
		p, err := parsePlaceholder(rest[1:end])
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, p)
		rest = rest[end+1:]
	}
	if len(t.parts) == 0 {
		return nil, fmt.Errorf("empty: a channel needs a name, such as {topic}")
	}
	if literal > channelBytesMax {
		return nil, fmt.Errorf("%d bytes of text, a channel's name has at most %d", literal, channelBytesMax)
	}
	return t, nil
}

func parsePlaceholder(name string) (templatePart, error) {
	switch {
	case name == "topic":
		return templatePart{kind: kindTopic}, nil
	case name == "partition":
		return templatePart{kind: kindPartition}, nil
	case name == "key":
		return templatePart{kind: kindKey}, nil
	case strings.HasPrefix(name, headerPrefix) && len(name) > len(headerPrefix):
		return templatePart{kind: kindHeader, text: name[len(headerPrefix):]}, nil
	default:
		return templatePart{}, fmt.Errorf("unknown placeholder {%s}: {topic}, {key}, {partition} and {header.NAME} are known", name)
	}
}

// matchRoute returns the first route for the topic, nil when there is none.
func matchRoute(routes []*template, topic string) *template {
	for _, t := range routes {
		if t.topic == "" || t.topic == topic {
			return t
		}
	}
	return nil
}

// static reports whether topic and partition alone name the channel.
func (t *template) static() bool {
	for i := range t.parts {
		if k := t.parts[i].kind; k == kindKey || k == kindHeader {
			return false
		}
	}
	return true
}

// render appends the channel of a record to dst. It allocates nothing when dst has room for channelBytesMax bytes.
func (t *template) render(dst []byte, topic string, partition int32, r *record) (name []byte, why Unplaced, ok bool) {
	for i := range t.parts {
		p := &t.parts[i]
		var b []byte
		switch p.kind {
		case kindText:
			dst = append(dst, p.text...)
			continue
		case kindTopic:
			dst = append(dst, topic...)
			continue
		case kindPartition:
			dst = strconv.AppendInt(dst, int64(partition), 10)
			continue
		case kindKey:
			b = r.key
		case kindHeader:
			b = r.header(p.text)
		}
		if len(b) == 0 {
			return dst, UnplacedMissing, false
		}
		if len(dst)+len(b) > channelBytesMax {
			return dst, UnplacedLength, false
		}
		if !utf8.Valid(b) {
			return dst, UnplacedText, false
		}
		dst = append(dst, b...)
	}
	if len(dst) > channelBytesMax {
		return dst, UnplacedLength, false
	}
	return dst, 0, true
}

// has reports whether a placeholder of the kind is in the template.
func (t *template) has(kind partKind) bool {
	for i := range t.parts {
		if t.parts[i].kind == kind {
			return true
		}
	}
	return false
}

// aroundKey returns what stands before and after the key in the channels of the topic, if that is all beside the key, once.
func (t *template) aroundKey(topic string) (before, after string, ok bool) {
	for i := range t.parts {
		text := ""
		switch p := &t.parts[i]; p.kind {
		case kindText:
			text = p.text
		case kindTopic:
			text = topic
		case kindKey:
			if ok {
				return "", "", false
			}
			ok = true
		default:
			return "", "", false
		}
		if ok {
			after += text
		} else {
			before += text
		}
	}
	return before, after, ok
}

// pattern returns an expression that matches every channel which t can name for the topic and the partition, empty for any: keys and
// headers stand for any text. It is for the moments when the layout changes, never for a record.
func (t *template) pattern(topic, partition string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?s)^")
	for i := range t.parts {
		switch p := &t.parts[i]; p.kind {
		case kindText:
			b.WriteString(regexp.QuoteMeta(p.text))
		case kindTopic:
			b.WriteString(regexp.QuoteMeta(topic))
		case kindPartition:
			if partition == "" {
				partition = "[0-9]+"
			}
			b.WriteString(partition)
		default:
			b.WriteString(".+")
		}
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String())
}
