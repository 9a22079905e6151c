package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"wsd/loadtest/kafka"
	"wsd/loadtest/progress"
	"wsd/loadtest/report"
)

// Exit statuses.
const (
	exitPassed = 0
	exitFailed = 1 // Not everything that was asked for was reached.
	exitUsage  = 2
)

// exit is the panic by which kong ends after --help.
type exit int

// usageError is an error of the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // A second signal ends the process at once.
	}()
	_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, err == nil))
}

// run is the whole command. terminal says that stderr can draw bars.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) (status int) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case exit:
			status = int(v)
		default:
			panic(v)
		}
	}()
	var c commands
	parser, err := kong.New(&c, kong.Name("loadtest"), kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.Description("Connects many clients to a wsd, produces records to its Kafka, and checks and measures what arrives. "+
			"The exit status is 0 if all clients were held and got every record once and in order, 1 if not, 2 for a wrong command line."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.UsageOnError())
	if err != nil {
		panic("BUG: command line: " + err.Error())
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "loadtest: %v; see loadtest --help\n", err)
		return exitUsage
	}
	return c.do(ctx, parsed.Command(), progress.New(stderr, terminal), stdout, stderr)
}

// do does what a command asks for.
func (c *commands) do(ctx context.Context, command string, display *progress.Display, stdout, stderr io.Writer) int {
	var p plan
	var err error
	switch command {
	case "capacity":
		p, err = c.Capacity.plan()
	case "fanout":
		p = c.Fanout.plan()
	case "soak":
		p, err = c.Soak.plan()
	case "compare":
		if err = c.Compare.check(); err == nil {
			return c.Compare.run(ctx, display, stdout, stderr)
		}
	case "kafka <topic>":
		if err = kafka.Serve(ctx, c.Kafka.Topic, os.Stdin, stdout); err == nil {
			return exitPassed
		}
	default:
		panic("BUG: command " + command + " has no code")
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "loadtest: %v\n", err)
		return exitUsage
	}
	t := &test{plan: p, display: display, log: stderr}
	if command != "soak" {
		return t.print(stdout, stderr, func() (*report.Report, error) { return t.run(ctx) })
	}
	s := &soakTest{test: t, soak: &c.Soak}
	t.note = s.note
	return t.print(stdout, stderr, func() (*report.Report, error) { return s.run(ctx) })
}

// print does the test, writes its report, and returns the exit status.
func (t *test) print(stdout, stderr io.Writer, do func() (*report.Report, error)) int {
	result, err := do()
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "loadtest: %v\n", err)
		if errors.As(err, &usageError{}) {
			return exitUsage
		}
		return exitFailed
	}
	if t.JSON {
		err = result.WriteJSON(stdout)
	} else {
		err = result.WriteText(stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "loadtest: %v\n", err)
		return exitFailed
	}
	if !result.Passed {
		return exitFailed
	}
	return exitPassed
}
