package publishing

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// feed produces records for the first channel, as a backend does, one at a time with acks=all at the publishers' rate,
// until ctx ends. They have the form of what clients publish.
func (r *Run) feed(ctx context.Context, producer *kgo.Client) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / r.o.Rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		at := time.Now()
		record := &kgo.Record{
			Topic: r.o.Feed, Key: []byte(r.o.FeedKey),
			Value: fmt.Appendf(nil, `{"t":%d,"n":%d,"x":%q}`, at.Sub(r.began), n, r.padding),
		}
		if r.o.FeedHeader != "" {
			record.Headers = []kgo.RecordHeader{{Key: r.o.FeedHeader, Value: []byte(r.o.Channel + "0")}}
		}
		r.sent.Add(1)
		producer.Produce(context.WithoutCancel(ctx), record, func(_ *kgo.Record, err error) {
			if err != nil {
				r.failed(err)
				return
			}
			r.acked.Add(1)
			if r.warm.Load() {
				r.record(r.half().ack, time.Since(at))
			}
		})
	}
}

// openFeed returns the producer of feed. The caller closes it.
func (r *Run) openFeed() (*kgo.Client, error) {
	producer, err := kgo.NewClient(kgo.SeedBrokers(r.o.Brokers...), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0), kgo.AllowAutoTopicCreation(), kgo.RecordDeliveryTimeout(timeout))
	if err != nil {
		return nil, fmt.Errorf("--kafka: %w", err)
	}
	return producer, nil
}
