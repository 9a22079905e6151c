package route

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// Test is what a condition asks.
type Test uint8

// The tests.
const (
	TestText   Test = iota // A header's value, or a JSON text, is Value: a text or a pattern.
	TestExists             // The header or the field is there, whatever its value. A JSON null is there, too.
	TestAbsent             // It is not.
	TestNumber             // The field is the number Value.
	TestBool               // The field is the boolean Value, true or false.
)

// Condition asks something of a header or of a JSON field.
type Condition struct {
	Name  string // Of the header; or the field's path, names joined by dots: user.id. A number in it is an index of an array.
	Test  Test
	Value string
}

// Limits of what rules may ask, which bound the price of a record.
const (
	RulesMax      = 256
	conditionsMax = 16  // Of one rule.
	fieldsMax     = 64  // JSON fields that all rules together look at.
	nameBytesMax  = 255 // Of a header's name or a field's path.
)

// condition is a Condition made ready.
type condition struct {
	test   Test
	header string // Of which header; else field counts.
	field  int    // Index of the field in its table.
	text   Pattern
	number float64
	raw    string // The number as it was written: equal digits are equal numbers, however many.
	want   gjson.Type
}

// holds reports whether the record meets the condition.
func (c *condition) holds(dst *Placement, fields []string, rec *Record) bool {
	if c.header != "" {
		value, there := rec.Headers.Find(c.header)
		switch c.test {
		case TestExists:
			return there
		case TestAbsent:
			return !there
		default:
			return there && c.text.Match(value)
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

// fieldPath checks the path of a JSON field and returns it as gjson takes it, with nothing in it that gjson would read as a query.
func fieldPath(path string) (string, *Fault) {
	if path == "" || len(path) > nameBytesMax || !utf8.ValidString(path) {
		return "", &Fault{Value: path, Problem: "it is no path of a JSON field", Remedy: "write names joined by dots, such as user.id, " + strconv.Itoa(nameBytesMax) + " bytes at most"}
	}
	names := strings.Split(path, ".")
	for i, name := range names {
		if name == "" {
			return "", &Fault{Value: path, Problem: "an empty name is in the path of the JSON field", Remedy: "write names joined by single dots, such as user.id"}
		}
		names[i] = gjson.Escape(name)
	}
	return strings.Join(names, "."), nil
}

// parseNumber reads a number as JSON has it.
func parseNumber(text string) (float64, bool) {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return 0, false
	}
	f, is := v.(float64)
	return f, is
}
