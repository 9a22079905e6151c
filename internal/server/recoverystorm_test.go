package server

import (
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/shard"
)

// How large TestRecoveryStorm is.
var (
	stormClients = flag.Int("storm.clients", 400, "clients of TestRecoveryStorm")
	stormAway    = flag.Duration("storm.away", time.Second, "how long they are away")
	stormRate    = flag.Int("storm.rate", 2000, "records a second")
)

// All clients lose their connection at once, are away while records flow, and come back together: to the same wsd, which still has it all in
// memory, or to one that has just been started and has to ask Kafka. What that causes to be read does not grow with the clients.
func TestRecoveryStorm(t *testing.T) {
	const partitions, publicationsMax = 4, 300
	keys := max(100, *stormClients/10)
	for _, fresh := range []bool{false, true} {
		t.Run(map[bool]string{false: "same", true: "fresh"}[fresh], func(t *testing.T) {
			flags := func() map[string]any {
				return map[string]any{
					"routes": []string{"c.{key}"}, "kafka.partitioner": "murmur2", "kafka.topics": []string{"k"}, "kafka.start": "latest",
					"recovery.max_publications": fmt.Sprint(publicationsMax), "client.ping_interval": "1h", // Clients do not read while others join.
				}
			}
			r := newRig(t, flags(), kfake.SeedTopics(partitions, "k"))
			r.ready()
			stop := make(chan struct{})
			produced := make([]atomic.Int64, keys)
			var producing sync.WaitGroup
			producing.Go(func() {
				ticker := time.NewTicker(10 * time.Millisecond)
				defer ticker.Stop()
				for i := 0; ; {
					select {
					case <-stop:
						return
					case <-ticker.C:
					}
					var batch []*kgo.Record
					for range *stormRate / 100 {
						n := produced[i%keys].Add(1) - 1
						batch = append(batch, &kgo.Record{Topic: "k", Key: fmt.Append(nil, i%keys), Value: fmt.Appendf(nil, `{"n":%d}`, n)})
						i++
					}
					if err := r.producer.ProduceSync(t.Context(), batch...).FirstErr(); err != nil {
						t.Error(err)
						return
					}
				}
			})

			list := make([]*follower, *stormClients)
			each := func(do func(f *follower) error) {
				const workers = 64
				var running sync.WaitGroup
				for w := range workers {
					running.Go(func() {
						for i := w; i < len(list); i += workers {
							if err := do(list[i]); err != nil {
								t.Error(err)
							}
						}
					})
				}
				running.Wait()
				require.False(t, t.Failed())
			}
			for i := range list {
				list[i] = &follower{channel: fmt.Sprint("c.", i%keys), next: -1}
			}
			each(func(f *follower) error { return f.join(r) })
			each(func(f *follower) error { return f.read(func() bool { return f.next >= 0 }) })
			offsets := func() (n int64) {
				for _, p := range r.server.source.Stats().Partitions() {
					n += p.Position
				}
				return n
			}
			before := offsets()
			for _, f := range list {
				f.c.conn.Close()
			}
			target := r
			if fresh {
				time.Sleep(*stormAway / 2)
				target = r.second(flags())
				target.ready()
			}
			time.Sleep(*stormAway)
			began := time.Now()
			each(func(f *follower) error { return f.join(target) })
			took := time.Since(began)
			ranges := (offsets()-before)/partitions/publicationsMax + 1
			close(stop)
			producing.Wait()
			channel := make([]int64, keys)
			for i := range channel {
				channel[i] = produced[i].Load()
			}
			each(func(f *follower) error {
				var key int
				if _, err := fmt.Sscanf(f.channel, "c.%d", &key); err != nil {
					return err
				}
				defer f.c.conn.Close()
				return f.read(func() bool { return int64(f.next) == channel[key] })
			})

			st := target.server.recovery.Stats()
			var from [4]uint64
			for _, s := range target.server.shards {
				for _, source := range shard.RecoveryOrigins() {
					from[source] += s.Stats().Recovered[source].Load()
					require.Zero(t, s.Stats().Unrecovered[source].Load())
				}
			}
			t.Logf("%d clients came back in %v: %d by table, %d from memory, %d from Kafka; %d records missed in all, %d ranges a partition; %d reads, %d fetches, %d KiB; mean wait %.1f ms",
				len(list), took.Round(time.Millisecond), from[shard.RecoveryTable], from[shard.RecoveryMemory], from[shard.RecoveryKafka], offsets()-before,
				ranges, st.Reads.Load(), st.Fetches.Load(), st.ReadBytes.Load()>>10, 1000*st.Duration.Snapshot().Sum/float64(max(1, st.Duration.Snapshot().Count)))
			require.LessOrEqual(t, int64(st.Fetches.Load()), 2*partitions*ranges)
			if !fresh {
				require.Zero(t, st.Fetches.Load())
			}
		})
	}
}
