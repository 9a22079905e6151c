package tidy

import (
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// Lines end by column lineMax. A tab counts as tabWidth columns.
const (
	lineMax  = 120
	tabWidth = 4
)

// widerLines has the directories whose lines do not all end by lineMax yet, with the column by which they do end. A number
// may only become smaller; remove it when it is lineMax.
var widerLines = map[string]int{
	"internal/bus":             148,
	"internal/kafka":           212,
	"internal/kafkabroker":     173,
	"internal/kafkabroker/run": 149,
	"internal/kafkatest":       161,
	"internal/recovery":        142,
	"internal/route":           185,
	"internal/routing":         136,
	"internal/shard":           217,
	"internal/source":          212,
}

// A struct tag and a raw string cannot be broken.
var unbreakable = regexp.MustCompile("`.*`")

// Lines of code and comment are not too long. Tests are exempt: their tables have one case in a line.
func TestLineLength(t *testing.T) {
	longest := make(map[string]int)
	for _, name := range files(t) {
		text := content(t, name)
		if !isCode(name) || strings.HasSuffix(name, "_test.go") || generated(text) {
			continue
		}
		dir := path.Dir(name)
		limit := max(lineMax, widerLines[dir])
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			width := columns(line)
			if unbreakable.MatchString(line) || strings.HasPrefix(line, "//go:generate ") {
				continue
			}
			longest[dir] = max(longest[dir], width)
			if width > limit {
				t.Errorf("%s:%d has %d columns, at most %d are allowed", name, n, width, limit)
			}
		}
	}
	for dir, limit := range widerLines {
		if longest[dir] < limit {
			t.Logf("%s: lower its number in widerLines from %d to %d", dir, limit, max(lineMax, longest[dir]))
		}
	}
}

func columns(line string) int {
	line = strings.TrimRight(line, "\r\n")
	return utf8.RuneCountInString(line) + (tabWidth-1)*strings.Count(line, "\t")
}

// Documents outside the repository are not cited: their readers do not have them. The first pattern is split so that this file does not match.
var outsideDocuments = regexp.MustCompile(`\b(design|protocol|style|newcomer)` + `\.md\b|\.\./shared/`)

// cites is how many such citations each directory still has. The numbers may only become smaller.
var cites = map[string]int{
	"internal/routing": 1,
	"internal/shard":   8,
	"internal/source":  1,
}

func TestNoOutsideDocuments(t *testing.T) {
	found := make(map[string][]string)
	for _, name := range files(t) {
		text := content(t, name)
		if binary(text) || filepath.Base(name) == "lines_test.go" {
			continue
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if outsideDocuments.MatchString(line) {
				dir := path.Dir(name)
				found[dir] = append(found[dir], name+":"+strconv.Itoa(n))
			}
		}
	}
	for dir, places := range found {
		if len(places) > cites[dir] {
			t.Errorf("%s cites documents that are not in the repository: say what they say instead: %s", dir, strings.Join(places, " "))
		}
	}
}
