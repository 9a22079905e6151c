package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Line is one line of the table.
type Line struct {
	Label, Value string
	Heading      bool
}

// Lines returns every field of the result except for the verdict and the series.
func (r *Result) Lines() (list []Line) {
	v := reflect.ValueOf(*r)
	for i := range v.NumField() {
		switch f := v.Type().Field(i); f.Name {
		case "Summary", "Passed", "Interrupted", "Reasons", "Warnings", "Series":
		default:
			list = lines(list, f, v.Field(i))
		}
	}
	return list
}

// lines appends the lines of a field: an object as a section, the rest as a line.
func lines(list []Line, f reflect.StructField, v reflect.Value) []Line {
	label, unit := f.Tag.Get("label"), f.Tag.Get("unit")
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return list
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case []Account:
		if len(x) > 0 {
			list = append(list, Line{Label: label, Heading: true})
		}
		for _, a := range x {
			list = append(list, Line{Label: a.What, Value: group(a.Server) + a.verdict()})
		}
	case []Round:
		if len(x) > 0 {
			list = append(list, Line{Label: label, Heading: true})
		}
		for _, r := range x {
			list = append(list, Line{Label: r.What, Value: r.Result})
		}
	case []int64:
		list = append(list, Line{Label: label, Value: strings.Trim(fmt.Sprint(x), "[]")})
	case map[string]int64:
		for _, reason := range slices.Sorted(maps.Keys(x)) {
			list = append(list, Line{Label: label + ": " + reason, Value: group(x[reason])})
		}
	default:
		if v.Kind() == reflect.Struct {
			list = append(list, Line{Label: label, Heading: true})
			for i := range v.NumField() {
				list = lines(list, v.Type().Field(i), v.Field(i))
			}
		} else if !v.IsZero() || !strings.Contains(f.Tag.Get("json"), ",omitempty") {
			if text := number(v); text != notAvailable && unit != "" {
				list = append(list, Line{Label: label, Value: text + " " + unit})
			} else {
				list = append(list, Line{Label: label, Value: text})
			}
		}
	}
	return list
}

const notAvailable = "n/a"

// number shows a value: floats with two decimals, whole numbers from five digits on in groups.
func number(v reflect.Value) string {
	switch {
	case v.CanFloat() && !Figure(v.Float()).Known():
		return notAvailable
	case v.Type() == reflect.TypeFor[Figure]() && v.Float() == math.Trunc(v.Float()):
		return group(int64(v.Float()))
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'f', 2, 64)
	case v.CanInt():
		return group(v.Int())
	case v.CanUint():
		return group(v.Uint())
	default:
		return fmt.Sprint(v.Interface())
	}
}

// group shows a number, from five digits on in groups.
func group[N int | int64 | uint64](n N) string {
	s := fmt.Sprint(n)
	if len(s) < 5 {
		return s
	}
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Group shows a number, from four digits on in groups.
func Group[N int | int64 | uint64](n N) string {
	if s := fmt.Sprint(n); len(s) == 4 {
		return s[:1] + "," + s[1:]
	}
	return group(n)
}

// WriteJSON writes a result as one indented JSON object.
func WriteJSON(w io.Writer, result any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(result); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// WriteText writes the result as a table for people: the verdict, and every field of the JSON.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(r.Summary + "\n")
	for _, reason := range r.Reasons {
		b.WriteString("  " + reason + "\n")
	}
	for _, warning := range r.Warnings {
		b.WriteString("warning: " + warning + "\n")
	}
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, l := range r.Lines() {
		if l.Heading {
			_, _ = fmt.Fprintf(t, "\n%s\n", l.Label) // A strings.Builder has no errors.
		} else {
			_, _ = fmt.Fprintf(t, "  %s\t%s\n", l.Label, l.Value)
		}
	}
	_ = t.Flush()
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
