package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wsd/loadtest/client"
)

// clientOptions are the flags of how clients connect.
type clientOptions struct {
	URL            string        `name:"url" default:"ws://127.0.0.1:8000" help:"The server's client port; wss:// for TLS. A path replaces that of the protocol; {channel} in it is the channel (${default})."`
	Protocol       string        `default:"raw" enum:"raw,json,protobuf" help:"raw: /ws?channel=NAME; json and protobuf: /connection/websocket (${default})."`
	CA             string        `name:"ca" help:"PEM file with the authorities that may sign the server's certificate. Default: the system's."`
	Insecure       bool          `help:"Accept any certificate of the server."`
	Deflate        bool          `help:"Ask for permessage-deflate, which the server must accept."`
	Token          string        `help:"Token of all clients: in the connect command, or with raw in the header Authorization."`
	TokenFile      string        `help:"File with a token per line; clients use them in turn."`
	Dials          int           `default:"256" help:"Connection attempts at the same time (${default})."`
	ConnectRate    float64       `default:"0" help:"Connection attempts per second; 0: as many as --dials allows (${default})."`
	Loops          int           `default:"1" help:"Event loops that share the clients, each using at most one CPU (${default})."`
	Source         string        `default:"auto" help:"Local addresses of the clients, comma-separated; auto: 127.0.0.1, 127.0.0.2, … for a server on 127.0.0.0/8, else the kernel's choice; none: the kernel's choice (${default})."`
	AttemptTimeout time.Duration `default:"10s" help:"Timeout of a connection attempt, until it is subscribed (${default})."`
}

// common is the flags that the scenarios share.
type common struct {
	clientOptions
	Topic    []string      `default:"loadtest" help:"Topics to produce to. The server must serve them as channels of the same name; clients are distributed over them (${default})."`
	Channels int           `default:"0" help:"Channels to spread the clients over instead: a record goes to the next channel, with the channel's number as its key; 0: a channel per topic (${default})."`
	Channel  string        `default:"{key}" help:"Name of such a channel, as the server's routes make it from the {key} (${default})."`
	Kafka    []string      `default:"127.0.0.1:9092" help:"Brokers of the server's Kafka (${default})."`
	Admin    string        `default:"http://127.0.0.1:9000" help:"The server's admin port, for information about its process and shards; none if it has none (${default})."`
	PID      int           `name:"pid" help:"Process id of the server. Default: as the admin port reports."`
	Size     int           `default:"128" help:"Size of a record in bytes (${default})."`
	Batch    int           `default:"1" help:"Records per burst, which is one produce request (${default})."`
	RampRate float64       `default:"0" help:"Records per second and topic while connecting; 0: none, so that every client must get record 1 (${default})."`
	Procs    int           `default:"1" help:"Processes that share the clients, beyond the limit on open files of one (${default})."`
	Timeout  time.Duration `default:"60s" help:"Timeout for each of: preparing, connecting all clients, producing after the planned duration, and the last records (${default})."`
	output
}

// output is the flags of what becomes of the result.
type output struct {
	FailIf  []string `sep:"none" placeholder:"CRITERION" help:"Fail if this holds, such as 'p99>50ms'; may be repeated. Names: ${criteria}."`
	Profile string   `placeholder:"DIR" help:"Save the server's CPU, heap and goroutine profiles during the hold. wsd serves them with ENABLE_PPROF=true in its environment."`
	JSON    bool     `name:"json" help:"Print the result as JSON."`
	HTML    string   `name:"html" placeholder:"FILE" help:"Write a report with plots, in one file."`
}

// filesReserved is the number of file descriptors for other uses than clients.
const filesReserved = 1000

// sourceClients is the number of clients per loopback address. It is well below the number of ports of an address.
const sourceClients = 10_000

// check returns what is wrong with a run.
func (r *run) check() error {
	limit, err := clientsMax()
	if err != nil {
		return err
	}
	switch {
	case r.clients < 1:
		return fmt.Errorf("%d clients: must be at least one", r.clients)
	case r.Procs < 1 || r.Procs > 64 || r.Procs > r.clients:
		return fmt.Errorf("--procs %d must be between 1 and 64, and at most the clients", r.Procs)
	case (r.clients+r.disturb.Count+r.Procs-1)/r.Procs > limit:
		return fmt.Errorf("%d clients: one process may have %d here, its hard limit on open files minus %d; "+
			"give more --procs", r.clients+r.disturb.Count, limit,
			filesReserved)
	case r.rate <= 0 || r.rate > 1e6 || r.RampRate < 0 || r.RampRate > 1e6:
		return errors.New("the rate must be above 0 and at most 1,000,000 records per second")
	case r.duration <= 0 || r.Timeout <= 0 || r.AttemptTimeout <= 0:
		return errors.New("durations and timeouts must be above 0")
	case r.Batch < 1 || r.Batch > 10_000:
		return fmt.Errorf("--batch %d must be between 1 and 10000", r.Batch)
	case r.Size < client.SizeMin || r.Size > 1<<20:
		return fmt.Errorf("--size %d must be between %d and %d", r.Size, client.SizeMin, 1<<20)
	case r.Loops < 1 || r.Loops > max(1, r.clients/max(1, r.Procs)) || r.Dials < r.Loops:
		return fmt.Errorf("--loops %d must be at least 1 and at most the clients and --dials", r.Loops)
	case r.ConnectRate < 0:
		return errors.New("--connect-rate must not be negative")
	case len(r.Topic) > 1000:
		return errors.New("more than 1000 topics")
	case r.Channels < 0 || r.Channels > min(r.clients, 65_536) || r.Channels > 0 && len(r.Topic) > 1:
		return fmt.Errorf("--channels %d must be at most the clients and 65536, with one topic", r.Channels)
	}
	if _, err := parseCriteria(r.FailIf); err != nil {
		return err
	}
	if _, err := r.connectTo(); err != nil {
		return err
	}
	_, err = sources(r.Source, netip.Addr{}, r.clients)
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

// connectTo returns the options of the clients that follow from the flags. It resolves a name and reads files.
func (o *clientOptions) connectTo() (c client.Options, err error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return c, fmt.Errorf("--url: %w", err)
	}
	if u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return c, fmt.Errorf("--url %s must be like ws://127.0.0.1:8000 or wss://example.com", o.URL)
	}
	c.Host = u.Host
	if u.Port() == "" {
		c.Host = net.JoinHostPort(u.Hostname(), map[string]string{"ws": "80", "wss": "443"}[u.Scheme])
	}
	if path := u.RequestURI(); strings.Trim(path, "/") != "" {
		c.Path = strings.ReplaceAll(path, "%7Bchannel%7D", "{channel}")
	}
	a, err := net.ResolveTCPAddr("tcp", c.Host)
	if err != nil {
		return c, fmt.Errorf("--url %s: %w", o.URL, err)
	}
	c.Server = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	if u.Scheme == "wss" {
		// For tests, as the flag says.
		c.TLS = &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: o.Insecure}
	} else if o.CA != "" || o.Insecure {
		return c, errors.New("--ca and --insecure need a --url with wss://")
	}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return c, fmt.Errorf("--ca: %w", err)
		}
		if c.TLS.RootCAs = x509.NewCertPool(); !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return c, fmt.Errorf("--ca %s holds no certificate in PEM", o.CA)
		}
	}
	if o.Token != "" {
		c.Tokens = []string{o.Token}
	}
	if o.TokenFile != "" {
		text, err := os.ReadFile(o.TokenFile)
		if err != nil {
			return c, fmt.Errorf("--token-file: %w", err)
		}
		if c.Tokens = strings.Fields(string(text)); len(c.Tokens) == 0 {
			return c, fmt.Errorf("--token-file %s is empty", o.TokenFile)
		}
	}
	c.Protocol, c.Deflate, c.Loops, c.Dials = client.Protocol(o.Protocol), o.Deflate, o.Loops, o.Dials
	c.ConnectRate, c.AttemptTimeout = o.ConnectRate, o.AttemptTimeout
	return c, nil
}

// sources returns the local addresses for connections of clients to an address.
func sources(option string, to netip.Addr, clients int) ([]netip.Addr, error) {
	var list []netip.Addr
	switch option {
	case "none":
	case "auto":
		if to.Is4() && to.IsLoopback() {
			a := netip.AddrFrom4([4]byte{127, 0, 0, 1})
			for range (clients + sourceClients - 1) / sourceClients {
				list = append(list, a)
				a = a.Next()
			}
		}
	default:
		for text := range strings.SplitSeq(option, ",") {
			a, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil || !a.Is4() {
				return nil, fmt.Errorf("--source: %q is neither auto nor none nor an IPv4 address", text)
			}
			list = append(list, a)
		}
	}
	return list, nil
}
