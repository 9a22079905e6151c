package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stderrMax bounds the bytes that wait to be written. Further writes are dropped and counted.
	stderrMax = 256 << 10
	// stderrKept bounds the buffer that is used again.
	stderrKept = 64 << 10
	// stderrWait is how long the end of the process waits for a reader of what was written.
	stderrWait = 500 * time.Millisecond
)

// stderrPipe is how much of a pipe may wait for its reader. Linux lets everybody have 1 MiB, unless it is configured
// otherwise.
const stderrPipe = 1 << 20

// standardError returns the standard error of the process, for a patient to write to. If it is a pipe, descriptor 2 no
// longer waits for the reader: what Go itself writes there, of a panic or a fatal error, would else be waited for with
// all goroutines stopped, and the process would never end.
func standardError() *os.File {
	var stat unix.Stat_t
	if err := unix.Fstat(unix.Stderr, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		return os.Stderr
	}
	own, err := unix.FcntlInt(uintptr(unix.Stderr), unix.F_DUPFD_CLOEXEC, unix.Stderr+1)
	if err != nil {
		return os.Stderr
	}
	// Opened anew, because O_NONBLOCK on the descriptor would be one for all processes that have the pipe from the same
	// shell.
	fd, err := unix.Open("/proc/self/fd/2", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Dup3(fd, unix.Stderr, 0), unix.Close(fd))
	}
	if err != nil {
		_ = unix.Close(own) // It was never used.
		return os.Stderr
	}
	_, _ = unix.FcntlInt(uintptr(own), unix.F_SETPIPE_SZ, stderrPipe) // It stays as it is if it may not grow.
	return os.NewFile(uintptr(own), os.Stderr.Name())
}

// patient is a writer that never waits: it writes in a goroutine, which exists while something is to be written.
// Standard error is mostly a pipe, and whoever reads it may stop (a container's log driver, a full disk behind it). A
// shard that then waited to write a line would serve nobody, and neither SIGTERM nor a panic would end the process.
//
// Any goroutine may call its methods.
type patient struct {
	out io.Writer

	mu      sync.Mutex
	notice  func(lost uint64) []byte // Returns the line that says how many writes were dropped.
	waiting []byte
	spare   []byte
	lost    uint64        // Writes that were dropped after what waits.
	done    chan struct{} // Closed by the goroutine when nothing waits any more; nil: there is none.
}

func newPatient(out io.Writer) *patient {
	return &patient{out: out, notice: func(lost uint64) []byte {
		return fmt.Appendf(nil, "wsd: %d lines were lost, because nobody read them\n", lost)
	}}
}

// Write takes b, a line, to be written soon. It never fails.
func (p *patient) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost > 0 || len(p.waiting)+len(b) > stderrMax {
		p.lost++
		return len(b), nil
	}
	p.waiting = append(p.waiting, b...)
	if p.done == nil {
		p.done = make(chan struct{})
		go p.write(p.done)
	}
	return len(b), nil
}

// write writes until nothing waits. What was lost is told where it was lost.
func (p *patient) write(done chan struct{}) {
	defer close(done)
	for {
		p.mu.Lock()
		if p.lost > 0 {
			p.waiting = append(p.waiting, p.notice(p.lost)...)
			p.lost = 0
		}
		taken := p.waiting
		p.waiting, p.spare = p.spare[:0], nil
		if len(taken) == 0 {
			p.waiting, p.done = nil, nil
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()

		_, _ = p.out.Write(taken) // Nobody is left to tell of an error.

		p.mu.Lock()
		if cap(taken) <= stderrKept {
			p.spare = taken
		}
		p.mu.Unlock()
	}
}

// Flush returns when what was given to Write has been written, or after stderrWait.
func (p *patient) Flush() {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(stderrWait):
	}
}

// setNotice sets the form of the line about lost ones.
func (p *patient) setNotice(notice func(lost uint64) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notice = notice
}

// flushed is a handler whose lines can be waited for, which a shard does before it ends the process.
type flushed struct {
	slog.Handler
	*patient
}

// WithAttrs implements slog.Handler.
func (h flushed) WithAttrs(attrs []slog.Attr) slog.Handler {
	return flushed{h.Handler.WithAttrs(attrs), h.patient}
}

// WithGroup implements slog.Handler.
func (h flushed) WithGroup(name string) slog.Handler {
	return flushed{h.Handler.WithGroup(name), h.patient}
}
