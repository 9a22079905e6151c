package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"wsd/internal/epoll"
	"wsd/loadtest/child"
	"wsd/loadtest/floor"
)

const (
	compareTopic = "loadtest"
	// sendBuffer is client.kernel_send_buffer, for the floor and for wsd.
	sendBuffer = 32 << 10
	// stopGrace is how long a process may take to stop. stopDrain is wsd's own, shorter limit (shutdown.drain).
	stopGrace = 10 * time.Second
	stopDrain = 2 * time.Second
	// pingInterval is longer than a run, because the floor sends no pings, and pings to 10,000 clients cost as much as
	// 400 deliveries per second.
	pingInterval = time.Hour
)

// server is a running server, with the source of its records.
type server struct {
	address  netip.AddrPort // Address that clients connect to.
	pid      int            // Process id.
	source   source         // Source of the records.
	steering string         // Steering mode of wsd.
	version  string         // Version of wsd.
	admin    string         // Admin port of wsd, as HOST:PORT.
	broker   string         // Broker of wsd, as HOST:PORT.
	others   []int          // Process ids of other processes, which count as load generator.
	stops    []func() error // Functions that stop the parts, in order of their start.
}

// stop stops everything, in reverse order.
func (s *server) stop() error {
	var errs []error
	for _, stop := range slices.Backward(s.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// launch starts a program on one of the comparison's CPUs. stop stops it.
func (s *server) launch(c *compare, cpu int, path string, args ...string) (*child.Process, error) {
	p, err := child.Start(child.Options{Path: path, Args: args, CPU: c.CPUs[cpu]})
	if err == nil {
		s.stops = append(s.stops, func() error { return p.Stop(stopGrace) })
	}
	return p, err
}

// start starts a server for a load. The caller must stop it, also after an error.
func (c *compare) start(ctx context.Context, of contender, sc *load, o *numbering, run uint32) (*server, error) {
	s := &server{}
	switch {
	case of.command != nil:
		return s, s.startCommand(ctx, c, of.command, sc, o)
	case of.shards > 0:
		return s, s.startWSD(ctx, c, of, sc, o)
	default:
		return s, s.startFloor(ctx, c, sc, o, run)
	}
}

// startCommand starts a server with a command of the user. It is ready when it accepts connections.
func (s *server) startCommand(ctx context.Context, c *compare, command []string, sc *load, o *numbering) error {
	if err := s.startFeed(ctx, c, sc, o); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It only finds a free port.
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	s.address = netip.MustParseAddrPort(l.Addr().String())
	_ = l.Close() // The server listens there instead.
	fill := strings.NewReplacer("{address}", s.address.String(), "{host}", s.address.Addr().String(), "{kafka}",
		s.broker, "{certificate}", c.certificate, "{port}", strconv.Itoa(int(s.address.Port())),
		"{topic}", compareTopic, "{route}", route(sc))
	args := make([]string, len(command))
	for i, arg := range command {
		args[i] = fill.Replace(arg)
	}
	p, err := s.launch(c, 0, args[0], args[1:]...)
	if err != nil {
		return err
	}
	s.pid = p.PID()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.address.String())
		if err == nil {
			return conn.Close()
		}
		if !sleep(ctx, pollInterval) {
			return fmt.Errorf("%s does not listen at %s: %w: %s", args[0], s.address, err, p.Said())
		}
	}
}

// route returns the channel of a record, as a route of wsd.
func route(sc *load) string {
	if sc.targeted {
		return channelPrefix + "{key}"
	}
	return "{topic}"
}

// startFeed starts a Kafka for this run, and prepares its producer.
func (s *server) startFeed(ctx context.Context, c *compare, sc *load, o *numbering) (err error) {
	if s.broker, err = s.startKafka(ctx, c); err != nil {
		return err
	}
	source := newKafkaSource([]string{s.broker}, compareTopic, max(sc.batch, 1), o)
	if c.Header != "" {
		source.p.SetHeader(c.Header, func(n uint64) string {
			if sc.targeted {
				return channelName(channelPrefix+"{key}", int(o.channel(n)))
			}
			return compareTopic
		})
	}
	s.source = source
	s.stops = append(s.stops, func() error { source.close(); return nil })
	_, err = source.p.Ensure(ctx)
	return err
}

func (s *server) startFloor(ctx context.Context, c *compare, sc *load, o *numbering, run uint32) error {
	args := []string{strconv.Itoa(sendBuffer)}
	if sc.chained {
		args = append(args, "chain")
	}
	p, err := s.launch(c, 0, filepath.Join(c.Bin, "floor"), args...)
	if err != nil {
		return err
	}
	ended := context.AfterFunc(ctx, p.Terminate)
	defer ended()
	f, err := floor.Attach(p.In, p.Out)
	if err != nil {
		return fmt.Errorf("%w: %s", err, p.Said())
	}
	s.address, s.pid = f.Server, p.PID()
	if !sc.chained {
		offset := o.now() - int64(epoll.Monotonic())
		s.source = &floorSource{f: f, terminate: p.Terminate,
			job: floor.Job{Batch: max(sc.batch, 1), Size: sc.size, Run: run, Offset: offset, Channels: o.channels}}
		return nil
	}
	feed, err := f.Dial(ctx)
	if err != nil {
		return err
	}
	s.stops = append(s.stops, feed.Close)
	s.source = &chainSource{numbering: *o, feed: feed}
	return nil
}

func (s *server) startWSD(ctx context.Context, c *compare, of contender, sc *load, o *numbering) error {
	if err := s.startFeed(ctx, c, sc, o); err != nil {
		return err
	}
	listen := []string{"--client.listen", "127.0.0.1:0"}
	if of.tls {
		listen = []string{"--client.listen=", "--client.tls-listen", "127.0.0.1:0", "--client.tls.certificates",
			c.certificate}
	}
	p, err := s.launch(c, 0, filepath.Join(c.Bin, "wsd"), slices.Concat([]string{
		"serve", "--kafka.brokers", s.broker, "--kafka.topics", compareTopic, "--kafka.start", "earliest", "--routes",
		route(sc),
		"--admin.listen", "127.0.0.1:0", "--shards", strconv.Itoa(of.shards),
		"--log.format", "json",
		"--client.kernel-send-buffer", strconv.Itoa(sendBuffer), "--client.ping-interval", pingInterval.String(),
		// Handshakes of thousands of clients at once may be an overload, which would refuse some of them.
		"--admission.mode", "off", "--shutdown.drain", stopDrain.String(),
		"--client.compression=" + strconv.FormatBool(sc.text),
	}, listen, c.WSDArg)...)
	if err != nil {
		return err
	}
	s.pid = p.PID()
	err = p.Await(c.Timeout, func(line []byte) bool {
		var said struct {
			Msg, Admin, Steering, Version string
			Clients                       []string
			Secure                        []string `json:"clients_tls"`
		}
		// Other lines have other fields.
		if json.Unmarshal(line, &said) != nil || said.Msg != "serving" {
			return false
		}
		addresses := slices.Concat(said.Clients, said.Secure)
		if len(addresses) != 1 {
			return false
		}
		s.admin, s.steering, s.version = said.Admin, said.Steering, said.Version
		s.address, err = netip.ParseAddrPort(addresses[0])
		return err == nil
	})
	if err != nil {
		return err
	}
	seen := target{admin: "http://" + s.admin}
	return seen.find(ctx, []string{compareTopic})
}

// startKafka starts a Kafka for this run.
func (s *server) startKafka(ctx context.Context, c *compare) (broker string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find loadtest itself: %w", err)
	}
	p, err := s.launch(c, 2, self, "kafka", compareTopic)
	if err != nil {
		return "", err
	}
	s.others = append(s.others, p.PID())
	ended := context.AfterFunc(ctx, p.Terminate)
	defer ended()
	line, err := bufio.NewReader(p.Out).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("start Kafka: %w: %s", err, p.Said())
	}
	return strings.TrimSpace(line), nil
}
