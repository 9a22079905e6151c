package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"wsd/internal/command"
	"wsd/loadtest/kafka"
	"wsd/loadtest/report"
	"wsd/loadtest/workers"
)

func main() {
	os.Exit(execute(command.Interrupted(), os.Args[1:], os.Stdout, os.Stderr, command.IsTerminal(os.Stderr)))
}

// commands is the command line.
type commands struct {
	Capacity capacity       `cmd:"" help:"Hold many clients, each with at least one record per second, or search how many can be held."`
	Fanout   fanout         `cmd:"" help:"Deliver many records to many clients."`
	Storm    storm          `cmd:"" help:"All clients reconnect at once, with or without recovery, while records are delivered."`
	Churn    churnCommand   `cmd:"" help:"Clients leave and come back at a rate, while records are delivered."`
	Slow     slow           `cmd:"" help:"A share of the clients is slow, stopped or reset; the others must not suffer."`
	Soak     soak           `cmd:"" help:"Deliver records for a long time while some clients are slow, stopped or reset, and check the server's counters and the slope of its memory."`
	Publish  publishCommand `cmd:"" help:"Clients publish at a rate; measure acknowledgement and receipt, also beside a bare loop of Kafka and beside clients over their rate."`
	Skew     skew           `cmd:"" help:"Show how connections spread over shards: by the kernel's hash, from a shared accept queue, and by wsd's steering."`
	Compare  compare        `cmd:"" help:"Run several servers alternately, such as wsd and the floor, a minimal server in C, and print ratios."`
	Workers  workersCmd     `cmd:"" hidden:"" help:"Run workers that share an accept queue until standard input ends, for skew."`
	Proc     procCmd        `cmd:"" hidden:"" help:"Run a part of the clients until standard input ends, for --procs."`
	Kafka    kafkaCmd       `cmd:"" hidden:"" help:"Run a Kafka until standard input ends, for compare."`
}

// kafkaCmd is the command that compare starts for each wsd.
type kafkaCmd struct {
	Topic string `arg:"" help:"Topic to create."`
}

// workersCmd is the command that skew starts.
type workersCmd struct {
	Count int `arg:"" help:"Number of workers."`
}

// execute is the whole command, and returns its exit code. terminal says that stderr is a terminal, on which a line can
// be rewritten.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) (code int) {
	var c commands
	o := command.Options{
		Name: "loadtest", Grammar: &c, Stdout: stdout, Stderr: stderr,
		Kong: []kong.Option{kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
			kong.Vars{"criteria": criteriaNames()}},
		Description: "loadtest connects many clients to a wsd, produces records to its Kafka, and checks and " +
			"measures what arrives. " +
			"The exit code is 0 if all clients stayed connected and got every record once and in order, and no " +
			"--fail-if holds, " +
			"1 if not, 2 for a wrong command line.",
	}
	return command.Run(o, args, func(parsed *kong.Context) error {
		s := &session{stdout: stdout, stderr: stderr, live: &live{w: stderr, terminal: terminal}}
		return s.run(ctx, &c, parsed.Command())
	})
}

// session is one call of the program.
type session struct {
	stdout, stderr io.Writer
	live           *live
}

func (s *session) run(ctx context.Context, c *commands, name string) error {
	scenarios := map[string]scenario{"capacity": &c.Capacity, "fanout": &c.Fanout, "storm": &c.Storm, "churn": &c.Churn,
		"slow": &c.Slow, "soak": &c.Soak}
	switch {
	case scenarios[name] != nil:
		return s.scenario(ctx, scenarios[name])
	case name == "compare":
		if err := c.Compare.check(); err != nil {
			return command.UsageError{Err: err}
		}
		result, err := c.Compare.measure(ctx, s.live)
		if err != nil {
			return err
		}
		return s.print(result, result, c.Compare.JSON, c.Compare.HTML, result.Passed)
	case name == "skew":
		if err := c.Skew.check(); err != nil {
			return command.UsageError{Err: err}
		}
		result, err := c.Skew.measure(ctx, s.live)
		if err != nil {
			return err
		}
		return s.print(result, result, c.Skew.JSON, c.Skew.HTML, result.Passed)
	case name == "publish":
		return c.Publish.run(ctx, s.stdout)
	case name == "workers <count>":
		return workers.Serve(c.Workers.Count, os.Stdin, s.stdout)
	case name == "proc <memory> <cells>":
		return c.Proc.serve(os.Stdin, s.stdout)
	case name == "kafka <topic>":
		return kafka.Serve(ctx, c.Kafka.Topic, os.Stdin, s.stdout)
	}
	panic("BUG: command " + name + " has no code")
}

// scenario makes the run of a scenario, or its runs, and prints the result.
func (s *session) scenario(ctx context.Context, of scenario) error {
	plan := func() (*run, error) {
		r, err := of.plan()
		if err == nil {
			r.log, r.live = s.stderr, s.live
			err = r.check()
		}
		if err != nil {
			return nil, command.UsageError{Err: err}
		}
		return r, nil
	}
	first, err := plan()
	if err != nil {
		return err
	}
	var result *report.Result
	searching, ok := of.(*capacity)
	audited, soaks := of.(*soak)
	switch {
	case ok && searching.Search:
		result, err = searching.search(ctx, func(clients int) (*report.Result, error) {
			r, err := plan()
			if err != nil {
				return nil, err
			}
			r.clients = clients
			return r.do(ctx)
		})
	case soaks:
		result, err = audited.audit(ctx, first)
	default:
		result, err = first.do(ctx)
	}
	if err != nil {
		return err
	}
	return s.print(result, result, first.JSON, first.HTML, result.Passed)
}

// shown is a result that people can read.
type shown interface {
	WriteText(w io.Writer) error
	Page() *report.Page
}

// print writes a result. If it has not passed, the command fails.
func (s *session) print(result any, text shown, asJSON bool, page string, passed bool) (err error) {
	if asJSON {
		err = report.WriteJSON(s.stdout, result)
	} else {
		err = text.WriteText(s.stdout)
	}
	if page != "" {
		err = errors.Join(err, writePage(page, text.Page()))
	}
	if err == nil && !passed {
		return command.ErrReported
	}
	return err
}

func writePage(name string, page *report.Page) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	return errors.Join(page.Write(f), f.Close())
}
