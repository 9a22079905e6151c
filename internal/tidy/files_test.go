package tidy

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	linesMax = 500     // a file past it holds more than one idea
	bytesMax = 256_000 // nothing here is that large that belongs into git
)

func TestFileLength(t *testing.T) {
	for _, name := range files(t) {
		if !slices.Contains([]string{".go", ".c", ".h", ".js"}, filepath.Ext(name)) {
			continue
		}
		text := content(t, name)
		if lines := bytes.Count(text, []byte("\n")); lines > linesMax && !generated(text) {
			t.Errorf("%s has %d lines, more than %d: split it by idea", name, lines, linesMax)
		}
	}
}

func TestNoStrayFiles(t *testing.T) {
	for _, name := range files(t) {
		info, err := os.Stat(filepath.Join(root, name))
		require.NoError(t, err)
		if info.Size() > bytesMax {
			t.Errorf("%s has %d bytes, more than %d", name, info.Size(), bytesMax)
		}
		// The eBPF objects are the only programs that are committed.
		if bytes.HasPrefix(content(t, name), []byte("\x7fELF")) &&
			(filepath.Dir(name) != "internal/steering" || filepath.Ext(name) != ".o") {
			t.Errorf("%s is a compiled program", name)
		}
	}
}

// A build's directories inside a committed object differ from machine to
// machine, and tell about the one that built it.
func TestObjectsNameNoDirectory(t *testing.T) {
	directory := regexp.MustCompile(`/(home|root|work|tmp|usr|build|src)/[[:print:]]*`)
	for _, name := range files(t) {
		if filepath.Ext(name) != ".o" {
			continue
		}
		text := content(t, name)
		if path := directory.Find(text); path != nil {
			t.Errorf("%s holds the path %q", name, path)
		}
		if bytes.Contains(text, []byte(".debug_info")) {
			t.Errorf("%s is not stripped", name)
		}
	}
}

// A package of several files has its comment in doc.go; one of a single file may
// have it there.
func TestPackagesAreDocumented(t *testing.T) {
	packages := map[string][]string{}
	for _, name := range files(t) {
		if strings.HasPrefix(name, "internal/") && filepath.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go") {
			packages[filepath.Dir(name)] = append(packages[filepath.Dir(name)], name)
		}
	}
	for dir, names := range packages {
		doc := dir + "/doc.go"
		if len(names) == 1 {
			doc = names[0]
		}
		if !slices.Contains(names, doc) {
			t.Errorf("%s has no doc.go", dir)
			continue
		}
		if !bytes.HasPrefix(content(t, doc), []byte("// Package "+filepath.Base(dir)+" ")) {
			t.Errorf("%s does not begin with a package comment", doc)
		}
	}
}

// The image is built with the Go that the module asks for.
func TestImageUsesTheModulesGo(t *testing.T) {
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(content(t, "go.mod"))
	require.NotNil(t, version)
	require.Contains(t, string(content(t, "Dockerfile")), "golang:"+string(version[1])+"-")
}
