package route

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// Test is what a condition asks for.
type Test uint8

// The tests.
const (
	TestText   Test = iota // A header's value or a JSON text matches Value, which is a text or a pattern.
	TestExists             // The header or the field exists, with any value, including a JSON null.
	TestAbsent             // The header or the field does not exist.
	TestNumber             // The field is the number Value.
	TestBool               // The field is the boolean Value, true or false.
)

// Condition is a condition on a header or on a JSON field.
type Condition struct {
	// The header's name, or the field's path: names joined by dots, as in user.id. A number is an index of an array.
	Name  string
	Test  Test
	Value string
}

// Limits on what rules may ask for. They bound the cost of a record.
const (
	RulesMax      = 256
	conditionsMax = 16  // In one rule.
	fieldsMax     = 64  // JSON fields that all rules together read.
	nameBytesMax  = 255 // In a header's name or a field's path.
)

// condition is a compiled Condition.
type condition struct {
	test   Test
	header string // The header's name. If it is empty, the condition is on a field.
	field  int    // The index of the field in the table.
	text   Pattern
	number float64
	raw    string // The number as it was written. Equal digits mean equal numbers, even if a float cannot hold them.
	want   gjson.Type
}

// holds reports whether the record meets the condition.
func (c *condition) holds(dst *Placement, fields []string, rec *Record) bool {
	if c.header != "" {
		value, exists := rec.Headers.Find(c.header)
		switch c.test {
		case TestExists:
			return exists
		case TestAbsent:
			return !exists
		default:
			return exists && c.text.Match(value)
		}
	}
	v := dst.field(fields, c.field, rec)
	switch c.test {
	case TestExists:
		return v.Exists()
	case TestAbsent:
		return !v.Exists()
	case TestNumber:
		return v.Type == gjson.Number && (v.Raw == c.raw || v.Num == c.number)
	case TestBool:
		return v.Exists() && v.Type == c.want
	default:
		return v.Type == gjson.String && c.text.MatchString(v.Str)
	}
}

// fieldPath checks the path of a JSON field and returns it in gjson's syntax, escaped so that gjson reads nothing as a
// query.
func fieldPath(path string) (string, *Fault) {
	if path == "" || len(path) > nameBytesMax || !utf8.ValidString(path) {
		return "", &Fault{Value: path, Problem: "not a path of a JSON field",
			Remedy: "write names joined by dots, such as user.id, of at most " + strconv.Itoa(nameBytesMax) + " bytes"}
	}
	names := strings.Split(path, ".")
	for i, name := range names {
		if name == "" {
			return "", &Fault{Value: path, Problem: "the path of the JSON field has an empty name",
				Remedy: "write names joined by single dots, such as user.id"}
		}
		names[i] = gjson.Escape(name)
	}
	return strings.Join(names, "."), nil
}

// parseNumber parses a JSON number.
func parseNumber(text string) (float64, bool) {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return 0, false
	}
	f, is := v.(float64)
	return f, is
}
