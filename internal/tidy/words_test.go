package tidy

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// word is something no committed line may hold. Patterns are written so that
// they do not match themselves.
type word struct {
	pattern *regexp.Regexp
	why     string
	only    []string // extensions; empty: all text files
	except  []string // beginnings or ends of names that may hold it
}

var words = []word{
	{regexp.MustCompile(`\b(T[O]DO|F[I]XME|X[X]X|H[A]CK)\b`), "unfinished work belongs into an issue", nil, nil},
	{regexp.MustCompile(`(?i)(\b(enough|this|it|that|only|just|fine)|[(;,:/#])\s*f[o]r now\b`), "say what it does and what it does not, without a promise", nil, nil},
	{regexp.MustCompile(`^(<<<<<[<]<|>>>>>[>]>) `), "a merge was left unfinished", nil, nil},
	{regexp.MustCompile(`"[Ff]ailed t[o] `), "an error is verb and object: \"open x: …\"", []string{".go"}, nil},
	{regexp.MustCompile(`(^|[\s"'(=:])/(work|root)/`), "a path of one machine", nil, nil},
	{regexp.MustCompile(`\b(proxy\.golang|sum\.golang|registry\.npmjs|files\.pythonhosted|deb\.debian)\.`), "a registry's host is the environment's choice", nil, nil},
	{regexp.MustCompile(`\bgithub\.com/\S+/(wsd)\b`), "the module is called wsd", []string{".go"}, nil},
	{regexp.MustCompile(`^\s*(fmt\.Print|println\(|log\.(Print|Fatal|Panic))`), "packages log through the slog.Logger they are given", []string{".go"}, []string{"cmd/", "loadtest/", "_test.go"}},
}

func TestForbiddenWords(t *testing.T) {
	for _, name := range files(t) {
		text := content(t, name)
		if binary(text) || filepath.Base(name) == "go.sum" {
			continue
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			for _, w := range words {
				if !w.concerns(name) {
					continue
				}
				if m := w.pattern.FindString(line); m != "" {
					t.Errorf("%s:%d has %q: %s", name, n, strings.TrimSpace(m), w.why)
				}
			}
		}
	}
}

func (w word) concerns(name string) bool {
	if len(w.only) > 0 && !slices.Contains(w.only, filepath.Ext(name)) {
		return false
	}
	for _, part := range w.except {
		if strings.HasPrefix(name, part) || strings.HasSuffix(name, part) {
			return false
		}
	}
	return true
}

// The patterns themselves: each must find what it is there for.
func TestWordsAreFound(t *testing.T) {
	for i, line := range []string{
		"// TO" + "DO: later",
		"fine fo" + "r now",
		"<<<<<<" + "< HEAD",
		`errors.New("failed` + ` to open")`,
		`"/wo` + `rk/main"`,
		"https://proxy.gol" + "ang.org",
		`"github.com/someone/w` + `sd"`,
		"\tfmt.Pri" + "ntln(x)",
	} {
		if !words[i].pattern.MatchString(line) {
			t.Errorf("pattern %d does not find %q", i, line)
		}
	}
	if len(words) != 8 {
		t.Errorf("%d patterns, of which the first 8 are tried here", len(words))
	}
}
