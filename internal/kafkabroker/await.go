package kafkabroker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	pollInterval = 50 * time.Millisecond
	askMax       = 5 * time.Second // For one response.
)

// errPort: a broker could not get its port.
var errPort = errors.New("another process has taken a port")

// await waits until the broker's metadata has every running broker and a controller.
func (c *Cluster) await(ctx context.Context, b *broker) error {
	return c.poll(ctx, fmt.Sprintf("start broker %d", b.id), b, func(m *kmsg.MetadataResponse) string {
		running := 0
		for _, other := range c.brokers {
			if other.process != nil {
				running++
			}
		}
		if m.ControllerID < 0 || len(m.Brokers) < running {
			return fmt.Sprintf("it knows of %d of %d brokers", len(m.Brokers), running)
		}
		return ""
	})
}

// CaughtUp waits until each running broker sees a leader for every partition, and all replicas in sync.
func (c *Cluster) CaughtUp(ctx context.Context) error {
	for _, b := range c.brokers {
		if b.process == nil {
			continue
		}
		if err := c.poll(ctx, "wait for replicas", b, behind); err != nil {
			return err
		}
	}
	return nil
}

// behind names a partition without a leader, or with replicas that are not in sync.
func behind(m *kmsg.MetadataResponse) string {
	for i := range m.Topics {
		t := &m.Topics[i]
		for j := range t.Partitions {
			if p := &t.Partitions[j]; p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
				return fmt.Sprintf("partition %d of topic %s has leader %d, and %d of %d replicas are in sync",
					p.Partition, *t.Topic, p.Leader, len(p.ISR), len(p.Replicas))
			}
		}
	}
	return ""
}

// poll asks one broker for its metadata until missing returns "".
func (c *Cluster) poll(ctx context.Context, what string, b *broker, missing func(*kmsg.MetadataResponse) string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(address(b.port)), kgo.DialTimeout(askMax), kgo.RequestRetries(0),
		kgo.MetadataMinAge(pollInterval))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer cl.Close()
	for {
		var lacks string
		if m, err := ask(ctx, cl); err != nil {
			lacks = err.Error()
		} else if lacks = missing(m); lacks == "" {
			return nil
		}
		if !b.process.running() {
			err := fmt.Errorf("%s: the broker has ended: %w\n%s", what, b.process.err, tail(b.log(), 20))
			if strings.Contains(err.Error(), "Address already in use") {
				err = fmt.Errorf("%w: %w", errPort, err)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %s\n%s", what, ctx.Err(), lacks, tail(b.log(), 20))
		case <-time.After(pollInterval):
		}
	}
}

func ask(ctx context.Context, cl *kgo.Client) (*kmsg.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest() // For all topics.
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return nil, err
	}
	m, ok := resp.(*kmsg.MetadataResponse)
	if !ok {
		return nil, fmt.Errorf("BUG: the response to a metadata request is a %T", resp)
	}
	return m, nil
}

// Home returns the directory with Kafka's jars that the environment names. It reports false if the environment names
// none.
func Home() (dir string, ok bool) {
	dir = os.Getenv(HomeVariable)
	return dir, dir != ""
}
