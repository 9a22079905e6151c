// Command wsd delivers records from Kafka to WebSocket clients. See README.md.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"wsd/internal/config"
)

// Set by the linker (see Makefile).
var version, commit = "unknown", "unknown"

// Exit codes.
const (
	exitOK      = 0
	exitRunTime = 1
	exitUsage   = 2 // The command line or the configuration is wrong.
)

// env is what a command may use of the process, so that a test can bring its own.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	terminal       bool // Whether stderr is a terminal.
	screen         bool // Whether stdout is one.
}

func main() {
	os.Exit(run(os.Args[1:], env{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(), terminal: isTerminal(os.Stderr), screen: isTerminal(os.Stdout),
	}))
}

// usageError is a mistake in the command line or the configuration.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// failure is an error whose text has been written already.
type failure struct{ error }

// exit is what a parser panics with when it has printed help.
type exit int

// run parses args, runs the command and returns the exit code.
func run(args []string, e env) (code int) {
	defer func() {
		if r := recover(); r != nil {
			asked, ok := r.(exit)
			if !ok {
				panic(r)
			}
			code = int(asked)
		}
	}()
	err := parseAndRun(args, e)
	var usage usageError
	var parse *kong.ParseError
	var faults *config.Error
	var told failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &told):
		return exitRunTime
	case errors.As(err, &parse):
		fmt.Fprintf(e.stderr, "wsd: %v\nSee wsd --help, or wsd %s --help.\n", err, commandOf(args))
		return exitUsage
	case errors.As(err, &usage), errors.As(err, &faults):
		fmt.Fprintf(e.stderr, "wsd: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(e.stderr, "wsd: %v\n", err)
		return exitRunTime
	}
}

func parseAndRun(args []string, e env) error {
	cli := newCLI()
	parser, err := kong.New(cli, kong.Name("wsd"), kong.Writers(e.stdout, e.stderr), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}), kong.ExplicitGroups(groups()),
		kong.Vars{"limits": strings.Join(limitNames, ", ")},
		kong.Description("wsd takes records from Kafka and delivers them to WebSocket clients."))
	if err != nil {
		return fmt.Errorf("BUG: the command line's grammar: %w", err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(dashes(args))
	if err != nil {
		return err
	}
	return parsed.Run(e)
}
