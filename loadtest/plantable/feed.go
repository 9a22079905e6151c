package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"wsd/loadtest/client"
	"wsd/loadtest/producer"
)

// Half of the clients share the channels of the broadcast topics; each of the others has a channel of its own, which
// the keys of the user topic name.
const (
	broadcastTopics = 8
	userTopic       = "plan.users"
	userBatch       = 10 // Records of the user topic in a produce request.
)

func broadcastTopic(i int) string { return fmt.Sprintf("plan.%d", i) }

func allTopics() (list []string) {
	for i := range broadcastTopics {
		list = append(list, broadcastTopic(i))
	}
	return append(list, userTopic)
}

// feed is the records of one run.
type feed struct {
	users     int              // Clients with a channel of their own.
	shared    float64          // Records per second on a shared channel.
	own       float64          // Records per second on a channel of one client.
	formats   []*client.Format // By topic.
	producers []*producer.Producer
	running   sync.WaitGroup
	mu        sync.Mutex
	err       error
	lateMax   time.Duration // Longest delay of a produce request.
}

func newFeed(c *config, broker string, now func() int64) (*feed, error) {
	f := &feed{users: c.Clients / 2, shared: c.Messages, own: c.Own}
	run := rand.Uint32()
	for i, topic := range allTopics() {
		format, err := client.NewFormat(run+uint32(i), c.Size)
		if err != nil {
			return nil, fmt.Errorf("format records: %w", err)
		}
		o := producer.Options{Brokers: []string{broker}, Topic: topic, Batch: 1,
			Append: func(dst []byte, seq uint64, late time.Duration) []byte {
				return format.Append(dst, seq, now()-int64(late))
			}}
		if topic == userTopic {
			users := uint64(f.users)
			o.Batch = userBatch
			o.Append = func(dst []byte, seq uint64, late time.Duration) []byte {
				return format.Append(dst, (seq-1)/users+1, now()-int64(late))
			}
			o.Key = func(dst []byte, seq uint64) []byte { return fmt.Appendf(dst, "u%d", (seq-1)%users) }
		}
		f.formats = append(f.formats, format)
		f.producers = append(f.producers, producer.New(o))
	}
	return f, nil
}

// channel is that of client n. Even clients share the broadcast channels.
func (f *feed) channel(n int) client.Channel {
	if topic := n / 2 % broadcastTopics; n%2 == 0 {
		return client.Channel{Name: broadcastTopic(topic), Format: f.formats[topic], Produced: f.producers[topic].Begun}
	}
	p := f.producers[broadcastTopics]
	user := n / 2
	return client.Channel{Name: fmt.Sprintf("u%d", user), Format: f.formats[broadcastTopics],
		Produced: func() uint64 { return f.of(user, p.Begun()) }}
}

// of is the number of the last record of a user, of n records in the topic.
func (f *feed) of(user int, n uint64) uint64 { return (n + uint64(f.users-1-user)) / uint64(f.users) }

// lasts are the numbers of the last records of channels.
func (f *feed) lasts(channels []client.Channel) (list []uint64) {
	for i := range channels {
		var n int
		switch {
		case scan(channels[i].Name, "plan.%d", &n):
			list = append(list, f.producers[n].Acked())
		case scan(channels[i].Name, "u%d", &n):
			list = append(list, f.of(n, f.producers[broadcastTopics].Acked()))
		default:
			panic("BUG: channel " + channels[i].Name)
		}
	}
	return list
}

func scan(text, format string, n *int) bool {
	_, err := fmt.Sscanf(text, format, n)
	return err == nil
}

// start produces until ctx ends.
func (f *feed) start(ctx context.Context) {
	const forever = 1 << 30
	for i, p := range f.producers {
		requests := f.shared // A second.
		if i == broadcastTopics {
			requests = f.own * float64(f.users) / userBatch
		}
		f.running.Go(func() {
			late, err := p.Run(ctx, forever, time.Duration(float64(time.Second)/requests))
			f.mu.Lock()
			defer f.mu.Unlock()
			f.lateMax = max(f.lateMax, late)
			if err != nil {
				f.err = err
			}
		})
	}
}

// wait waits until producing has ended, and returns its error.
func (f *feed) wait() error {
	f.running.Wait()
	return f.err
}

func (f *feed) close() {
	for _, p := range f.producers {
		p.Close()
	}
}

// late is the longest delay of a produce request in milliseconds, once wait has returned.
func (f *feed) late() float64 { return f.lateMax.Seconds() * 1000 }
