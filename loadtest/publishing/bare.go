package publishing

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// bareLoop produces a record at a time with acks=all, at the publishers' rate, and fetches it with a consumer of its
// own: what Kafka and the machine take without a server.
func (r *Run) bareLoop(ctx context.Context) {
	consumer, err := kgo.NewClient(kgo.SeedBrokers(r.o.Brokers...), kgo.ConsumeTopics(r.o.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return
	}
	defer consumer.Close()
	producer, err := kgo.NewClient(kgo.SeedBrokers(r.o.Brokers...), kgo.DefaultProduceTopic(r.o.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.AllowAutoTopicCreation())
	if err != nil {
		return
	}
	defer producer.Close()
	go func() {
		tick := time.NewTicker(time.Duration(float64(time.Second) / max(r.o.Rate, 1)))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				value := binary.BigEndian.AppendUint64(make([]byte, 0, max(r.o.Size, 8)), uint64(time.Since(r.began)))
				producer.Produce(ctx, &kgo.Record{Value: append(value, r.padding...)}, nil)
			}
		}
	}()
	for {
		fetches := consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		fetches.EachRecord(func(record *kgo.Record) {
			if r.warm.Load() && len(record.Value) >= 8 {
				sent := time.Duration(binary.BigEndian.Uint64(record.Value))
				r.record(r.bare, time.Since(r.began)-sent)
			}
		})
	}
}
