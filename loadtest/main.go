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

	"wsd/loadtest/progress"
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
	var p plan
	switch parsed.Command() {
	case "capacity":
		p, err = c.Capacity.plan()
	case "fanout":
		p = c.Fanout.plan()
	default:
		panic("BUG: command " + parsed.Command() + " has no code")
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "loadtest: %v\n", err)
		return exitUsage
	}
	t := &test{plan: p, display: progress.New(stderr, terminal), log: stderr}
	result, err := t.run(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "loadtest: %v\n", err)
		if errors.As(err, &usageError{}) {
			return exitUsage
		}
		return exitFailed
	}
	if p.JSON {
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
