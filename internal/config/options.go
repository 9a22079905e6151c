package config

import (
	"reflect"
	"strings"
	"time"
)

// Option describes one option. The same name serves as key, flag and variable.
type Option struct {
	Key     string // kafka.fetch_max_wait
	Flag    string // --kafka.fetch-max-wait
	Env     string // WSD_KAFKA_FETCH_MAX_WAIT
	Kind    string // text, bool, number, duration, size, route or policy.
	Default string // As it would be written; lists with commas.
	Help    string
	List    bool
	Secret  bool

	index []int // Of the field in Config.
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

// Options lists every option in the order of Config.
func Options() []Option { return optionsOf(reflect.TypeFor[Config](), "", nil) }

func optionsOf(t reflect.Type, prefix string, index []int) (list []Option) {
	for i := range t.NumField() {
		f := t.Field(i)
		key := prefix + f.Tag.Get("key")
		at := append(append([]int(nil), index...), i)
		if f.Type.Kind() == reflect.Struct {
			list = append(list, optionsOf(f.Type, key+".", at)...)
			continue
		}
		value := f.Type
		o := Option{
			Key: key, Flag: "--" + strings.ReplaceAll(key, "_", "-"), Env: envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_")),
			Default: f.Tag.Get("def"), Help: f.Tag.Get("help"), Secret: f.Tag.Get("secret") == "true", index: at,
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

// nearest returns the known name that differs least from name, if it is near enough to be meant.
func nearest(name string, known []string) string {
	best, bestDistance := "", len(name)/3+2
	for _, k := range known {
		if d := distance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is Levenshtein's, computed row by row.
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
