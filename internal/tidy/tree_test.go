package tidy

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the top of the source tree, seen from this package's directory,
// where go test runs.
const root = "../.."

// notOurs are directories that hold no source: what a build leaves, and git.
var notOurs = []string{".git", "bin", "build"}

// files lists the project's files, relative to root. Git knows which are
// ignored; without it (a source archive, an image build) every file counts.
func files(tb testing.TB) []string {
	tb.Helper()
	cmd := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if out, err := cmd.Output(); err == nil {
		var list []string
		for name := range strings.SplitSeq(string(out), "\x00") {
			// A file removed but not committed yet is still listed.
			if info, err := os.Lstat(filepath.Join(root, name)); err == nil && info.Mode().IsRegular() {
				list = append(list, name)
			}
		}
		require.NotEmpty(tb, list)
		return list
	}
	var list []string
	require.NoError(tb, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains(notOurs, name) {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			list = append(list, name)
		}
		return nil
	}))
	require.NotEmpty(tb, list)
	return list
}

func content(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(tb, err)
	return b
}

// generated follows Go's convention, which bpf2go keeps as well.
func generated(text []byte) bool {
	head, _, _ := bytes.Cut(text, []byte("\npackage "))
	return bytes.HasPrefix(head, []byte("// Code generated ")) || bytes.Contains(head, []byte("\n// Code generated "))
}

func binary(text []byte) bool {
	return bytes.IndexByte(text[:min(len(text), 8000)], 0) >= 0
}
