package config

import (
	"reflect"
	"strings"
	"time"
)

// Option describes one option. Its key, its flag and its environment variable have the same name.
type Option struct {
	Key     string // Key in the file, such as kafka.fetch_max_wait.
	Flag    string // Flag, such as --kafka.fetch-max-wait.
	Env     string // Environment variable, such as WSD_KAFKA_FETCH_MAX_WAIT.
	Kind    string // Kind of value: text, bool, number, duration, size, route or policy.
	Default string // Default as it would be written in a flag; empty: none.
	Help    string // What the option does, in whole sentences.
	List    bool   // Whether the option takes several values.
	Secret  bool   // Whether the value must not be shown.

	index []int // Index of the field in Config, for reflect.
}

// The kinds of values.
const (
	kindText     = "text"
	kindBool     = "bool"
	kindNumber   = "number"
	kindDuration = "duration"
	kindSize     = "size"
	kindRoute    = "route"
	kindPolicy   = "policy"
)

const envPrefix = "WSD_"

// Options returns every option in the order of Config.
func Options() []Option { return optionsOf(reflect.TypeFor[Config](), "", nil) }

func optionsOf(t reflect.Type, prefix string, index []int) (list []Option) {
	for i := range t.NumField() {
		f := t.Field(i)
		key := prefix + f.Tag.Get("key")
		fieldIndex := append(append([]int(nil), index...), i)
		if f.Anonymous { // Its options are those of the section that it is embedded in.
			list = append(list, optionsOf(f.Type, prefix, fieldIndex)...)
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			list = append(list, optionsOf(f.Type, key+".", fieldIndex)...)
			continue
		}
		value := f.Type
		o := Option{
			Key: key, Flag: "--" + strings.ReplaceAll(key, "_", "-"),
			Env:     envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_")),
			Default: f.Tag.Get("def"), Help: f.Tag.Get("help"), Secret: f.Tag.Get("secret") == "true",
			index: fieldIndex,
		}
		if value.Kind() == reflect.Slice {
			o.List, value = true, value.Elem()
		}
		o.Kind = kindOf(value)
		list = append(list, o)
	}
	return list
}

func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return kindDuration
	case reflect.TypeFor[Bytes]():
		return kindSize
	case reflect.TypeFor[Route]():
		return kindRoute
	case reflect.TypeFor[SlowPolicy]():
		return kindPolicy
	}
	switch t.Kind() {
	case reflect.Bool:
		return kindBool
	case reflect.Int:
		return kindNumber
	case reflect.String:
		return kindText
	default:
		panic("BUG: an option of type " + t.String())
	}
}

// nearest returns the known name that differs least from name, or an empty text if none is similar.
func nearest(name string, known []string) string {
	best, bestDistance := "", len(name)/3+2
	for _, k := range known {
		if d := distance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance returns the Levenshtein distance of two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
