package tidy

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// Lines end by column lineMax. A tab counts as tabWidth columns.
const (
	lineMax  = 120
	tabWidth = 4
)

// A struct tag and a raw string cannot be broken.
var unbreakable = regexp.MustCompile("`.*`")

// Lines of code and comment are not too long. Tests are exempt: their tables have one case in a line.
func TestLineLength(t *testing.T) {
	for _, name := range files(t) {
		text := content(t, name)
		if !isCode(name) || strings.HasSuffix(name, "_test.go") || generated(text) {
			continue
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if unbreakable.MatchString(line) || strings.HasPrefix(line, "//go:generate ") {
				continue
			}
			if width := columns(line); width > lineMax {
				t.Errorf("%s:%d has %d columns, at most %d are allowed", name, n, width, lineMax)
			}
		}
	}
}

func columns(line string) int {
	line = strings.TrimRight(line, "\r\n")
	return utf8.RuneCountInString(line) + (tabWidth-1)*strings.Count(line, "\t")
}

// outsideDocuments is split so that this file does not match.
var outsideDocuments = regexp.MustCompile(`\b(design|protocol|style|newcomer)` + `\.md\b|\.\./shared/`)

// Documents outside the repository are not cited: their readers do not have them.
func TestNoOutsideDocuments(t *testing.T) {
	for _, name := range files(t) {
		text := content(t, name)
		if binary(text) || filepath.Base(name) == "lines_test.go" {
			continue
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if outsideDocuments.MatchString(line) {
				t.Errorf("%s:%d cites a document that is not in the repository: say what it says instead", name, n)
			}
		}
	}
}
