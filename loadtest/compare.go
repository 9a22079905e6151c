package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"wsd/loadtest/child"
	"wsd/loadtest/client"
	"wsd/loadtest/floor"
	"wsd/loadtest/report"
)

// compare is the command that runs several servers alternately.
type compare struct {
	Cases    []string      `default:"single,batch,1k,16k,compress,connect,memory,latency,spread,chain" enum:"single,batch,1k,16k,compress,connect,memory,latency,spread,chain" help:"What to measure (${default})."`
	Servers  []string      `default:"floor,wsd" help:"Servers to run; the others are divided by the first. floor, wsd, reference, or the name of a --server (${default})."`
	TLS      bool          `name:"tls" help:"Run wsd and the reference, a server of net/http, gobwas/ws and crypto/tls, also with TLS, each after its plain form."`
	Server   []string      `sep:"none" placeholder:"NAME=COMMAND" help:"A further server, started anew for each run; may be repeated. In the command, {address} is where it must serve WebSocket as HOST:PORT, {host} and {port} its parts, {kafka} its broker, {topic} the topic, {route} the channel of a record; with {certificate}, a file with a certificate and its key, its clients use TLS. The command is not given to a shell."`
	Path     string        `help:"Path of the upgrade request to such a server; {channel} in it is the channel. Default: that of --protocol."`
	Header   string        `placeholder:"NAME" help:"Header of each record with its channel, for servers that choose channels by it, such as Centrifugo's centrifugo-channels."`
	Shards   []int         `default:"1,2,7,64" help:"Shards of wsd, each a server of its own (${default})."`
	Rounds   int           `default:"9" help:"Number of rounds. In each, every server runs every case once (${default})."`
	Clients  int           `default:"5000" help:"Number of clients, on one channel (${default})."`
	Channels int           `default:"10000" help:"Number of channels with one client each, for spread and chain (${default})."`
	Duration time.Duration `default:"2s" help:"Time to produce in each run (${default})."`
	Protocol string        `default:"raw" enum:"raw,json,protobuf" help:"Protocol of the clients; those of the floor use raw (${default})."`
	CPUs     []int         `name:"cpus" help:"CPUs of the server, of the load generator and, optionally, of Kafka. Default: the first ones that this process may use."`
	Bin      string        `help:"Directory with the programs floor and wsd. Default: the directory of loadtest."`
	WSDArg   []string      `name:"wsd-arg" sep:"none" help:"Further option for wsd, such as --wsd-arg=--bus.batch-age=1ms; may be repeated."`
	Timeout  time.Duration `default:"30s" help:"Timeout for each step of a run except producing (${default})."`
	JSON     bool          `name:"json" help:"Print the comparison as JSON."`
	HTML     string        `name:"html" placeholder:"FILE" help:"Write a report with plots, in one file."`

	certificate string // File with the certificate of servers with TLS, and its key.
}

// contender is one server of a comparison.
type contender struct {
	name    string
	shards  int      // Shards of wsd; 0: another server.
	command []string // Command of a --server or of the reference; nil: another server.
	tls     bool     // Whether its clients use TLS.
}

// withTLS returns a contender in its plain form, and with TLS as well if that is asked for.
func (c *compare) withTLS(plain contender) []contender {
	if !c.TLS {
		return []contender{plain}
	}
	secure := plain
	secure.name, secure.tls = plain.name+", TLS", true
	if plain.command != nil {
		secure.command = slices.Concat(plain.command, []string{"--certificate", "{certificate}"})
	}
	return []contender{plain, secure}
}

// contenders returns the servers, the yardstick first.
func (c *compare) contenders() (list []contender, err error) {
	custom := map[string][]string{}
	for _, text := range c.Server {
		name, command, ok := strings.Cut(text, "=")
		if custom[name] = strings.Fields(command); !ok || name == "" || len(custom[name]) == 0 {
			return nil, fmt.Errorf("--server %q must be like NAME=COMMAND", text)
		}
	}
	for _, name := range c.Servers {
		switch {
		case name == "floor":
			list = append(list, contender{name: name})
		case name == "wsd":
			for _, n := range c.Shards {
				list = append(list, c.withTLS(contender{name: fmt.Sprintf("wsd --shards %d", n), shards: n})...)
			}
		case custom[name] != nil:
			command := custom[name]
			secure := slices.ContainsFunc(command, func(s string) bool { return strings.Contains(s, "{certificate}") })
			list = append(list, contender{name: name, command: command, tls: secure})
		case name == "reference":
			self, err := os.Executable()
			if err != nil {
				return nil, fmt.Errorf("find loadtest itself: %w", err)
			}
			list = append(list, c.withTLS(contender{name: name, command: []string{self, "reference", "--address",
				"{address}", "--kafka", "{kafka}", "--topic", "{topic}", "--route", "{route}"}})...)
		default:
			return nil, fmt.Errorf("--servers: %s is neither floor nor wsd nor reference nor the name of a --server",
				name)
		}
	}
	if len(list) < 2 {
		return nil, errors.New("--servers: a comparison needs two")
	}
	return list, nil
}

// check checks the command line, and sets the fields that it does not set.
func (c *compare) check() error {
	limit, err := clientsMax()
	if err != nil {
		return err
	}
	if c.CPUs, err = c.cpus(); err != nil {
		return err
	}
	switch {
	case c.Rounds < 1 || c.Rounds > 1000:
		return fmt.Errorf("--rounds %d must be between 1 and 1000", c.Rounds)
	case c.Clients < 1 || c.Clients > limit || c.Channels < 1 || c.Channels > limit:
		return fmt.Errorf("--clients %d and --channels %d must be between 1 and %d, the limit of one process here",
			c.Clients, c.Channels, limit)
	case c.Duration < 100*time.Millisecond || c.Duration > time.Hour:
		return fmt.Errorf("--duration %s must be between 100ms and 1h", c.Duration)
	case c.Timeout <= 0:
		return errors.New("--timeout must be above 0")
	case len(c.Shards) == 0 || len(c.Cases) == 0:
		return errors.New("--shards and --cases must not be empty")
	}
	for i, n := range c.Shards {
		if n < 1 || n > 256 || slices.Contains(c.Shards[:i], n) {
			return fmt.Errorf("--shards: %d is a duplicate or not between 1 and 256", n)
		}
	}
	list, err := c.contenders()
	if err != nil {
		return err
	}
	return c.programs(list)
}

// programs finds the programs of the contenders.
func (c *compare) programs(list []contender) error {
	if c.Bin == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the directory of loadtest: %w", err)
		}
		c.Bin = filepath.Dir(self)
	}
	for _, s := range list {
		name := "floor"
		if s.shards > 0 {
			name = "wsd"
		}
		if s.command != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(c.Bin, name)); err != nil {
			return fmt.Errorf("program %s is not in %s: run make build, which needs a C compiler for floor, or set "+
				"--bin", name, c.Bin)
		}
	}
	return nil
}

// cpus returns three CPUs: for the server, the load generator, and Kafka, which may share that of the load generator.
func (c *compare) cpus() ([]int, error) {
	allowed, err := child.CPUs()
	if err != nil {
		return nil, err
	}
	list := c.CPUs
	if len(list) == 0 {
		list = allowed[:min(len(allowed), 3)]
	}
	for _, cpu := range list {
		if !slices.Contains(allowed, cpu) {
			return nil, fmt.Errorf("--cpus: this process may not use CPU %d, only %v", cpu, allowed)
		}
	}
	if len(list) < 2 || len(list) > 3 || list[0] == list[1] {
		return nil, fmt.Errorf("--cpus %v: must be two or three, and the server must not share its CPU", list)
	}
	if len(list) == 3 && list[2] == list[0] {
		return nil, fmt.Errorf("--cpus %v: Kafka must not share the CPU of the server", list)
	}
	return append(slices.Clone(list), list[1])[:3], nil
}

// measure pins this process to its CPU and runs all rounds.
func (c *compare) measure(ctx context.Context, l *live) (*report.Comparison, error) {
	list, err := c.contenders()
	if err != nil {
		return nil, err
	}
	if err := child.PinSelf(c.CPUs[1]); err != nil {
		return nil, err
	}
	// Two, so that the kernel, not Go's scheduler, divides the CPU between the clients' loop and the producer.
	runtime.GOMAXPROCS(2)
	file, remove, err := makeCertificate()
	if err != nil {
		return nil, err
	}
	defer remove()
	c.certificate = file
	r := &rounds{compare: c, contenders: list, live: l, clock: newClock(),
		values: map[string]map[string]map[int]*report.Result{}}
	return r.run(ctx)
}

// The sizes of records must fit both ends of the chain.
const _ = uint(floor.ChainRecordMax - client.SizeMin)
