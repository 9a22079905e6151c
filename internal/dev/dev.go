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

// Topics that always exist.
const (
	TopicTrades   = "trades"   // Topic of the demo feed.
	TopicLoadtest = "loadtest" // Topic that loadtest produces to.
)

// Numbers of partitions. With one partition the offsets of a channel ascend, and records arrive in the order in which
// they were produced. The topic of the demo feed has several partitions, like a real one.
const (
	partitions       = 1
	partitionsTrades = 3
)

// Retention, which bounds the memory. Whole segments of a partition's log are removed.
const (
	segmentBytes      = 4 << 20
	retentionBytes    = 32 << 20
	retentionInterval = time.Second
)

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// producerBuffered is the maximum number of records that wait in the producer.
const producerBuffered = 10_000

// Options is what Start needs.
type Options struct {
	Listen string       // Address of the cluster, as HOST:PORT. Port 0 means any free port.
	Topics []string     // Topics to create in addition to the demo's own.
	Rate   int          // Demo trades per second; 0: none.
	Stdin  string       // Topic for the lines of In; empty: In is not read.
	In     io.Reader    // Read until its end or until Stop. It is not closed.
	Logger *slog.Logger // Gets errors of producing.
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

// Start starts the cluster, creates the topics and starts the feeds. It returns an error if it cannot listen on the
// address.
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
	c.producer, err = kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...), kgo.ClientID("wsd-dev"),
		kgo.MaxBufferedRecords(producerBuffered),
		kgo.ProducerLinger(0))
	if err != nil {
		kafka.Close()
		return nil, fmt.Errorf("create the demo's producer: %w", err)
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.spawn(ctx, "retention", c.cut)
	if o.Rate > 0 {
		c.spawn(ctx, "trades", func(ctx context.Context) { c.trade(ctx, o.Rate) })
	}
	if o.Stdin != "" {
		// A read from a terminal cannot be interrupted, so Stop does not wait for this goroutine.
		go pprof.Do(ctx, pprof.Labels("component", "dev", "part", "stdin"),
			func(ctx context.Context) { c.lines(ctx, o.Stdin, o.In) })
	}
	return c, nil
}

func startKafka(address string) (*kfake.Cluster, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dev.kafka_listen %q is not HOST:PORT: %w", address, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("dev.kafka_listen %q: port %q is not a number", address, portText)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return nil, fmt.Errorf("dev.kafka_listen %q means every address, but the demo's Kafka must tell its clients "+
			"one address: name one", address)
	}
	listen := func(network, _ string) (net.Listener, error) {
		l, err := new(net.ListenConfig).Listen(context.Background(), network, net.JoinHostPort(host, portText))
		if err != nil {
			return nil, err
		}
		return guardedListener{l}, nil
	}
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.ListenFn(listen),
		kfake.DefaultNumPartitions(partitions),
		kfake.BrokerConfigs(map[string]string{
			"log.segment.bytes":   strconv.Itoa(segmentBytes),
			"log.retention.bytes": strconv.Itoa(retentionBytes),
			"message.max.bytes":   strconv.Itoa(16 << 20),
		}))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("start the demo's Kafka on %s: the port is in use: stop the process that uses it, "+
			"choose another port with "+
			"--dev.kafka-listen, or use the Kafka that runs there with wsd serve: %w", address, syscall.EADDRINUSE)
	}
	if err != nil {
		return nil, fmt.Errorf("start the demo's Kafka on %s: %w", address, err)
	}
	return kafka, nil
}

// makeTopics creates the demo's topics and those in the options, each once.
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
		if !topicName.MatchString(name) { // kfake accepts any name.
			return fmt.Errorf("create topic %q (dev.topics, dev.stdin): a topic name has 1 to 249 of a-z, A-Z, 0-9, "+
				"'.', '_' and '-'", name)
		}
		n := int32(partitions)
		if name == TopicTrades {
			n = partitionsTrades
		}
		if err := c.kafka.CreateTopic(name, n, nil); err != nil {
			return fmt.Errorf("create topic %q (dev.topics, dev.stdin): %w", name, err)
		}
		c.topics = append(c.topics, name)
	}
	return nil
}

// Brokers returns the addresses to connect to.
func (c *Cluster) Brokers() []string { return c.kafka.ListenAddrs() }

// Topics returns the topics that Start has created.
func (c *Cluster) Topics() []string { return c.topics }

// Stop stops the feeds and the cluster. Its records are lost.
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

// cut applies retention. kfake itself applies it only to topics that configure it.
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
