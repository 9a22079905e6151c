package child

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// linesMax is how many lines of a process's standard error are kept: the newest.
const linesMax = 50

// Options is what Start needs.
type Options struct {
	Path string   // Program to start.
	Args []string // Arguments of the program.
	CPU  int      // The only CPU that it may use, or AnyCPU.
}

// AnyCPU lets a process use the CPUs of this one.
const AnyCPU = -1

// Process is a process that was started.
type Process struct {
	In  io.WriteCloser // Standard input of the process.
	Out io.Reader      // Standard output of the process.
	cmd *exec.Cmd

	reading sync.WaitGroup
	mu      sync.Mutex
	lines   [][]byte      // Lines of standard error; guarded by mu.
	ended   bool          // Whether standard error has ended; guarded by mu.
	more    chan struct{} // Receives a value when there is a new line.
}

// Start starts a process. Stop must follow.
func Start(o Options) (*Process, error) {
	cmd := exec.Command(o.Path, o.Args...) //nolint:noctx // Stop ends the process, and gives it time.
	p := &Process{cmd: cmd, more: make(chan struct{}, 1)}
	// Ctrl-C must reach this process only, which then stops the child.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Path, err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Path, err)
	}
	errs, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Path, err)
	}
	start := p.cmd.Start
	if o.CPU != AnyCPU {
		start = func() error { return pinned(o.CPU, p.cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, fmt.Errorf("start %s on CPU %d: %w", o.Path, o.CPU, err)
	}
	p.In, p.Out = in, out
	p.reading.Go(func() { p.read(errs) })
	return p, nil
}

// read keeps the lines of standard error.
func (p *Process) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		p.mu.Lock()
		if len(line) > 0 {
			p.lines = append(p.lines, bytes.TrimSpace(line))
			p.lines = p.lines[max(0, len(p.lines)-linesMax):]
		}
		p.ended = err != nil
		p.mu.Unlock()
		select {
		case p.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Terminate sends SIGTERM, for one that has to end while its owner waits for an answer of it. Any goroutine may call
// it; Stop must follow.
func (p *Process) Terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) } // It may have ended.

// Await gives found the newest lines of standard error until it returns true. It is an error when the process ends
// before, or when it takes longer than timeout.
func (p *Process) Await(timeout time.Duration, found func(line []byte) bool) error {
	deadline := time.After(timeout)
	for {
		p.mu.Lock()
		for _, line := range p.lines {
			if found(line) {
				p.mu.Unlock()
				return nil
			}
		}
		ended := p.ended
		p.mu.Unlock()
		if ended {
			return fmt.Errorf("%s has ended: %s", p.cmd.Path, p.Said())
		}
		select {
		case <-p.more:
		case <-deadline:
			return fmt.Errorf("%s does not get ready within %s: %s", p.cmd.Path, timeout, p.Said())
		}
	}
}

// Said is the last line that the process wrote to standard error.
func (p *Process) Said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) == 0 {
		return "it said nothing"
	}
	return string(p.lines[len(p.lines)-1])
}

// Stop closes the standard input of the process, sends SIGTERM, after grace SIGKILL, and waits. A process that had to
// be killed, or that ended with another status than 0 without being asked to, is an error.
func (p *Process) Stop(grace time.Duration) error {
	_ = p.In.Close() // It may have gone.
	signalled := p.cmd.Process.Signal(syscall.SIGTERM)
	var killed atomic.Bool
	kill := time.AfterFunc(grace, func() {
		killed.Store(true)
		_ = p.cmd.Process.Kill() // It may have ended just now.
	})
	p.reading.Wait()
	err := p.cmd.Wait()
	kill.Stop()
	var status *exec.ExitError
	switch {
	case killed.Load():
		return fmt.Errorf("stop %s: it had to be killed after %s", p.cmd.Path, grace)
	case err == nil:
		return nil
	case signalled != nil && !errors.Is(signalled, os.ErrProcessDone):
		return fmt.Errorf("stop %s: %w", p.cmd.Path, signalled)
	case errors.As(err, &status) && signalled == nil && terminated(status):
		return nil
	default:
		return fmt.Errorf("%s has ended: %w: %s", p.cmd.Path, err, p.Said())
	}
}

// terminated says whether our SIGTERM has ended it.
func terminated(e *exec.ExitError) bool {
	status, ok := e.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}
