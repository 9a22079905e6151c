package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"wsd/loadtest/child"
	"wsd/loadtest/serverstat"
)

// kafkaCommand serves a Kafka for one run: kafka TOPIC….
const kafkaCommand = "kafka"

const (
	startTimeout = 60 * time.Second
	stopGrace    = 20 * time.Second
)

// serveKafka serves topics of one partition until in or ctx ends, and writes its address to out.
func serveKafka(ctx context.Context, topics []string, in io.Reader, out io.Writer) error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...))
	if err != nil {
		return fmt.Errorf("start a Kafka: %w", err)
	}
	defer cluster.Close()
	fmt.Fprintln(out, cluster.ListenAddrs()[0])
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, in) // However it ends, nobody is there any more.
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return nil
}

// server is a running server with its Kafka.
type server struct {
	row     row
	address netip.AddrPort // For clients.
	admin   string         // Base URL of its metrics.
	broker  string
	kafka   int // Process id.
	group   *group
	stops   []func() error
}

// stop stops everything, in reverse order.
func (s *server) stop() error {
	var errs []error
	for _, stop := range slices.Backward(s.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// start starts a server. The caller must stop it, also after an error.
func (c *config) start(r row) (s *server, err error) {
	s = &server{row: r}
	self, err := os.Executable()
	if err != nil {
		return s, fmt.Errorf("find this program: %w", err)
	}
	kafka, err := child.Start(child.Options{Path: self, Args: append([]string{kafkaCommand}, allTopics()...),
		CPU: c.CPUs[1]})
	if err != nil {
		return s, err
	}
	s.stops = append(s.stops, func() error { return kafka.Stop(stopGrace) })
	s.kafka = kafka.PID()
	line, err := bufio.NewReader(kafka.Out).ReadString('\n')
	if err != nil {
		return s, fmt.Errorf("start Kafka: %w: %s", err, kafka.Said())
	}
	s.broker = strings.TrimSpace(line)
	if s.group, err = newGroup("server", c.CPU); err != nil {
		return s, err
	}
	s.stops = append(s.stops, s.group.remove)
	command, err := c.serverCommand(s)
	if err != nil {
		return s, err
	}
	p, err := child.Start(child.Options{Path: self, Args: s.group.command(command[0], command[1:]...), CPU: c.CPUs[0]})
	if err != nil {
		return s, err
	}
	s.stops = append(s.stops, func() error { return p.Stop(stopGrace) })
	return s, s.await(p)
}

// serverCommand returns the command line of the row's server.
func (c *config) serverCommand(s *server) ([]string, error) {
	topics := strings.Join(allTopics(), ",")
	if s.row.system == "baseline" {
		return append([]string{filepath.Join(c.Bin, "baseline"), "--kafka", s.broker, "--topics", topics,
			"--kafka-start", "earliest", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-format", "json",
		}, s.row.args()...), nil
	}
	dir, err := os.MkdirTemp("", "plantable-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for wsd's configuration: %w", err)
	}
	s.stops = append(s.stops, func() error { return os.RemoveAll(dir) })
	file := filepath.Join(dir, "wsd.yaml")
	routes := fmt.Sprintf("routes:\n  - {topic: %s, channel: \"{key}\"}\n  - {channel: \"{topic}\"}\n", userTopic)
	if err := os.WriteFile(file, []byte(routes), 0o600); err != nil {
		return nil, fmt.Errorf("write wsd's configuration: %w", err)
	}
	return []string{filepath.Join(c.Bin, "wsd"), "serve", "--config", file, "--kafka.brokers", s.broker,
		"--kafka.topics", topics, "--kafka.start", "earliest", "--client.listen", "127.0.0.1:0", "--admin.listen",
		"127.0.0.1:0", "--shards", strconv.Itoa(s.row.shards), "--log.format", "json", "--shutdown.drain", "2s"}, nil
}

// await waits until the server says that it serves.
func (s *server) await(p *child.Process) error {
	return p.Await(startTimeout, func(line []byte) bool {
		var said struct {
			Msg, Admin, Metrics string
			Clients             json.RawMessage
		}
		if json.Unmarshal(line, &said) != nil || said.Msg != "serving" {
			return false
		}
		var address string
		var list []string
		if json.Unmarshal(said.Clients, &list) == nil && len(list) == 1 {
			address = list[0] // wsd may have several.
		} else if json.Unmarshal(said.Clients, &address) != nil {
			return false
		}
		s.admin = "http://" + said.Admin + said.Metrics // One of them is empty.
		var err error
		s.address, err = netip.ParseAddrPort(address)
		return err == nil
	})
}

// goroutines is how many the server has, in all processes.
func (s *server) goroutines(ctx context.Context) (float64, error) {
	metrics, err := serverstat.ReadMetrics(ctx, s.admin)
	if err != nil {
		return 0, err
	}
	if s.row.system == "wsd" {
		return metrics["go_goroutines"], nil
	}
	return metrics["baseline_goroutines"], nil
}

// memory is the resident memory of all processes of the server, in bytes.
func (s *server) memory() (sum float64, err error) {
	list, err := s.group.processes()
	if err != nil {
		return 0, err
	}
	proc := serverstat.Proc{Root: "/proc"}
	for _, pid := range list {
		u, err := proc.Process(pid)
		if err != nil {
			return 0, err
		}
		sum += float64(u.RSS)
	}
	return sum, nil
}

// load is the CPU time of this process and of Kafka.
func (s *server) load() (sum time.Duration) {
	for _, pid := range []int{os.Getpid(), s.kafka} {
		used, err := serverstat.CPUTime(pid)
		if err != nil {
			return 0 // It has ended, which fails the run in another place.
		}
		sum += used
	}
	return sum
}

// assign asks the load balancer for the shard of one client.
func (s *server) assign(ctx context.Context, http1 *http.Client) (netip.AddrPort, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address.String()+"/assign", nil)
	if err != nil {
		return netip.AddrPort{}, err
	}
	response, err := http1.Do(request)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer response.Body.Close()
	var v struct{ Address netip.AddrPort }
	err = json.NewDecoder(io.LimitReader(response.Body, 4<<10)).Decode(&v)
	return v.Address, err
}
