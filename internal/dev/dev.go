package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"runtime/pprof"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The topics that every demo has.
const (
	TopicTrades   = "trades"   // What the demo feed produces to.
	TopicLoadtest = "loadtest" // What loadtest produces to.
)

// One partition a topic, so that a channel's offsets ascend and what was produced in order arrives in order. The feed's topic has
// several, as a real one would.
const (
	partitions       = 1
	partitionsTrades = 3
)

// Retention keeps memory bounded. A partition's log is cut by whole segments.
const (
	segmentBytes      = 4 << 20
	retentionBytes    = 32 << 20
	retentionInterval = time.Second
)

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// producerBuffered bounds what waits in the process for the cluster to take it, in records.
const producerBuffered = 10_000

// Options say what to start.
type Options struct {
	Listen string    // host:port of the cluster; port 0 chooses one.
	Topics []string  // To make beside the demo's own.
	Rate   int       // Demo trades a second; 0: none.
	Stdin  string    // Topic for the lines of In; empty: In is not read.
	In     io.Reader // Not closed. It is read until its end or until Stop, whichever is first.
	Logger *slog.Logger
}

// Cluster is a Kafka inside this process, with its feeds.
type Cluster struct {
	o        Options
	kafka    *kfake.Cluster
	producer *kgo.Client
	topics   []string
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// Start starts the cluster, makes the topics and starts the feeds. It is an error when the address cannot be listened on.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	kafka, err := startKafka(o.Listen)
	if err != nil {
		return nil, err
	}
	c := &Cluster{o: o, kafka: kafka}
	if err := c.makeTopics(); err != nil {
		kafka.Close()
		return nil, err
	}
	c.producer, err = kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...), kgo.ClientID("wsd-dev"), kgo.MaxBufferedRecords(producerBuffered),
		kgo.ProducerLinger(0))
	if err != nil {
		kafka.Close()
		return nil, fmt.Errorf("make the demo's producer: %w", err)
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.spawn(ctx, "retention", c.cut)
	if o.Rate > 0 {
		c.spawn(ctx, "trades", func(ctx context.Context) { c.trade(ctx, o.Rate) })
	}
	if o.Stdin != "" {
		// A read from a terminal cannot be interrupted, so nobody waits for it to end.
		go pprof.Do(ctx, pprof.Labels("component", "dev", "part", "stdin"), func(ctx context.Context) { c.lines(ctx, o.Stdin, o.In) })
	}
	return c, nil
}

func startKafka(address string) (*kfake.Cluster, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dev.kafka_listen %q is not host:port: %w", address, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("dev.kafka_listen %q: port %q is not a number", address, portText)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return nil, fmt.Errorf("dev.kafka_listen %q names every address: the demo's Kafka tells its clients the one to come back to, so name it", address)
	}
	listen := func(network, _ string) (net.Listener, error) {
		l, err := new(net.ListenConfig).Listen(context.Background(), network, net.JoinHostPort(host, portText))
		if err != nil {
			return nil, err
		}
		return guardedListener{l}, nil
	}
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.ListenFn(listen), kfake.DefaultNumPartitions(partitions),
		kfake.BrokerConfigs(map[string]string{
			"log.segment.bytes":   strconv.Itoa(segmentBytes),
			"log.retention.bytes": strconv.Itoa(retentionBytes),
			"message.max.bytes":   strconv.Itoa(16 << 20),
		}))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("start the demo's Kafka on %s: the port is in use: stop what has it, choose another with --dev.kafka-listen, "+
			"or read the Kafka that is there by `wsd serve`: %w", address, syscall.EADDRINUSE)
	}
	if err != nil {
		return nil, fmt.Errorf("start the demo's Kafka on %s: %w", address, err)
	}
	return kafka, nil
}

// makeTopics makes the demo's topics and the ones asked for, each once.
func (c *Cluster) makeTopics() error {
	want := append([]string{TopicTrades, TopicLoadtest}, c.o.Topics...)
	if c.o.Stdin != "" {
		want = append(want, c.o.Stdin)
	}
	made := make(map[string]bool)
	for _, name := range want {
		if made[name] {
			continue
		}
		made[name] = true
		if !topicName.MatchString(name) { // kfake takes any name.
			return fmt.Errorf("make topic %q (dev.topics, dev.stdin): a topic's name has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'", name)
		}
		n := int32(partitions)
		if name == TopicTrades {
			n = partitionsTrades
		}
		if err := c.kafka.CreateTopic(name, n, nil); err != nil {
			return fmt.Errorf("make topic %q (dev.topics, dev.stdin): %w", name, err)
		}
		c.topics = append(c.topics, name)
	}
	return nil
}

// Brokers returns the addresses to connect to.
func (c *Cluster) Brokers() []string { return c.kafka.ListenAddrs() }

// Topics returns what was made at the start.
func (c *Cluster) Topics() []string { return c.topics }

// Stop ends the feeds and the cluster. Its records are lost.
func (c *Cluster) Stop() {
	c.cancel()
	c.running.Wait()
	c.producer.Close()
	c.kafka.Close()
}

func (c *Cluster) spawn(ctx context.Context, part string, f func(context.Context)) {
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		pprof.Do(ctx, pprof.Labels("component", "dev", "part", part), f)
	}()
}

// cut applies retention: kfake does so by itself only for topics that ask for it in their own configuration.
func (c *Cluster) cut(ctx context.Context) {
	tick := time.NewTicker(retentionInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.kafka.ApplyRetention()
		case <-ctx.Done():
			return
		}
	}
}
