package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/config"
)

// A wsd whose log nobody reads ends by SIGTERM, and also where Go itself ends it: SIGQUIT is a fatal error to it, which
// it reports with everything stopped.
func TestEndUnread(t *testing.T) {
	for signal, code := range map[unix.Signal]int{unix.SIGTERM: 0, unix.SIGQUIT: 2} {
		t.Run(signal.String(), func(t *testing.T) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			defer r.Close()
			defer w.Close()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "dev", "--client.listen=127.0.0.1:0", "--admin.listen=",
				"--control.socket", filepath.Join(t.TempDir(), "s"), "--steering.mode=off", "--dev.kafka-listen=127.0.0.1:0",
				"--dev.rate=0", "--log.format=json")
			cmd.Env = append(os.Environ(), asWSD+"=1", "GORACE=atexit_sleep_ms=0")
			cmd.Stderr = w
			require.NoError(t, cmd.Start())
			lines := bufio.NewReader(r)
			for line := ""; !strings.Contains(line, `"serving"`); {
				line, err = lines.ReadString('\n')
				require.NoError(t, err)
			}
			fill(t, w)
			require.NoError(t, cmd.Process.Signal(signal))
			stuck := time.AfterFunc(waitMax, func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait() // The exit code says how it ended.
			require.True(t, stuck.Stop(), "it did not end")
			require.Equal(t, code, cmd.ProcessState.ExitCode())
		})
	}
}

// fill writes to a pipe until nothing more fits, and returns how much that was.
func fill(t *testing.T, w *os.File) (filled int) {
	t.Helper()
	raw, err := w.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		own, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(own)
		for {
			n, err := unix.Write(own, make([]byte, 4096))
			if err != nil {
				return
			}
			filled += n
		}
	}))
	return filled
}

// unread returns a pipe that is full, and a function that reads what is written to it from then on, until the end of a
// line that contains a text.
func unread(t *testing.T) (w *os.File, read func(until string) string) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { w.Close(); r.Close() })
	filled := fill(t, w)
	return w, func(until string) string {
		_, err := io.CopyN(io.Discard, r, int64(filled))
		require.NoError(t, err)
		var text strings.Builder
		for b := make([]byte, 4096); ; {
			if _, rest, ok := strings.Cut(text.String(), until); ok && strings.Contains(rest, "\n") {
				return text.String()
			}
			n, err := r.Read(b)
			require.NoError(t, err)
			text.Write(b[:n])
		}
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
		line := func(i int) { log.Info("line", "number", fmt.Sprintf("<%d>%s", i, strings.Repeat("x", 100))) }
		line(0)
		require.Eventually(t, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.waiting) == 0
		}, waitMax, time.Millisecond) // The goroutine waits with the first line. A later one would tell of lost lines twice.
		for i := range 3999 {
			line(i + 1)
		}
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
