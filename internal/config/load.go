package config

import (
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultFile is the configuration file that is read if it exists and no other one is named.
const DefaultFile = "/etc/wsd/wsd.yaml"

const originDefault = "default"

// Input is the places that values come from.
type Input struct {
	Flags       map[string]any // Values of flags by key of the option: a string, a bool or a []string.
	Environ     []string       // Environment as NAME=VALUE, like os.Environ.
	File        string         // Configuration file, which must exist. Empty: DefaultFile if that exists.
	DefaultFile string         // File to read if File is empty; empty: none.
	NeedTopics  bool           // Whether it is a fault if kafka.topics is empty.
}

// Loaded is a configuration that passed all checks, together with the origin of each value.
type Loaded struct {
	Config Config
	File   string // Path of the configuration file that was read; empty: none.

	// Warnings are about values that are valid, but do not do what they seem to.
	Warnings []Fault

	given map[string]given
}

// given is a value before it is parsed.
type given struct {
	texts  []string // Texts of the value: one, unless the option is a list.
	origin string   // Where the value was given, in the words of Loaded.Origin.
	strict bool     // Whether texts come from YAML, which has lists, and so are not split at commas.
	// Value of routes from YAML, used instead of texts: a route in YAML may have parts that texts cannot express.
	routes []Route
	lines  []map[string]string // Of each of routes, where its parts are; see routeLines.
}

// Load reads all values and checks them. If something is wrong, it returns an *Error.
func Load(in Input) (*Loaded, error) {
	l := &loader{loaded: &Loaded{given: make(map[string]given)}, options: make(map[string]Option),
		needTopics: in.NeedTopics}
	for _, o := range Options() {
		l.options[o.Key] = o
		l.keys = append(l.keys, o.Key)
	}
	l.readFile(in)
	l.readEnviron(in.Environ)
	l.readFlags(in.Flags)
	l.decode()
	l.derive()
	l.check()
	if len(l.faults) > 0 {
		return nil, &Error{Faults: l.faults}
	}
	l.compareLimits(&l.loaded.Config)
	l.reviewRoutes(&l.loaded.Config)
	l.reviewPublish(&l.loaded.Config)
	return l.loaded, nil
}

// Origin returns where the value of an option comes from: "default", "file PATH:LINE", "environment NAME" or "flag
// --NAME".
func (l *Loaded) Origin(key string) string {
	if g, ok := l.given[key]; ok {
		return g.origin
	}
	return originDefault
}

// Given reports whether an option was given at all, even with an empty value.
func (l *Loaded) Given(key string) bool {
	_, ok := l.given[key]
	return ok
}

// written reports whether an option was given a value that is not empty. It is false for a password that was read from
// password_file.
func (l *Loaded) written(key string) bool { return strings.Join(l.given[key].texts, "") != "" }

// loader is the state of one call of Load.
type loader struct {
	loaded  *Loaded
	options map[string]Option
	keys    []string
	faults  []Fault

	needTopics bool            // Input.NeedTopics.
	bad        map[string]bool // Options whose value could not be parsed, so that it is not checked further.
}

func (l *loader) fault(f Fault) { l.faults = append(l.faults, f) }

func (l *loader) readEnviron(environ []string) {
	byName := make(map[string]string, len(l.keys))
	for _, key := range l.keys {
		byName[l.options[key].Env] = key
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || name == "WSD_REQUIRE_ROOT" { // A switch of wsd's own tests.
			continue
		}
		key, known := byName[name]
		if !known {
			l.fault(Fault{Key: name, Origin: "environment", Problem: "no option has this environment variable",
				Remedy: didYouMean(name, slices.Collect(maps.Keys(byName)))})
			continue
		}
		l.loaded.given[key] = given{texts: []string{value}, origin: "environment " + name}
	}
}

func (l *loader) readFlags(flags map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		o, known := l.options[key]
		if !known {
			l.fault(Fault{Key: key, Origin: "flag", Problem: "no such option", Remedy: didYouMean(key, l.keys)})
			continue
		}
		g := given{origin: "flag " + o.Flag}
		switch v := flags[key].(type) {
		case string:
			g.texts = []string{v}
		case bool:
			g.texts = []string{strconv.FormatBool(v)}
		case []string:
			g.texts = v
		default:
			panic(fmt.Sprintf("BUG: flag %s is a %T", key, v))
		}
		l.loaded.given[key] = g
	}
}

func didYouMean(name string, known []string) string {
	slices.Sort(known)
	// The option may lack its section, such as topics for kafka.topics.
	var same []string
	for _, k := range known {
		if strings.HasSuffix(k, "."+name) {
			same = append(same, k)
		}
	}
	if len(same) > 0 {
		return "did you mean " + strings.Join(same, " or ") + "?"
	}
	if best := nearest(name, known); best != "" {
		return "did you mean " + best + "?"
	}
	return "`wsd config defaults` lists all options"
}

// decode stores the given values, or else the defaults, in the configuration.
func (l *loader) decode() {
	l.bad = make(map[string]bool)
	config := reflect.ValueOf(&l.loaded.Config).Elem()
	for _, key := range l.keys {
		o := l.options[key]
		g, isGiven := l.loaded.given[key]
		if !isGiven {
			if o.Default == "" {
				continue
			}
			g = given{texts: []string{o.Default}, origin: originDefault}
		}
		if err := o.decode(config.FieldByIndex(o.index), g); err != nil {
			l.bad[key] = !o.List
			l.fault(Fault{Key: key, Value: o.shown(g.texts), Origin: g.origin, Problem: err.Error()})
		}
	}
}

// shown returns the given texts as a message may show them.
func (o Option) shown(texts []string) string {
	if o.Secret {
		return ""
	}
	return cut(strings.Join(texts, ","))
}

// cut shortens and quotes a text so that a message that contains it stays readable.
func cut(text string) string {
	const shownMax = 120
	if len(text) > shownMax {
		text = strings.ToValidUTF8(text[:shownMax], "") + "…"
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) || text == "" {
		return strconv.Quote(text)
	}
	return text
}

func (o Option) decode(field reflect.Value, g given) error {
	if !o.List {
		if len(g.texts) != 1 {
			return fmt.Errorf("takes one value, not %d", len(g.texts))
		}
		return decodeScalar(field, o.Kind, g.texts[0])
	}
	if g.routes != nil {
		field.Set(reflect.ValueOf(g.routes))
		return nil
	}
	var texts []string
	for _, text := range g.texts {
		switch {
		case g.strict:
			texts = append(texts, text)
		case strings.TrimSpace(text) != "":
			for part := range strings.SplitSeq(text, ",") {
				texts = append(texts, strings.TrimSpace(part))
			}
		}
	}
	list := reflect.MakeSlice(field.Type(), 0, len(texts))
	var problems []string
	for _, text := range texts {
		element := reflect.New(field.Type().Elem()).Elem()
		if err := decodeScalar(element, o.Kind, text); err != nil {
			problems = append(problems, err.Error())
			continue
		}
		list = reflect.Append(list, element)
	}
	field.Set(list) // What could be parsed is checked as well.
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

func decodeScalar(field reflect.Value, kind, text string) error {
	if u, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch kind {
	case kindText:
		field.SetString(text)
	case kindBool:
		switch text {
		case "true":
			field.SetBool(true)
		case "false":
			field.SetBool(false)
		default:
			return errors.New("must be true or false")
		}
	case kindNumber:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("not a whole number")
		}
		field.SetInt(int64(n))
	case kindDuration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("not a duration: write a number with a unit, such as 500ms, 5s or 2m")
		}
		field.SetInt(int64(d))
	default:
		return fmt.Errorf("BUG: kind %s", kind)
	}
	return nil
}

// explainFile returns why a file could not be read, and the remedy, without its path where that is known.
func explainFile(err error) string {
	path, ok := errors.AsType[*fs.PathError](err)
	if !ok {
		return err.Error()
	}
	what := path.Err.Error()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s: wsd runs as user %d, who must be allowed to read it", what, os.Getuid())
	case errors.Is(err, fs.ErrNotExist) && filepath.IsAbs(path.Path):
		return what + ": name a file that exists, in a container one that is mounted there"
	case errors.Is(err, fs.ErrNotExist):
		dir, _ := os.Getwd() // Empty if it is gone.
		return fmt.Sprintf("%s: a relative name begins at the working directory, %s", what, dir)
	}
	return what
}
