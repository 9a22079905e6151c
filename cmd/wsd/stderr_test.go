package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/config"
)

// unread returns a pipe that is full, and a function that reads what is written to it from then on.
func unread(t *testing.T) (w *os.File, read func(until string) string) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { w.Close(); r.Close() })
	raw, err := w.SyscallConn()
	require.NoError(t, err)
	filled := 0
	require.NoError(t, raw.Write(func(fd uintptr) bool {
		for {
			n, err := unix.Write(int(fd), make([]byte, 4096))
			if err != nil {
				return true
			}
			filled += n
		}
	}))
	return w, func(until string) string {
		_, err := io.CopyN(io.Discard, r, int64(filled))
		require.NoError(t, err)
		var text strings.Builder
		for b := make([]byte, 4096); !strings.Contains(text.String(), until); {
			n, err := r.Read(b)
			require.NoError(t, err)
			text.Write(b[:n])
		}
		return text.String()
	}
}

// Nobody waits for a log that nobody reads. What does not fit is counted, and told where it was lost.
func TestLogUnread(t *testing.T) {
	for format, notice := range map[string]string{
		"json": `"msg":"lines of the log were lost, because nobody read it","lines":`,
		"text": `msg="lines of the log were lost, because nobody read it" lines=`,
	} {
		w, read := unread(t)
		p := newPatient(w)
		log := newLogger(config.Log{Level: "info", Format: format}, env{stderr: p}).With("part", "a").WithGroup("g")
		written := make(chan struct{})
		go func() {
			defer close(written)
			for i := range 4000 {
				log.Info("line", "number", fmt.Sprintf("<%d>%s", i, strings.Repeat("x", 100)))
			}
		}()
		<-written
		log.Handler().(interface{ Flush() }).Flush() // It returns, although nothing could be written.
		p.mu.Lock()
		lost, waiting := p.lost, len(p.waiting)
		p.mu.Unlock()
		require.Positive(t, lost)
		require.LessOrEqual(t, waiting, stderrMax)

		text := read(notice)
		require.Contains(t, text, notice+fmt.Sprint(lost))
		last := strings.LastIndex(text, fmt.Sprintf("<%d>", 3999-lost))
		require.Positive(t, last, "all before the lost ones are there")
		require.Greater(t, strings.Index(text, notice), last)
		log.Info("line", "number", "after")
		p.Flush()
		p.mu.Lock()
		require.Nil(t, p.done, "without lines there is no goroutine")
		p.mu.Unlock()
	}
}

// lockedBuffer may be read while something is written to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// Lines come whole and in order, and Flush waits for all of them.
func TestLogOrder(t *testing.T) {
	var out lockedBuffer
	p := newPatient(&out)
	var want strings.Builder
	for i := range 2000 {
		line := fmt.Sprintln(i)
		want.WriteString(line)
		n, err := p.Write([]byte(line))
		require.NoError(t, err)
		require.Len(t, line, n)
		if i%100 == 0 {
			time.Sleep(time.Microsecond) // Lets the goroutine end now and then.
		}
	}
	p.Flush()
	out.mu.Lock()
	defer out.mu.Unlock()
	require.Equal(t, want.String(), out.b.String())
}
