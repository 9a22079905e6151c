// Package command holds what the commands of this repository share: parsing a command line and ending with an exit
// code.
//
// Thread rule: Run belongs to the goroutine that calls it.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"
)

// Exit codes of every command.
const (
	OK     = 0
	Failed = 1 // The command could not do what it was asked to, or found a fault.
	Usage  = 2 // The command line or the configuration is wrong.
)

// UsageError is a mistake in the command line or the configuration: Run returns Usage for it.
type UsageError struct{ Err error }

// Error returns the text of the mistake.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake itself.
func (e UsageError) Unwrap() error { return e.Err }

// ErrReported makes Run return Failed without printing anything, for a command that has printed what is wrong.
var ErrReported = errors.New("the fault has been reported")

// exit is the panic by which kong ends a command after it has printed help.
type exit int

// Options is what Run needs.
type Options struct {
	Name           string // Of the command, for help and errors.
	Description    string // First lines of its help.
	Grammar        any    // Pointer to a struct that kong understands; the arguments are stored in it.
	Stdout, Stderr io.Writer
	Kong           []kong.Option // Further options of the parser; may be nil.
}

// Run parses args and, if they are right, calls do. It prints do's error to Stderr and returns the exit code of the
// process: OK without an error, Usage for a UsageError or wrong args, Failed for any other error.
func Run(o Options, args []string, do func(*kong.Context) error) (code int) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case exit:
			code = int(v)
		default:
			panic(v)
		}
	}()
	parser, err := kong.New(o.Grammar, append([]kong.Option{
		kong.Name(o.Name), kong.Description(o.Description), kong.Writers(o.Stdout, o.Stderr),
		kong.Exit(func(code int) { panic(exit(code)) }),
	}, o.Kong...)...)
	if err != nil {
		panic("BUG: grammar of the command line: " + err.Error())
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(o.Stderr, "%s: %v\nSee %s --help", o.Name, err, o.Name)
		if words := wordsOf(args); words != "" {
			fmt.Fprintf(o.Stderr, ", or %s%s --help", o.Name, words)
		}
		fmt.Fprintln(o.Stderr, ".")
		return Usage
	}
	err = do(parsed)
	switch {
	case err == nil:
		return OK
	case errors.Is(err, ErrReported):
		return Failed
	}
	fmt.Fprintf(o.Stderr, "%s: %v\n", o.Name, err)
	if errors.As(err, &UsageError{}) {
		return Usage
	}
	return Failed
}

// wordsOf returns the words of args up to the first flag, each after a space: the subcommand that was meant.
func wordsOf(args []string) string {
	var b strings.Builder
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			break
		}
		b.WriteString(" " + arg)
	}
	return b.String()
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Interrupted returns a context that ends at the first SIGINT or SIGTERM. The second one ends the process at once.
func Interrupted() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}
