package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/bus"
	"wsd/internal/testutil"
)

// second starts another wsd on the same Kafka.
func (r *rig) second(flags map[string]any) *rig {
	r.t.Helper()
	flags["kafka.brokers"] = r.kafka.ListenAddrs()
	other := &rig{t: r.t, kafka: r.kafka, producer: r.producer, log: &testutil.Buffer{}}
	other.start(configure(r.t, flags))
	return other
}

// recovered is what a subscribe command is answered with.
type recovered struct {
	Subscribe struct {
		Recoverable, Recovered bool
		WasRecovering          bool `json:"was_recovering"`
		Epoch                  string
		Offset                 uint64
		Publications           []struct {
			Data   json.RawMessage
			Offset uint64
		}
	}
	Error struct {
		Code      int
		Temporary bool
	}
}

func (c *client) comeBack(channel, more string) (r recovered) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"id":7,"subscribe":{"channel":%q%s}}`, channel, more))
	line := c.reply()
	require.Contains(c.t, line, `"id":7`)
	require.NoError(c.t, json.Unmarshal([]byte(line), &r), line)
	return r
}

func recoverFrom(offset uint64, epoch string) string {
	return fmt.Sprintf(`,"recover":true,"offset":%d,"epoch":%q`, offset, epoch)
}

// follower follows a channel whose values count up, over connections that come and go.
type follower struct {
	channel string
	epoch   string
	offset  uint64
	next    int // The number that comes next; -1: none has come.
	c       *client
}

func (f *follower) take(data json.RawMessage, offset uint64) error {
	var v struct{ N int }
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	if f.next >= 0 && v.N != f.next || offset <= f.offset {
		return fmt.Errorf("%s: got number %d at offset %d, after number %d at offset %d", f.channel, v.N, offset, f.next-1, f.offset)
	}
	f.next, f.offset = v.N+1, offset
	return nil
}

// join subscribes by a new connection, to recover if it has an epoch.
func (f *follower) join(r *rig) error {
	f.c = r.join()
	more := ""
	if f.epoch != "" {
		more = recoverFrom(f.offset, f.epoch)
	}
	a := f.c.comeBack(f.channel, more)
	for end := time.Now().Add(waitMax); a.Error.Temporary && time.Now().Before(end); a = f.c.comeBack(f.channel, more) {
		time.Sleep(10 * time.Millisecond)
	}
	s := a.Subscribe
	if !s.Recoverable || f.epoch != "" && (!s.Recovered || s.Offset != f.offset || s.Epoch != f.epoch) {
		return fmt.Errorf("%s at %d of %s: %+v", f.channel, f.offset, f.epoch, a)
	}
	f.epoch = s.Epoch
	f.offset = max(f.offset, s.Offset)
	for _, p := range s.Publications {
		if err := f.take(p.Data, p.Offset); err != nil {
			return fmt.Errorf("recovered: %w", err)
		}
	}
	return nil
}

// errClosed: the connection has ended.
var errClosed = errors.New("closed")

// read takes what comes until enough says so. An errClosed is no fault.
func (f *follower) read(enough func() bool) error {
	for !enough() {
		for len(f.c.queue) == 0 {
			m, err := f.c.raw()
			if err != nil {
				return errClosed
			}
			f.c.queue = strings.Split(strings.TrimSpace(m), "\n")
		}
		var p publication
		line := f.c.queue[0]
		f.c.queue = f.c.queue[1:]
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if p.Push.Channel == "" {
			continue // A ping, which may wait for its pong.
		}
		if err := f.take(p.Push.Pub.Data, p.Push.Pub.Offset); err != nil {
			return err
		}
	}
	return nil
}

// Clients that come and go, on two wsd, while records flow: each sees every record of its channel once and in order. Some channels are
// empty most of the time, and one wsd is stopped and replaced.
func TestRecoveryChurn(t *testing.T) {
	const channels, followers, lasts = 20, 40, 6 * time.Second
	flags := func() map[string]any {
		return map[string]any{
			"routes": []string{"c.{key}"}, "kafka.partitioner": "murmur2", "recovery.max_publications": "10000", "recovery.max_bytes": "32MiB",
			"recovery.cache_bytes": "64KiB", "kafka.topics": []string{"k"},
		}
	}
	r := newRig(t, flags(), kfake.SeedTopics(3, "k"))
	nodes := []*rig{r, r.second(flags())}
	for _, n := range nodes {
		n.ready()
	}
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var produced [channels]atomic.Int64
	var running sync.WaitGroup
	running.Go(func() {
		random := rand.New(rand.NewPCG(1, 2))
		for ctx.Err() == nil {
			var batch []*kgo.Record
			for range random.IntN(40) {
				ch := random.IntN(channels)
				if random.IntN(4) > 0 {
					ch %= 5
				}
				n := produced[ch].Add(1) - 1
				batch = append(batch, &kgo.Record{Topic: "k", Key: fmt.Append(nil, ch), Value: fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, n, strings.Repeat("x", random.IntN(200)))})
			}
			if err := r.producer.ProduceSync(t.Context(), batch...).FirstErr(); err != nil {
				t.Errorf("produce: %v", err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	var nodesMu sync.RWMutex
	var joins atomic.Int64
	for i := range followers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(i)))
			ch := i % channels
			f := &follower{channel: fmt.Sprint("c.", ch), next: -1}
			join := func() error {
				nodesMu.RLock()
				defer nodesMu.RUnlock() // Also when the test fails in join.
				return f.join(nodes[random.IntN(len(nodes))])
			}
			for end := false; !end; {
				end = ctx.Err() != nil
				err := join()
				joins.Add(1)
				if err == nil {
					until := time.Now().Add(time.Duration(random.IntN(100)) * time.Millisecond)
					err = f.read(func() bool {
						if int64(f.next) >= produced[ch].Load() || f.next < 0 {
							return true // Nothing may come for long.
						}
						return !end && time.Now().After(until)
					})
				}
				if err != nil && !errors.Is(err, errClosed) {
					t.Error(err)
					return
				}
				end = end && err == nil
				f.c.conn.Close()
				if !end {
					time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
				}
			}
			if n := produced[ch].Load(); f.next >= 0 && int64(f.next) != n {
				t.Errorf("%s: ended at %d of %d", f.channel, f.next, n)
			}
		})
	}
	time.Sleep(lasts / 2)
	nodesMu.Lock()
	require.NoError(t, nodes[1].stop())
	nodes[1] = r.second(flags())
	nodesMu.Unlock()
	running.Wait()
	t.Logf("%d joins", joins.Load())
	for _, n := range nodes {
		st := n.server.recovery.Stats()
		for _, result := range bus.Results() {
			t.Logf("%s %d", result, st.Queries[result].Load())
		}
		t.Logf("%d reads, %d fetches, %d bytes", st.Reads.Load(), st.Fetches.Load(), st.ReadBytes.Load())
	}
}
