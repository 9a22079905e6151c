// Package run is a command: it starts Apache Kafka on loopback, says where, and ends it with Ctrl-C: make kafka. With
// -prepare it makes later starts quicker, and ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"wsd/internal/kafkabroker"
)

// startMax is how long all brokers may take to start.
const startMax = 3 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "kafka: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("kafka", flag.ContinueOnError)
	home := flags.String("home", "", "directory with Kafka's jars in lib")
	brokers := flags.Int("brokers", 1, "how many brokers")
	port := flags.Int("port", 9092, "port of the first broker; the others have those that follow")
	listen := flags.String("listen", "", "HOST:PORT of a second listener, for clients in other networks")
	dir := flags.String("dir", "", "empty directory for the data; default: one that goes when it ends")
	prepare := flags.Bool("prepare", false, "make later starts quicker, and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		temporary, err := os.MkdirTemp("", "wsd-kafka-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary) //nolint:errcheck // What is left lies in the directory for such things.
		*dir = temporary
	}
	starting, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	if *prepare {
		return kafkabroker.Prepare(starting, *home, *dir)
	}
	began := time.Now()
	c, err := kafkabroker.Start(starting, kafkabroker.Options{
		Home: *home, Dir: *dir, Brokers: *brokers, Port: *port, Listen: *listen,
		// A producer alone is then enough to try things.
		Properties: map[string]string{"auto.create.topics.enable": "true"},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Apache Kafka (brokers: %d) after %.1f s, until Ctrl-C; data and logs are in %s\n",
		*brokers, time.Since(began).Seconds(), *dir)
	fmt.Fprintf(out, "  bin/wsd serve --kafka.brokers %s --kafka.topics TOPIC\n", strings.Join(c.Addrs(), ","))
	<-ctx.Done()
	return c.Close()
}
