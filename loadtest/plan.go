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
	Capacity capacity `cmd:"" help:"Hold many clients, and give each at least a record a second."`
	Fanout   fanout   `cmd:"" help:"Give many records to many clients."`
	Soak     soak     `cmd:"" help:"Give records for a long time while a part of the clients is slow, stopped or reset, and compare the server's counters."`
	Compare  compare  `cmd:"" help:"Run the floor, the least server that can be written, and wsd alternately, and print ratios."`
	Kafka    kafkaCmd `cmd:"" hidden:"" help:"Be a Kafka until standard input ends, for compare."`
}

// common is what capacity and fanout take.
type common struct {
	URL            string        `name:"url" default:"ws://127.0.0.1:8000" help:"The server's client port (${default})."`
	Protocol       string        `default:"raw" enum:"raw,json" help:"raw: /ws?channel=NAME; json: /connection/websocket (${default})."`
	Topic          []string      `default:"loadtest" help:"Topics to produce to, which the server serves as channels of the same name; clients are spread over them (${default})."`
	Kafka          []string      `default:"127.0.0.1:9092" help:"Brokers of the server's Kafka (${default})."`
	Admin          string        `default:"http://127.0.0.1:9000" help:"The server's admin port, for its process and its shards; \"none\" if there is none (${default})."`
	PID            int           `name:"pid" help:"The server's process. Default: what the admin port says."`
	Size           int           `default:"128" help:"Bytes of a record (${default})."`
	Batch          int           `default:"1" help:"Records of one produce request (${default})."`
	Dials          int           `default:"256" help:"Connections being made at a time (${default})."`
	ConnectRate    float64       `default:"0" help:"Connections begun a second; 0: as many as --dials allows (${default})."`
	RampRate       float64       `default:"0" help:"Records a second and topic while connecting; 0: none, so that every client must get record 1 (${default})."`
	Loops          int           `default:"1" help:"Event loops that share the clients; each takes a CPU at most (${default})."`
	Source         string        `default:"auto" help:"Local addresses of the clients, with commas; auto: 127.0.0.1, 127.0.0.2, … for a server on 127.0.0.0/8, else the kernel's choice; none: the kernel's choice (${default})."`
	AttemptTimeout time.Duration `default:"10s" help:"From connect to subscribed, per attempt (${default})."`
	Timeout        time.Duration `default:"60s" help:"For each of: making ready, connecting all, producing beyond its duration, the last records (${default})."`
	JSON           bool          `name:"json" help:"Print the report as JSON."`
}

// kafkaCmd is the command that compare starts beside each wsd.
type kafkaCmd struct {
	Topic string `arg:"" help:"The topic to have."`
}

// plan is a run that the command line asks for.
type plan struct {
	common
	mode     string
	clients  int
	rate     float64       // Records a second and topic.
	duration time.Duration // Of producing.
}

// filesReserved is how many descriptors are left for everything but clients.
const filesReserved = 1000

// sourceClients is how many clients one loopback address gets: well below the ports that the kernel has for it.
const sourceClients = 10_000

// check says what is wrong with the plan.
func (p *plan) check() error {
	limit, err := clientsMax()
	if err != nil {
		return err
	}
	switch {
	case p.clients < 1:
		return fmt.Errorf("%d clients: at least one is needed", p.clients)
	case p.clients > limit:
		return fmt.Errorf("%d clients are more than the %d that one process may have here: its hard limit on open files less %d; "+
			"run several at once, each with a part of them", p.clients, limit, filesReserved)
	case p.rate <= 0 || p.rate > 1e6 || p.RampRate < 0 || p.RampRate > 1e6:
		return errors.New("the rate must be above 0 and at most 1,000,000 records a second")
	case p.duration <= 0 || p.Timeout <= 0 || p.AttemptTimeout <= 0:
		return errors.New("durations and timeouts must be above 0")
	case p.Batch < 1 || p.Batch > 10_000:
		return fmt.Errorf("--batch %d is not between 1 and 10000", p.Batch)
	case p.Size < client.SizeMin || p.Size > 1<<20:
		return fmt.Errorf("--size %d is not between %d, which number and time need, and %d", p.Size, client.SizeMin, 1<<20)
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

// server returns what to connect to and what to call it in the Host field. A name is looked up.
func (p *plan) server() (netip.AddrPort, string, error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return netip.AddrPort{}, "", fmt.Errorf("--url: %w", err)
	}
	if u.Scheme != "ws" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return netip.AddrPort{}, "", fmt.Errorf("--url %s is not like ws://127.0.0.1:8000: TLS and paths are not supported", p.URL)
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

// sources returns the local addresses to use for the server at to.
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
