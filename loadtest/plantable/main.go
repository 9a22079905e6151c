package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"wsd/internal/command"
	"wsd/loadtest/child"
)

func main() {
	os.Exit(run(command.Interrupted(), os.Args[1:], os.Stdout, os.Stderr))
}

// config is the command line.
type config struct {
	Rounds    int           `default:"2" help:"Rounds, of 20 minutes with all rows. In each, every row runs once, in the other order than in the round before (${default})."`
	Clients   int           `default:"8000" help:"Clients that dial (${default})."`
	CPU       float64       `name:"cpu" default:"0.4" help:"CPU cap of the server with all its processes, in CPUs; 0: none (${default})."`
	Rate      float64       `default:"400" help:"Clients that dial first, per second (${default})."`
	Messages  float64       `default:"2" help:"Records per second on each of the channels that many clients share (${default})."`
	Own       float64       `default:"0.5" help:"Records per second on each channel that one client has for itself (${default})."`
	Size      int           `default:"256" help:"Bytes of a record (${default})."`
	Window    time.Duration `default:"10s" help:"How long after its first dial a client may open (${default})."`
	Hold      time.Duration `default:"5s" help:"How long clients are held after that, while CPU per delivery is measured (${default})."`
	Rows      string        `default:"." help:"Regular expression of the rows to run, such as '^(none at 3|wsd)' (${default})."`
	Resume    bool          `help:"Go on with a table of the same options that was interrupted, from OUT/results/partial.json. Runs that failed are repeated."`
	Short     bool          `help:"A form of under 30 s that only shows that everything runs: 400 clients, four rows, one round. It writes to build/results unless --out says otherwise."`
	Calibrate bool          `help:"Only find the CPU cap with which the bare baseline with 3 shards holds 35 to 55 %, starting from --cpu, and print it."`
	Bin       string        `help:"Directory with the programs baseline and wsd. Default: that of this program."`
	Out       string        `help:"Directory for results.md and results/. Default: docs."`
	Note      string        `help:"A sentence to put at the top of results.md, such as what else the machine did."`
	CPUs      []int         `name:"cpus" help:"CPUs of the server, and of clients and Kafka. Default: the first two that this process may use."`

	rows *regexp.Regexp
}

const description = "plantable runs the baseline with nothing, with each planned optimisation and with all, at 3 " +
	"and 7 shards, and wsd at 3, 7 and 64, alternating under one CPU cap, and writes results.md. The defaults take " +
	"about 40 minutes, with --rounds 1 half of it. Ctrl-C writes what there is, and --resume goes on. " +
	"It needs root, for a cgroup (version 1) with a CPU quota, and two CPUs."

// run is the whole command, and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case kafkaCommand:
			return hidden(stderr, serveKafka(ctx, args[1:], os.Stdin, stdout))
		case enterCommand:
			return hidden(stderr, enter(args[1:])) // Returns only after an error.
		}
	}
	var c config
	o := command.Options{Name: "plantable", Grammar: &c, Stdout: stdout, Stderr: stderr, Description: description}
	return command.Run(o, args, func(*kong.Context) error {
		if err := c.check(); err != nil {
			return command.UsageError{Err: err}
		}
		return c.measure(ctx, stdout, stderr)
	})
}

func hidden(stderr io.Writer, err error) int {
	if err != nil {
		fmt.Fprintf(stderr, "plantable: %v\n", err)
		return command.Failed
	}
	return command.OK
}

// check checks the command line, and sets the fields that it does not set.
func (c *config) check() (err error) {
	if c.Out == "" {
		c.Out = map[bool]string{true: "build/results", false: "docs"}[c.Short]
	}
	if c.Short {
		c.Rounds, c.Clients, c.Window, c.Hold = 1, 400, 2*time.Second, time.Second
		c.Rows = "^(none at 3|4 at 3|all at 3|wsd at 3)$"
	}
	if err := c.checkRows(); err != nil {
		return err
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read the limit on open files: %w", err)
	}
	most := int(min(files.Max, 1<<24))/2 - 200
	switch {
	case c.Clients < 80 || c.Clients > most:
		return fmt.Errorf("--clients %d must be between 80 and %d: the load balancer needs two descriptors for each",
			c.Clients, most)
	case c.Rounds < 1 || c.Rounds > 20:
		return fmt.Errorf("--rounds %d must be between 1 and 20", c.Rounds)
	case c.CPU < 0 || c.CPU > 64 || c.CPU > 0 && c.CPU < 0.05:
		return fmt.Errorf("--cpu %g must be 0 or between 0.05 and 64", c.CPU)
	case c.Rate < 20 || c.Rate > 100_000:
		return fmt.Errorf("--rate %g must be between 20 and 100000", c.Rate)
	case c.Messages < 0.1 || c.Messages > 100 || c.Own < 0.01 || c.Own > 100:
		return fmt.Errorf("--messages %g must be between 0.1 and 100, --own %g between 0.01 and 100", c.Messages, c.Own)
	case c.Size < 100 || c.Size > 64<<10:
		return fmt.Errorf("--size %d must be between 100 and %d", c.Size, 64<<10)
	case c.Window < time.Second || c.Window > time.Minute || c.Hold < time.Second || c.Hold > 10*time.Minute:
		return errors.New("--window must be between 1s and 1m, --hold between 1s and 10m")
	case c.Calibrate && c.CPU == 0:
		return errors.New("--calibrate needs a --cpu to start from")
	}
	if c.Bin == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the directory of this program: %w", err)
		}
		c.Bin = filepath.Dir(self)
	}
	for _, name := range []string{"baseline", "wsd"} {
		if _, err := os.Stat(filepath.Join(c.Bin, name)); err != nil {
			return fmt.Errorf("program %s is not in %s: run make programs, or set --bin", name, c.Bin)
		}
	}
	return c.checkCPUs()
}

func (c *config) checkRows() (err error) {
	if c.rows, err = regexp.Compile(c.Rows); err != nil {
		return fmt.Errorf("--rows: %w", err)
	}
	if len(c.selected()) == 0 {
		return fmt.Errorf("--rows %q fits no row; they are %s", c.Rows, names())
	}
	return nil
}

func (c *config) checkCPUs() error {
	allowed, err := child.CPUs()
	if err != nil {
		return err
	}
	if len(c.CPUs) == 0 {
		c.CPUs = allowed[:min(2, len(allowed))]
	}
	if len(c.CPUs) != 2 || c.CPUs[0] == c.CPUs[1] {
		return fmt.Errorf("--cpus %v: must be two, one for the server, one for clients and Kafka", c.CPUs)
	}
	return nil
}

// procs is more than there are loops at a time with the defaults.
const procs = 96

// measure runs all rows and writes the results.
func (c *config) measure(ctx context.Context, stdout, log io.Writer) (err error) {
	if err = child.PinSelf(c.CPUs[1]); err != nil {
		return err
	}
	load, err := newGroup("load", 0)
	if err != nil {
		return err
	}
	if err := load.join(); err != nil {
		return errors.Join(err, load.remove())
	}
	defer func() { err = errors.Join(err, load.leave(), load.remove()) }()
	// Each cohort has a loop that waits in the kernel and holds one of these meanwhile, until Go's monitor takes it
	// back milliseconds later. With as many as there are loops, the kernel alone divides the CPU.
	runtime.GOMAXPROCS(procs)
	if c.Calibrate {
		return c.calibrate(ctx, stdout, log)
	}
	return c.table(ctx, log)
}

// The share of clients that the bare baseline with 3 shards is to hold, so that a row can be better and worse. The cap
// is moved by a factor of capStep, then halfway between one that held too few and one that held too many, at most
// capTries times.
const (
	heldLow, heldHigh = 0.35, 0.55
	capStep           = 1.2
	capTries          = 8
)

// calibrate finds the cap.
func (c *config) calibrate(ctx context.Context, stdout, log io.Writer) error {
	fmt.Fprintf(log, "at most %d runs of about %s: %s\n", capTries, c.runTime(), capTries*c.runTime())
	var low, high float64 // Caps with which too few and too many were held; 0: none yet.
	for range capTries {
		bounded, cancel := context.WithTimeout(ctx, 3*c.runTime()+time.Minute)
		m, err := c.measureRow(bounded, row{"baseline", 0, 3})
		cancel()
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			fmt.Fprintf(log, "--cpu %.3g failed, and is tried again: %v\n", c.CPU, err)
			continue
		}
		fmt.Fprintf(log, "--cpu %.3g: %s\n", c.CPU, m)
		share := float64(m.Held) / float64(c.Clients)
		if share >= heldLow && share <= heldHigh {
			fmt.Fprintf(stdout, "--cpu %.3g\n", c.CPU)
			return nil
		}
		c.CPU, low, high = nextCap(c.CPU, low, high, share < heldLow)
	}
	return fmt.Errorf("no cap found in %d tries; the last was %.3g: start elsewhere with --cpu", capTries, c.CPU)
}

// nextCap returns the cap to try after one that held too few or too many, and the new bounds: between them, where both
// are known.
func nextCap(cpu, low, high float64, tooFew bool) (next, newLow, newHigh float64) {
	step := 1 / capStep
	if tooFew {
		low, step = cpu, capStep
	} else {
		high = cpu
	}
	if low > 0 && high > low {
		return math.Sqrt(low * high), low, high
	}
	return cpu * step, low, high
}
