package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"wsd/internal/command"
	"wsd/loadtest/baseline/shard"
	"wsd/loadtest/baseline/shm"
)

// shardCommand is the first argument of a shard process. Only the main process starts one.
const shardCommand = "shard"

func main() {
	os.Exit(run(command.Interrupted(), os.Args[1:], os.Stdout, os.Stderr))
}

// config is the command line.
type config struct {
	Shards    int      `default:"3" help:"Shard processes (${default})."`
	Opt       []int    `help:"Optimisations to switch on, by number, such as 1,4,7. ${opts}."`
	All       bool     `help:"Switch on all of them."`
	Kafka     []string `default:"127.0.0.1:9092" help:"Brokers (${default})."`
	Topics    []string `default:"loadtest" help:"Topics to read. A record goes to the channel that its key names, or that is named like its topic (${default})."`
	Group     string   `default:"baseline" help:"Consumer group (${default})."`
	Start     string   `name:"kafka-start" default:"latest" enum:"latest,earliest" help:"Where a group without committed offsets begins: latest or earliest (${default})."`
	Listen    string   `default:"127.0.0.1:8000" help:"Address for clients (${default})."`
	ShardHost string   `default:"127.0.0.1" help:"Address that shards listen on with TCP, each on a port that the kernel chooses (${default})."`
	Metrics   string   `default:"127.0.0.1:9000" help:"Address of /metrics, /stats and /debug/pprof/ (${default})."`

	ConnectionsMax int           `default:"10000" help:"Highest number of clients of a shard (${default})."`
	Queue          int           `default:"256" help:"Messages that may wait for a client before it is closed (${default})."`
	PingInterval   time.Duration `default:"25s" help:"Between two pings to a client. One that says nothing for twice as long and 10 s more is closed (${default})."`
	CPUMax         float64       `name:"cpu-max" default:"90" help:"Percent of the cgroup's CPU quota above which new connections are refused with 503 (${default})."`
	Cgroup         string        `help:"Directory like /sys/fs/cgroup to read instead of this process's own cgroup."`
	Stop           time.Duration `default:"5s" help:"How long stopping may take (${default})."`
	LogFormat      string        `default:"text" enum:"text,json" help:"text or json (${default})."`
	Verbose        bool          `help:"Log debug messages, too."`
}

const description = "baseline is the system that wsd replaces, in small: a load balancer that tunnels WebSocket " +
	"bytes to shard processes, each with a Kafka consumer, and a broadcast bus between them. Clients connect to " +
	"/ws?channel=NAME. It is there to be measured beside wsd."

// run is the whole command, and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == shardCommand {
		return runShard(ctx, args[1], stdout, stderr)
	}
	var c config
	o := command.Options{Name: "baseline", Grammar: &c, Stdout: stdout, Stderr: stderr, Description: description,
		Kong: []kong.Option{kong.Vars{"opts": optHelp()}}}
	return command.Run(o, args, func(*kong.Context) error {
		on, err := c.check()
		if err != nil {
			return command.UsageError{Err: err}
		}
		m, err := newMain(&c, on, c.logger(stderr))
		if err != nil {
			return err
		}
		return m.run(ctx)
	})
}

func (c *config) logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{}
	if c.Verbose {
		o.Level = slog.LevelDebug
	}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// filesReserved is how many descriptors a process keeps for other things than clients.
const filesReserved = 200

// check checks the command line.
func (c *config) check() (on opts, err error) {
	if on, err = parseOpts(c.Opt, c.All); err != nil {
		return on, err
	}
	switch {
	case c.Shards < 1 || c.Shards > shm.ShardsMax:
		return on, fmt.Errorf("--shards %d must be between 1 and %d", c.Shards, shm.ShardsMax)
	case on[9] && c.Shards < 2:
		return on, errors.New("--opt 9 needs --shards 2 at least: one reads Kafka and has no clients")
	case len(c.Topics) == 0 || len(c.Topics) > 1000:
		return on, fmt.Errorf("--topics: %d topics, must be between 1 and 1000", len(c.Topics))
	case c.Queue < 1 || c.Queue > 1<<16:
		return on, fmt.Errorf("--queue %d must be between 1 and %d", c.Queue, 1<<16)
	case c.PingInterval < time.Second:
		return on, fmt.Errorf("--ping-interval %s must be at least 1s", c.PingInterval)
	case c.CPUMax <= 0 || c.CPUMax > 1000:
		return on, fmt.Errorf("--cpu-max %g must be above 0, at most 1000", c.CPUMax)
	case c.Stop <= 0 || c.Stop > time.Minute:
		return on, fmt.Errorf("--stop %s must be above 0, at most 1m", c.Stop)
	case net.ParseIP(c.ShardHost) == nil:
		return on, fmt.Errorf("--shard-host %q is not an IP address", c.ShardHost)
	case c.Group == "":
		return on, errors.New("--group must not be empty")
	}
	for _, a := range append([]string{c.Listen, c.Metrics}, c.Kafka...) {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return on, fmt.Errorf("%q is not HOST:PORT: %w", a, err)
		}
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return on, fmt.Errorf("read the limit on open files: %w", err)
	}
	if most := int(min(files.Max, 1<<24)) - filesReserved; c.ConnectionsMax < 1 || c.ConnectionsMax > most {
		return on, fmt.Errorf("--connections-max %d must be between 1 and %d, the limit on open files less %d",
			c.ConnectionsMax, most, filesReserved)
	}
	return on, nil
}

// runShard is a shard process.
func runShard(ctx context.Context, text string, stdout, stderr io.Writer) int {
	var c struct {
		shard.Options
		LogFormat string
		Verbose   bool
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Fprintf(stderr, "baseline shard: read options: %v\n", err)
		return command.Usage
	}
	o := c.Options
	o.Log = (&config{LogFormat: c.LogFormat, Verbose: c.Verbose}).logger(stderr).With("shard", o.Index)
	o.File = os.NewFile(inheritedFile, "board")
	o.Ready = func(address string) { fmt.Fprintln(stdout, address) }
	if err := shard.Run(ctx, o); err != nil {
		o.Log.Error("the shard ends", "error", err)
		return command.Failed
	}
	return command.OK
}
