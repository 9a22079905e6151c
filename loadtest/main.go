package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"wsd/internal/command"
	"wsd/loadtest/kafka"
	"wsd/loadtest/progress"
	"wsd/loadtest/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // A second signal ends the process at once.
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, command.IsTerminal(os.Stderr)))
}

// run is the whole command, and returns its exit code. terminal says that stderr is a terminal, which can show progress
// bars.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) (code int) {
	var c commands
	o := command.Options{
		Name: "loadtest", Grammar: &c, Stdout: stdout, Stderr: stderr,
		Kong: []kong.Option{kong.ConfigureHelp(kong.HelpOptions{Compact: true})},
		Description: "loadtest connects many clients to a wsd, produces records to its Kafka, and checks and " +
			"measures what arrives. " +
			"The exit code is 0 if all clients stayed connected and got every record once and in order, 1 if not, 2 " +
			"for a wrong command line.",
	}
	return command.Run(o, args, func(parsed *kong.Context) error {
		return c.do(ctx, parsed.Command(), progress.New(stderr, terminal), stdout, stderr)
	})
}

// do runs a command.
func (c *commands) do(ctx context.Context, name string, display *progress.Display, stdout, stderr io.Writer) error {
	var p plan
	var err error
	switch name {
	case "capacity":
		p, err = c.Capacity.plan()
	case "fanout":
		p = c.Fanout.plan()
	case "soak":
		p, err = c.Soak.plan()
	case "compare":
		if err = c.Compare.check(); err == nil {
			return c.Compare.run(ctx, display, stdout)
		}
	case "kafka <topic>":
		err = kafka.Serve(ctx, c.Kafka.Topic, os.Stdin, stdout)
		if err == nil {
			return nil
		}
	default:
		panic("BUG: command " + name + " has no code")
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return command.UsageError{Err: err}
	}
	t := &test{plan: p, display: display, log: stderr}
	if name != "soak" {
		return t.print(stdout, func() (*report.Report, error) { return t.run(ctx) })
	}
	s := &soakTest{test: t, soak: &c.Soak}
	t.note = s.note
	return t.print(stdout, func() (*report.Report, error) { return s.run(ctx) })
}

// print runs the test and writes its report.
func (t *test) print(stdout io.Writer, do func() (*report.Report, error)) error {
	result, err := do()
	if err != nil {
		return err
	}
	if t.JSON {
		err = result.WriteJSON(stdout)
	} else {
		err = result.WriteText(stdout)
	}
	return passed(err, result.Passed)
}

// passed returns the error with which a command ends after it has written its report.
func passed(err error, passed bool) error {
	if err == nil && !passed {
		return command.ErrReported
	}
	return err
}
