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
	"regexp"
	"slices"
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
		what, command := explain(err, args, parser.Model.Node)
		fmt.Fprintf(o.Stderr, "%s: %s\nSee %s --help", o.Name, what, o.Name)
		if command != o.Name {
			fmt.Fprintf(o.Stderr, ", or %s --help", command)
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

// noDuration is what kong says of a value that is no duration.
var noDuration = regexp.MustCompile(`expected duration but got ("[^"]*"): .*`)

// explain returns what is wrong with a command line, in words of its own where kong's name no remedy, and the last
// command of it that there is.
func explain(err error, args []string, root *kong.Node) (what, command string) {
	node := root
	if parse, ok := errors.AsType[*kong.ParseError](err); ok {
		if selected := parse.Context.Selected(); selected != nil {
			node = selected
		}
	}
	if parent := node.Parent; parent != nil && parent.DefaultCmd == node && !slices.Contains(args, node.Name) {
		node = parent // Kong chose the default, because the word that is there is no command.
	}
	what = noDuration.ReplaceAllString(err.Error(),
		"$1 is not a duration: write a number with a unit, such as 500ms, 5s or 2m")
	if rest, ok := strings.CutPrefix(what, "unexpected argument "); ok && len(node.Children) > 0 {
		what = "unknown command " + rest
	}
	return what, node.FullPath()
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
