package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const controlFile = "Package: libz\nVersion: 1:1.2+b1\nArchitecture: amd64\nDescription: a library\n Package: no field\n"

func TestBill(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "libz"), []byte(controlFile), 0o600))
	program, err := os.Executable()
	require.NoError(t, err)
	var out, again bytes.Buffer
	args := []string{"-name", "image", "-version", "v1", "-packages", dir, program}
	require.NoError(t, run(args, &out, io.Discard))
	require.NoError(t, run(args, &again, io.Discard))
	require.Equal(t, out.String(), again.String(), "the same input gives the same bytes")

	var b bill
	require.NoError(t, json.Unmarshal(out.Bytes(), &b))
	require.Equal(t, "CycloneDX", b.Format)
	require.Equal(t, "v1", b.Metadata.Component.Version)
	require.Len(t, b.Components, 2)
	libraries := map[string]string{}
	for _, c := range b.Components[0].Components {
		libraries[c.Name] = c.PURL
	}
	require.Equal(t, "pkg:golang/stdlib@"+strings.TrimPrefix(runtime.Version(), "go"), libraries["stdlib"])
	// A test's own binary names no modules; wsd's are looked for in the image (make test-image).
	require.Len(t, libraries, 1)
	require.Equal(t, "pkg:deb/debian/libz@1:1.2%2Bb1?arch=amd64", b.Components[1].PURL)
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "odd"), []byte("Package: odd\n"), 0o600))
	program, err := os.Executable()
	require.NoError(t, err)
	for want, args := range map[string][]string{
		"at least one program": {},
		"odd names no package": {"-packages", dir, program},
		"list packages":        {"-packages", filepath.Join(dir, "none"), program},
		"was built from":       {filepath.Join(dir, "odd")},
		"not defined":          {"-color"},
	} {
		require.ErrorContains(t, run(args, io.Discard, io.Discard), want)
	}
}
