package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wsd/loadtest/client"
)

// commands is the command line.
type commands struct {
	Capacity capacity `cmd:"" help:"Hold many clients, each with at least one record per second."`
	Fanout   fanout   `cmd:"" help:"Deliver many records to many clients."`
	Soak     soak     `cmd:"" help:"Deliver records for a long time while some clients are slow, stopped or reset, and check the server's counters."`
	Compare  compare  `cmd:"" help:"Run wsd and the floor, a minimal server in C, alternately, and print ratios."`
	Kafka    kafkaCmd `cmd:"" hidden:"" help:"Run a Kafka until standard input ends, for compare."`
}

// common is the flags that capacity, fanout and soak share.
type common struct {
	URL            string        `name:"url" default:"ws://127.0.0.1:8000" help:"The server's client port (${default})."`
	Protocol       string        `default:"raw" enum:"raw,json" help:"raw: /ws?channel=NAME; json: /connection/websocket (${default})."`
	Topic          []string      `default:"loadtest" help:"Topics to produce to. The server must serve them as channels of the same name; clients are distributed over them (${default})."`
	Kafka          []string      `default:"127.0.0.1:9092" help:"Brokers of the server's Kafka (${default})."`
	Admin          string        `default:"http://127.0.0.1:9000" help:"The server's admin port, for information about its process and shards; none if it has none (${default})."`
	PID            int           `name:"pid" help:"Process id of the server. Default: as the admin port reports."`
	Size           int           `default:"128" help:"Size of a record in bytes (${default})."`
	Batch          int           `default:"1" help:"Records per produce request (${default})."`
	Dials          int           `default:"256" help:"Connection attempts at the same time (${default})."`
	ConnectRate    float64       `default:"0" help:"Connection attempts per second; 0: as many as --dials allows (${default})."`
	RampRate       float64       `default:"0" help:"Records per second and topic while connecting; 0: none, so that every client must get record 1 (${default})."`
	Loops          int           `default:"1" help:"Event loops that share the clients, each using at most one CPU (${default})."`
	Source         string        `default:"auto" help:"Local addresses of the clients, comma-separated; auto: 127.0.0.1, 127.0.0.2, … for a server on 127.0.0.0/8, else the kernel's choice; none: the kernel's choice (${default})."`
	AttemptTimeout time.Duration `default:"10s" help:"Timeout of a connection attempt, until it is subscribed (${default})."`
	Timeout        time.Duration `default:"60s" help:"Timeout for each of: preparing, connecting all clients, producing after the planned duration, and the last records (${default})."`
	JSON           bool          `name:"json" help:"Print the report as JSON."`
}

// kafkaCmd is the command that compare starts for each wsd.
type kafkaCmd struct {
	Topic string `arg:"" help:"Topic to create."`
}

// plan is the run that the command line describes.
type plan struct {
	common
	mode     string
	clients  int
	rate     float64       // Records per second and topic.
	duration time.Duration // Time to produce.
}

// filesReserved is the number of file descriptors for other uses than clients.
const filesReserved = 1000

// sourceClients is the number of clients per loopback address. It is well below the number of ports of an address.
const sourceClients = 10_000

// check returns what is wrong with the plan.
func (p *plan) check() error {
	limit, err := clientsMax()
	if err != nil {
		return err
	}
	switch {
	case p.clients < 1:
		return fmt.Errorf("%d clients: must be at least one", p.clients)
	case p.clients > limit:
		return fmt.Errorf("%d clients: one process may have %d here, its hard limit on open files minus %d; "+
			"run several at the same time, each with a part of the clients", p.clients, limit, filesReserved)
	case p.rate <= 0 || p.rate > 1e6 || p.RampRate < 0 || p.RampRate > 1e6:
		return errors.New("the rate must be above 0 and at most 1,000,000 records per second")
	case p.duration <= 0 || p.Timeout <= 0 || p.AttemptTimeout <= 0:
		return errors.New("durations and timeouts must be above 0")
	case p.Batch < 1 || p.Batch > 10_000:
		return fmt.Errorf("--batch %d must be between 1 and 10000", p.Batch)
	case p.Size < client.SizeMin || p.Size > 1<<20:
		return fmt.Errorf("--size %d must be between %d and %d", p.Size, client.SizeMin,
			1<<20)
	case p.Loops < 1 || p.Loops > p.clients || p.Dials < p.Loops:
		return fmt.Errorf("--loops %d must be at least 1 and at most the clients and --dials", p.Loops)
	case p.ConnectRate < 0:
		return errors.New("--connect-rate must not be negative")
	case len(p.Topic) > 1000:
		return errors.New("more than 1000 topics")
	}
	if _, _, err := p.server(); err != nil {
		return err
	}
	_, err = p.sources(netip.Addr{})
	return err
}

func clientsMax() (int, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("read the limit on open files: %w", err)
	}
	// Go raises the soft limit to the hard one.
	return int(min(files.Max, 1<<24)) - filesReserved, nil
}

// server returns the address to connect to and the value of the Host field. It resolves a name.
func (p *plan) server() (netip.AddrPort, string, error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return netip.AddrPort{}, "", fmt.Errorf("--url: %w", err)
	}
	if u.Scheme != "ws" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return netip.AddrPort{}, "", fmt.Errorf("--url %s must be like ws://127.0.0.1:8000; TLS and paths are "+
			"not supported", p.URL)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "80")
	}
	a, err := net.ResolveTCPAddr("tcp", host)
	if err != nil {
		return netip.AddrPort{}, "", fmt.Errorf("--url %s: %w", p.URL, err)
	}
	server := a.AddrPort()
	return netip.AddrPortFrom(server.Addr().Unmap(), server.Port()), host, nil
}

// sources returns the local addresses for connections to the address to.
func (p *plan) sources(to netip.Addr) ([]netip.Addr, error) {
	var list []netip.Addr
	switch p.Source {
	case "none":
	case "auto":
		if to.Is4() && to.IsLoopback() {
			a := netip.AddrFrom4([4]byte{127, 0, 0, 1})
			for range (p.clients + sourceClients - 1) / sourceClients {
				list = append(list, a)
				a = a.Next()
			}
		}
	default:
		for text := range strings.SplitSeq(p.Source, ",") {
			a, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil || !a.Is4() {
				return nil, fmt.Errorf("--source: %q is neither auto nor none nor an IPv4 address", text)
			}
			list = append(list, a)
		}
	}
	return list, nil
}
