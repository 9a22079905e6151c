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

// process is a Java program that runs.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // Closed when it has ended.
	err  error         // Valid then.
}

// startProcess starts a program whose output is appended to the file log. It is killed when this process ends, however it ends.
func startProcess(log string, args []string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("keep what Kafka says: %w", err)
	}
	p := &process{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})} //nolint:noctx // stop and kill end it.
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// Ctrl-C is for us: we end it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		defer close(p.done)
		defer out.Close()
		// The signal comes when the thread ends that has started it, so that thread stays.
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

// end sends the signal and waits; after grace the process is killed, which is an error.
func (p *process) end(signal os.Signal, grace time.Duration) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end a broker: %w", err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		_ = p.cmd.Process.Kill() // It may have ended just now.
		<-p.done
		return fmt.Errorf("a broker did not end within %s and was killed", grace)
	}
}

// tail returns the last lines of a file, without where in Kafka's code an error was.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := slices.DeleteFunc(bytes.Split(bytes.TrimSpace(b), []byte("\n")), func(line []byte) bool { return bytes.HasPrefix(line, []byte("\tat ")) })
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
