package tidy

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const invariantsFile = "docs/invariants.md"

var (
	invariantStart = regexp.MustCompile(`(?m)^(\d+)\. `)
	invariantFiles = regexp.MustCompile("`((?:bpf|cmd|internal)/[^`]+\\.(?:go|c|h))`")
	invariantTests = regexp.MustCompile(`Tests?: (Test[A-Za-z0-9_]+(?:,\s+Test[A-Za-z0-9_]+)*)\.`)
	citation       = regexp.MustCompile(`(?i)\binvariants? (\d+)`)
	testFunction   = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
)

// invariant is one item of the list.
type invariant struct {
	number int
	files  []string // Files that keep it.
	tests  []string // Tests that would notice if it broke.
}

func parseInvariants(text string) (list []invariant) {
	starts := invariantStart.FindAllStringSubmatchIndex(text, -1)
	for i, start := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		item := text[start[1]:end]
		number, _ := strconv.Atoi(text[start[2]:start[3]]) // The pattern matches digits only.
		inv := invariant{number: number}
		for _, m := range invariantFiles.FindAllStringSubmatch(item, -1) {
			inv.files = append(inv.files, m[1])
		}
		for _, m := range invariantTests.FindAllStringSubmatch(item, -1) {
			inv.tests = append(inv.tests, strings.Fields(strings.ReplaceAll(m[1], ",", " "))...)
		}
		list = append(list, inv)
	}
	return list
}

// Each invariant has a number of its own, a file that keeps it and a test, and all of them exist.
func TestInvariants(t *testing.T) {
	list := parseInvariants(string(content(t, invariantsFile)))
	require.NotEmpty(t, list)
	names := files(t)
	tests := make(map[string]bool)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range testFunction.FindAllSubmatch(content(t, name), -1) {
				tests[string(m[1])] = true
			}
		}
	}
	for i, inv := range list {
		if inv.number != i+1 {
			t.Errorf("%s: item %d has the number %d", invariantsFile, i+1, inv.number)
		}
		if len(inv.files) == 0 || len(inv.tests) == 0 {
			t.Errorf("%s: invariant %d must name a file, such as `internal/x/y.go`, and a test, as \"Test: TestName.\"", invariantsFile, inv.number)
		}
		for _, file := range inv.files {
			if !slices.Contains(names, file) {
				t.Errorf("%s: invariant %d names the file %s, which does not exist", invariantsFile, inv.number, file)
			}
		}
		for _, test := range inv.tests {
			if !tests[test] {
				t.Errorf("%s: invariant %d names the test %s, which does not exist", invariantsFile, inv.number, test)
			}
		}
	}
}

// Code cites invariants by numbers that exist.
func TestCitedInvariants(t *testing.T) {
	count := len(parseInvariants(string(content(t, invariantsFile))))
	for _, name := range files(t) {
		if !isCode(name) || filepath.Dir(name) == "internal/tidy" {
			continue
		}
		n := 0
		for line := range strings.Lines(string(content(t, name))) {
			n++
			for _, m := range citation.FindAllStringSubmatch(line, -1) {
				if cited, _ := strconv.Atoi(m[1]); cited < 1 || cited > count {
					t.Errorf("%s:%d cites invariant %s, but %s has %d", name, n, m[1], invariantsFile, count)
				}
			}
		}
	}
}

// The parser, and with it the checks, on an example.
func TestParseInvariants(t *testing.T) {
	list := parseInvariants("# Title\n\n1. **One.** Kept by `internal/a/b.go`\n   and `bpf/c.h`. Tests: TestA,\n   TestB.\n2. **Two.** Test: TestC.\n")
	require.Equal(t, []invariant{
		{1, []string{"internal/a/b.go", "bpf/c.h"}, []string{"TestA", "TestB"}},
		{2, nil, []string{"TestC"}},
	}, list)
	require.Equal(t, "12", citation.FindStringSubmatch("// This is invariant 12.")[1])
}

// isCode reports whether a file holds Go or C code.
func isCode(name string) bool {
	return slices.Contains([]string{".go", ".c", ".h"}, filepath.Ext(name))
}
