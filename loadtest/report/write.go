package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteJSON writes the report as one indented JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// WriteText writes the report as a table for people: every field of the JSON, a heading for each object, and the
// verdict at the end.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	v := reflect.ValueOf(*r)
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Name != "Passed" && f.Name != "Interrupted" && f.Name != "Reasons" {
			field(t, f, v.Field(i))
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	verdict := "\npassed\n"
	if !r.Passed {
		verdict = "\nnot passed:\n  " + strings.Join(r.Reasons, "\n  ") + "\n"
	}
	if r.Interrupted {
		verdict = "\ninterrupted: what was measured up to then" + verdict
	}
	if _, err := io.WriteString(w, verdict); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// field writes one field: an object as a section, the rest as a line.
func field(t *tabwriter.Writer, f reflect.StructField, v reflect.Value) {
	label, unit := f.Tag.Get("label"), f.Tag.Get("unit")
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Slice:
		accounts, ok := v.Interface().([]Account)
		if !ok {
			panic("BUG: report field " + f.Name + " is a slice of another kind")
		}
		if len(accounts) > 0 {
			_, _ = fmt.Fprintf(t, "\n%s\n", label)
		}
		for _, a := range accounts {
			_, _ = fmt.Fprintf(t, "  %s\t%s\t%s\n", a.What, group(strconv.FormatInt(a.Server, 10)), a.verdict())
		}
	case reflect.Struct:
		_, _ = fmt.Fprintf(t, "\n%s\n", label) // An error comes back from Flush.
		for i := range v.NumField() {
			field(t, v.Type().Field(i), v.Field(i))
		}
	case reflect.Map:
		reasons, ok := v.Interface().(map[string]int64)
		if !ok {
			panic("BUG: report field " + f.Name + " is a map of another kind")
		}
		for _, reason := range slices.Sorted(maps.Keys(reasons)) {
			_, _ = fmt.Fprintf(t, "    %s: %s\t%d\n", label, reason, reasons[reason])
		}
	default:
		if v.IsZero() && strings.Contains(f.Tag.Get("json"), ",omitempty") {
			return
		}
		_, _ = fmt.Fprintf(t, "  %s\t%s\n", label, strings.TrimSuffix(number(v)+" "+unit, " "))
	}
}

// number shows a value: floats with two decimals, whole numbers from five digits on in groups.
func number(v reflect.Value) string {
	switch {
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'f', 2, 64)
	case v.CanInt():
		return group(strconv.FormatInt(v.Int(), 10))
	case v.CanUint():
		return group(strconv.FormatUint(v.Uint(), 10))
	default:
		return fmt.Sprint(v.Interface())
	}
}

func group(s string) string {
	if len(s) < 5 {
		return s
	}
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
