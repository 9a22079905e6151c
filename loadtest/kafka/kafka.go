// Package kafka is the Kafka of a comparison: kfake in a process of its own, so that neither the server nor the load
// generator has its CPU time in theirs.
//
// Thread rule: Serve belongs to one goroutine.
//
// It keeps every record in memory, has one partition a topic, and lives for one run.
package kafka

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"
)

// messageBytesMax is the largest batch that it takes.
const messageBytesMax = 64 << 20

// Serve serves a topic on a free port of 127.0.0.1, which it writes to out as host:port, until ctx or in ends.
func Serve(ctx context.Context, topic string, in io.Reader, out io.Writer) error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": strconv.Itoa(messageBytesMax)}))
	if err != nil {
		return fmt.Errorf("start a Kafka: %w", err)
	}
	defer cluster.Close()
	if _, err := fmt.Fprintln(out, cluster.ListenAddrs()[0]); err != nil {
		return fmt.Errorf("tell the Kafka's address: %w", err)
	}
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
