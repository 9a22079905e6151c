package kafkabroker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// process is a running Java program.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // Closed when the program has ended.
	err  error         // How it ended. Valid when done is closed.
}

// startProcess starts a program and appends its output to the file log. The program is killed when this process ends,
// however it ends.
func startProcess(log string, args []string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open Kafka's log: %w", err)
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // stop and kill end it.
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// Ctrl-C is for this process, which then ends the program.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		defer close(p.done)
		defer out.Close()
		// The kernel sends the signal when the thread that started the program ends, so that thread must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start Java (run make setup): %w", err)
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end sends the signal and waits. After grace it kills the process, which is an error.
func (p *process) end(signal os.Signal, grace time.Duration) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end a broker: %w", err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		_ = p.cmd.Process.Kill() // It may have just ended.
		<-p.done
		return fmt.Errorf("a broker did not end within %s and was killed", grace)
	}
}

// tail returns the last lines of a file, without Java's stack traces.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := slices.DeleteFunc(bytes.Split(bytes.TrimSpace(b), []byte("\n")),
		func(line []byte) bool { return bytes.HasPrefix(line, []byte("\tat ")) })
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
