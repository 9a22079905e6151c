package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/bus"
)

// One address asks for far more than wsd takes, over many connections. A client of another address recovers all the
// same, each time.
func TestAddressLeavesPlacesForOthers(t *testing.T) {
	r := newRig(t, map[string]any{
		"kafka.topics": []string{"k"}, "routes": []string{"c.{key}"}, "kafka.partitioner": "murmur2",
		"recovery.waiting_max": "16", "recovery.timeout": "20s", "limits.dry_run": []string{"commands_rate", "recoveries_rate"},
	}, kfake.SeedTopics(1, "k"))
	r.ready()
	for n := range 3 {
		record := &kgo.Record{Topic: "k", Key: []byte("a"), Value: fmt.Appendf(nil, `{"n":%d}`, n)}
		require.NoError(t, r.producer.ProduceSync(t.Context(), record).FirstErr())
	}
	var epoch string
	require.Eventually(t, func() bool {
		c := r.joinFrom("127.0.0.2")
		defer c.conn.Close()
		s := c.comeBack("c.a", "").Subscribe
		epoch = s.Epoch
		return s.Offset == 3
	}, waitMax, waitMax/1000)

	stop := make(chan struct{})
	var storm sync.WaitGroup
	defer storm.Wait()
	defer close(stop)
	for range 8 {
		c := r.join()
		storm.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var commands []string
				for n := range 8 { // Offsets that no log has: wsd waits for it to come.
					commands = append(commands, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"c.%d"%s}}`, n+10, n, recoverFrom(1<<40, epoch)))
				}
				for n := range 8 {
					commands = append(commands, fmt.Sprintf(`{"id":%d,"unsubscribe":{"channel":"c.%d"}}`, n+20, n))
				}
				c.send(strings.Join(commands[:8], "\n"))
				for range 8 {
					c.reply()
				}
				c.send(strings.Join(commands[8:], "\n"))
				for range 8 {
					c.reply()
				}
			}
		})
	}
	st := r.server.recovery.Stats()
	refused := func() uint64 { return st.Queries[bus.ResultShare].Load() }
	require.Eventually(t, func() bool { return refused() > 0 && st.Waiting.Load() > 0 }, waitMax, waitMax/1000, "it has more than its share")
	for range 20 {
		c := r.joinFrom("127.0.0.2")
		s := c.comeBack("c.a", recoverFrom(0, epoch)).Subscribe
		require.True(t, s.Recovered)
		require.Len(t, s.Publications, 3)
		c.conn.Close()
	}
	require.Zero(t, st.Queries[bus.ResultOverload].Load())
}
