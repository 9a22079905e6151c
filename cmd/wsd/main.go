// Command wsd delivers records from Kafka to WebSocket clients. See README.md.
package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"wsd/internal/command"
	"wsd/internal/config"
)

// Set by the linker (see Makefile).
var version, commit = "unknown", "unknown"

// env is what a command may use of the process, so that a test can bring its own.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	terminal       bool // Whether stderr is a terminal.
	screen         bool // Whether stdout is a terminal.
	own            bool // Whether the process runs this command alone, so that its privileges may be dropped.
}

func main() {
	stderr := newPatient(standardError())
	code := run(os.Args[1:], env{
		stdin: os.Stdin, stdout: os.Stdout, stderr: stderr, environ: os.Environ(),
		terminal: command.IsTerminal(os.Stderr), screen: command.IsTerminal(os.Stdout), own: true,
	})
	stderr.Flush()
	os.Exit(code)
}

// run parses args, runs the command and returns the exit code.
func run(args []string, e env) (code int) {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	o := command.Options{
		Name: "wsd", Description: "wsd reads records from Kafka and delivers them to WebSocket clients.",
		Grammar: newCLI(), Stdout: e.stdout, Stderr: e.stderr,
		Kong: []kong.Option{
			kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
			kong.ExplicitGroups(groups()),
			kong.Vars{"limits": strings.Join(limitNames, ", ")},
		},
	}
	return command.Run(o, dashes(args), func(parsed *kong.Context) error {
		err := parsed.Run(e)
		if _, wrong := errors.AsType[*config.Error](err); wrong {
			return command.UsageError{Err: err}
		}
		return err
	})
}
