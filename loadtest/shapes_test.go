package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/loadtest/child"
)

// Every published shape runs against a real wsd, scaled down, and stands beside what was published.
func TestShapes(t *testing.T) {
	cpus, err := child.CPUs()
	require.NoError(t, err)
	if len(cpus) < 2 {
		t.Skip("shapes need two CPUs")
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "wsd"), "wsd/cmd/wsd").CombinedOutput()
	require.NoError(t, err, "%s", out)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	page, profiles := filepath.Join(dir, "shapes.html"), filepath.Join(dir, "profiles")
	cmd := exec.CommandContext(ctx, os.Args[0], "shapes", "--bin", dir, "--clients", "40", "--deliveries", "200", "--hold", "1s", "--connect-rate", "1000",
		"--html", page, "--profile", profiles, "--wsd-arg=--steering.mode=off", "--json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s%s", &stdout, &stderr)
	var r shapeResults
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &r))
	require.True(t, r.Passed)
	require.Len(t, r.Shapes, len(shapes))
	for i, s := range r.Shapes {
		require.Equal(t, shapes[i].name, s.Name)
		require.Empty(t, s.Error)
		require.Equal(t, int64(40), s.Result.Clients.Open, s.Name)
		require.NotEmpty(t, s.Published)
		require.Contains(t, s.Scale, "40 of ")
		if shapes[i].deliveries > 0 {
			require.InDelta(t, 200, float64(s.Result.Records.Expected), 20, s.Name)
			require.FileExists(t, filepath.Join(profiles, s.Name, "cpu.pprof"))
		}
	}
	require.Equal(t, []string{"criterion received/s<59000"}, cut(r.Shapes[0].Missed), "an aim that is missed is told, and fails only with --aim")
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(text), "kafkorama: Latency, ms")
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b))
	require.Contains(t, b.String(), "31,000 clients")
	for _, line := range []string{"kafkorama: 40 of 1,000,000 clients", "about 11s", "centrifugo: passed"} {
		require.Contains(t, stderr.String(), line)
	}
}

// cut keeps the criteria of the first failure.
func cut(failures []string) []string {
	if len(failures) == 0 {
		return nil
	}
	name, _, _ := bytes.Cut([]byte(failures[0]), []byte(":"))
	return []string{string(name)}
}

// A shape that fails does not keep the next from running.
func TestShapeFails(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wsd"), []byte("#!/bin/sh\necho no >&2; exit 1\n"), 0o700))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "shapes", "plan", "centrifugo", "--bin", dir, "--hold", "1s")
	out, err := cmd.Output()
	require.ErrorContains(t, err, "exit status 1")
	require.Regexp(t, `(?s)^not passed: 2 shapes.*\nplan\n.*failed: .*\ncentrifugo\n.*failed: .*no`, string(out))
}

func TestShapesUsage(t *testing.T) {
	for args, want := range map[string]string{"other": "none of kafkorama", "--hold=1ms": "--hold", "--clients=100000000": "--clients", "--shards=300": "--shards"} {
		status, _, errs := loadtest(t.Context(), "shapes", args)
		require.Equal(t, command.Usage, status, args)
		require.Contains(t, errs, want)
	}
}
