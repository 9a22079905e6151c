package reload

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

// rig is a value made of two files that must be equal, like a certificate and its key.
type rig struct {
	*Value[string]
	a, b string
	log  *testutil.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{a: filepath.Join(dir, "a"), b: filepath.Join(dir, "b"), log: &testutil.Buffer{}}
	r.write(t, r.a, "1")
	r.write(t, r.b, "1")
	r.Value = New("first", Options[string]{Name: "the pair", Paths: []string{r.a, r.b},
		Parse: func(contents [][]byte) (string, error) {
			if string(contents[0]) != string(contents[1]) {
				return "", errors.New("they do not match")
			}
			return string(contents[0]), nil
		}, Logger: slog.New(slog.NewTextHandler(r.log, nil))})
	return r
}

func (*rig) write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func (r *rig) lines(part string) int { return strings.Count(r.log.String(), part) }

func TestValueFollowsItsFiles(t *testing.T) {
	r := newRig(t)
	require.Equal(t, "1", r.Get())
	require.Empty(t, r.log.String(), "nothing has changed")
	r.write(t, r.a, "2")
	for range 3 {
		require.Equal(t, "1", r.Get(), "the files do not match yet")
	}
	require.Equal(t, 1, r.lines("they do not match"), "logged once")
	require.NoError(t, os.Remove(r.b))
	require.Equal(t, "1", r.Get())
	require.Equal(t, 1, r.lines("last good ones"), "the same fault still")
	r.write(t, r.b, "2")
	require.Equal(t, "2", r.Get())
	require.Equal(t, 1, r.lines("files can be used again"))
	r.write(t, r.a, strings.Repeat("x", FileMax+1))
	require.Equal(t, "2", r.Get())
	require.Equal(t, 1, r.lines("larger than 1048576 bytes"), "logged again after it was good")
	r.write(t, r.a, "2")
	require.Equal(t, "2", r.Get())
	require.Equal(t, 2, r.lines("files can be used again"))
}

// Kubernetes replaces a whole directory of secrets by one symbolic link. The sizes and times of the files may be equal.
func TestValueBehindALink(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		file := filepath.Join(dir, version, "secret")
		require.NoError(t, os.WriteFile(file, []byte(version), 0o600))
		require.NoError(t, os.Chtimes(file, time.Unix(1, 0), time.Unix(1, 0)))
	}
	link := filepath.Join(dir, "now")
	require.NoError(t, os.Symlink("v1", link))
	log := &testutil.Buffer{}
	v := New("", Options[string]{Name: "it", Paths: []string{filepath.Join(link, "secret")},
		Parse:  func(contents [][]byte) (string, error) { return string(contents[0]), nil },
		Logger: slog.New(slog.NewTextHandler(log, nil))})
	require.Equal(t, "v1", v.Get())
	require.NoError(t, os.Symlink("v2", link+".new"))
	require.NoError(t, os.Rename(link+".new", link))
	require.Equal(t, "v2", v.Get())
	require.Contains(t, log.String(), "files have changed")
}

// A pipe that a shell made, such as <(pass kafka), can be read once, and opening it again would block.
func TestPipeIsNotReadAgain(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	v := New("first", Options[string]{Paths: []string{pipe}})
	require.Equal(t, "first", v.Get())
	_, err := ReadRegular(pipe)
	require.ErrorIs(t, err, ErrNotRegular)
}

func TestWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var count counting
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, time.Millisecond, &count, &count)
	}()
	require.Eventually(t, func() bool { return count.n.Load() >= 4 }, time.Minute, time.Millisecond)
	cancel()
	<-done
}

type counting struct{ n atomic.Int64 }

func (c *counting) Refresh() { c.n.Add(1) }
