package route

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"

	"wsd/internal/routing"
)

// ChannelBytesMax is how long a channel's name may be in the client protocol.
const ChannelBytesMax = 255

// template is a channel's name with placeholders, parsed once.
type template struct {
	parts []part
}

type part struct {
	kind  partKind
	text  string // The literal text, the header's name, or the field's path.
	field int    // The index of the field in the table.
}

type partKind uint8

const (
	partText partKind = iota
	partTopic
	partPartition
	partKey
	partHeader
	partField
)

const (
	headerPrefix = "header."
	fieldPrefix  = "json."
)

func parseTemplate(text string) (t template, err error) {
	if !utf8.ValidString(text) {
		return t, errors.New("not valid UTF-8")
	}
	literal := 0
	for rest := text; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		switch {
		case open < 0:
			open = len(rest)
		case rest[open] == '}':
			return t, fmt.Errorf("the } at byte %d has no {", len(text)-len(rest)+open)
		}
		if open > 0 {
			t.parts = append(t.parts, part{kind: partText, text: rest[:open]})
			literal += open
			rest = rest[open:]
			continue
		}
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return t, fmt.Errorf("the { at byte %d is not closed", len(text)-len(rest))
		}
		p, err := parsePlaceholder(rest[1:end])
		if err != nil {
			return t, err
		}
		t.parts = append(t.parts, p)
		rest = rest[end+1:]
	}
	if len(t.parts) == 0 {
		return t, errors.New("the template is empty: write a name such as {topic}")
	}
	if literal > ChannelBytesMax {
		return t, fmt.Errorf("the template has %d bytes of text, a channel's name has at most %d", literal,
			ChannelBytesMax)
	}
	return t, nil
}

func parsePlaceholder(name string) (part, error) {
	switch {
	case name == "topic":
		return part{kind: partTopic}, nil
	case name == "partition":
		return part{kind: partPartition}, nil
	case name == "key":
		return part{kind: partKey}, nil
	case strings.HasPrefix(name, headerPrefix) && len(name) > len(headerPrefix):
		return part{kind: partHeader, text: name[len(headerPrefix):]}, nil
	case strings.HasPrefix(name, fieldPrefix):
		path, fault := fieldPath(name[len(fieldPrefix):])
		if fault != nil {
			return part{}, fmt.Errorf("{%s}: %s", name, fault.Problem)
		}
		return part{kind: partField, text: path}, nil
	default:
		return part{}, fmt.Errorf(
			"unknown placeholder {%s}: write {topic}, {key}, {partition}, {header.NAME} or {json.FIELD}",
			name)
	}
}

// fixed reports whether topic and partition alone name the channel.
func (t *template) fixed() bool {
	for i := range t.parts {
		if t.parts[i].open() {
			return false
		}
	}
	return true
}

// open reports whether a record fills the part.
func (p *part) open() bool { return p.kind > partPartition }

// fixedName returns the name of a fixed template, or nil if it is too long.
func (t *template) fixedName(topic string, partition int32) []byte {
	name, why := t.render(&Placement{}, nil, topic, partition, &Record{})
	if why != Placed {
		return nil
	}
	return name
}

// render writes the name of a record's channel into the scratch of p. Fields are the table's.
func (t *template) render(
	p *Placement, fields []string, topic string, partition int32, r *Record,
) (name []byte, why Unplaced) {
	dst := p.names[:0]
	for i := range t.parts {
		part := &t.parts[i]
		var b []byte
		switch part.kind {
		case partText:
			dst = append(dst, part.text...)
			continue
		case partTopic:
			dst = append(dst, topic...)
			continue
		case partPartition:
			dst = strconv.AppendInt(dst, int64(partition), 10)
			continue
		case partKey:
			b = r.Key
		case partHeader:
			b, _ = r.Headers.Find(part.text)
		case partField:
			b = scalar(p.field(fields, part.field, r))
		}
		if why := textFault(b, len(dst)); why != Placed {
			return nil, why
		}
		dst = append(dst, b...)
	}
	if len(dst) > ChannelBytesMax {
		return nil, UnplacedLength
	}
	return dst, Placed
}

// scalar returns a text's content, or a number or boolean as it is written. It returns nil for anything else.
func scalar(v *gjson.Result) []byte {
	text := v.Raw
	switch v.Type {
	case gjson.String:
		// gjson has no error for what it cannot decode. Such a text is no name, as with a header that is not UTF-8.
		if text = v.Str; strings.Contains(text, string(utf8.RuneError)) && routing.LossyJSON([]byte(v.Raw)) {
			text = "\xff"
		}
	case gjson.Number, gjson.True, gjson.False:
	default:
		return nil
	}
	return unsafe.Slice(unsafe.StringData(text), len(text))
}

// textFault returns why a record's text cannot follow the first n bytes of a name, or Placed.
func textFault(b []byte, n int) Unplaced {
	switch {
	case len(b) == 0:
		return UnplacedMissing
	case n+len(b) > ChannelBytesMax:
		return UnplacedLength
	case !utf8.Valid(b):
		return UnplacedText
	}
	return Placed
}
