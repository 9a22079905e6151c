package tidy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

var (
	documentLink = regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	// documentCited is a document, perhaps with a section, in a comment, a message or an annotation.
	documentCited = regexp.MustCompile(`\bdocs/([a-z-]+\.md)(?:#([a-z0-9_-]+))?`)
)

// Links between documents, and their sections, break silently when one moves.
func TestDocumentLinks(t *testing.T) {
	for _, name := range files(t) {
		if filepath.Ext(name) != ".md" {
			continue
		}
		for _, m := range documentLink.FindAllStringSubmatch(prose(string(content(t, name))), -1) {
			target := name
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(name), m[1])
			}
			checkLink(t, name, target, m[2])
		}
	}
}

// Every row of a table has as many cells as its head: a | in a cell, also one in code, has to be written \|.
func TestTables(t *testing.T) {
	for _, name := range files(t) {
		if filepath.Ext(name) != ".md" {
			continue
		}
		cells := 0
		for line := range strings.SplitSeq(prose(string(content(t, name))), "\n") {
			if !strings.HasPrefix(line, "|") {
				cells = 0
				continue
			}
			n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
			if cells != 0 && n != cells {
				t.Errorf("%s: a row has %d cells for %d: %s", name, n-1, cells-1, line)
			}
			cells = n
		}
	}
}

// Messages, comments and annotations name documents and sections that exist.
func TestDocumentsCited(t *testing.T) {
	for _, name := range files(t) {
		text := content(t, name)
		if binary(text) || filepath.Ext(name) == ".md" {
			continue
		}
		for _, m := range documentCited.FindAllStringSubmatch(string(text), -1) {
			checkLink(t, name, "docs/"+m[1], m[2])
		}
	}
}

func checkLink(t *testing.T, name, target, section string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, target)); err != nil {
		t.Errorf("%s links to %s, which does not exist", name, target)
		return
	}
	if section != "" && !sections(string(content(t, target)))[section] {
		t.Errorf("%s links to %s#%s, and there is no such section", name, target, section)
	}
}

// prose returns the text without its blocks of code.
func prose(text string) string {
	var out []string
	inside := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			inside = !inside
		} else if !inside {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// sections returns the names by which links reach the headings of a document.
func sections(text string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(prose(text)) {
		if level, title, ok := strings.Cut(line, " "); ok && strings.Trim(level, "#") == "" && level != "" {
			names[strings.Map(func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
					return unicode.ToLower(r)
				}
				return -1
			}, strings.TrimSpace(title))] = true
		}
	}
	return names
}

// The pages that readers come to with a task begin with an example and end with the limits.
func TestTaskPages(t *testing.T) {
	for _, name := range []string{"routing", "clients", "recovery", "kafka"} {
		text := string(content(t, "docs/"+name+".md"))
		introduction, _, _ := strings.Cut(text, "\n## ")
		require.Contains(t, introduction, "\n```", "docs/%s.md does not begin with an example", name)
		last := text[strings.LastIndex(text, "\n## "):]
		require.True(t, strings.HasPrefix(last, "\n## Limits\n"), "docs/%s.md does not end with the limits", name)
	}
}
