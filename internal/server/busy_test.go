package server

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
)

// Kafka answers no read of what is past, so that every worker of recovery is busy. Clients that come back get an error
// that is temporary, those that ask for history too; live records go on, also to them, and who missed nothing recovers
// at once. When Kafka answers again, they recover when they try again.
func TestRecoveryWorkersAreBusy(t *testing.T) {
	const past, topics = 20, 6
	var names []string
	for i := range topics {
		names = append(names, fmt.Sprint("p", i))
	}
	r := newRig(t, map[string]any{
		"kafka.topics": names, "recovery.cache_bytes": "0", "recovery.concurrency": "2", "recovery.timeout": "1s",
	}, kfake.SeedTopics(1, names...))
	for _, name := range names {
		for n := range past {
			r.produce(name, "", fmt.Sprintf(`{"n":%d}`, n+1))
		}
	}
	r.ready()
	live := r.join()
	epochs := map[string]string{}
	for _, name := range names {
		r.eventually("all is read", func() bool {
			s := live.comeBack(name, "").Subscribe
			live.send(fmt.Sprintf(`{"id":9,"unsubscribe":{"channel":%q}}`, name))
			live.reply()
			epochs[name] = s.Epoch
			return s.Offset == past
		})
		live.comeBack(name, "")
	}
	release := r.holdPast(past)
	stats := r.server.recovery.Stats()

	var clients []*client
	for _, name := range names {
		c := r.join()
		c.send(fmt.Sprintf(`{"id":7,"subscribe":{"channel":%q%s}}`, name, recoverFrom(5, epochs[name])))
		c.send(fmt.Sprintf(`{"id":8,"history":{"channel":%q,"limit":3}}`, name))
		clients = append(clients, c)
	}
	r.eventually("they wait", func() bool { return stats.Waiting.Load() == 2*topics })
	current := r.join().comeBack("p0", recoverFrom(past, epochs["p0"]))
	require.True(t, current.Subscribe.Recovered, "it asks nobody")
	r.produce("p0", "", `{"n":21}`)
	require.JSONEq(t, `{"n":21}`, string(live.publication().Push.Pub.Data))

	for i, c := range clients {
		for range 2 { // In any order.
			var reply struct {
				ID    int
				Error struct {
					Code      int
					Temporary bool
				}
			}
			line := c.reply()
			require.NoError(t, json.Unmarshal([]byte(line), &reply), line)
			require.True(t, reply.ID == 7 || reply.ID == 8, "client %d: %s", i, line)
			require.Equal(t, 100, reply.Error.Code, line)
			require.True(t, reply.Error.Temporary, line)
		}
	}
	require.EqualValues(t, 2*topics, stats.Queries[bus.ResultTimeout].Load())
	require.Zero(t, stats.Waiting.Load())
	release()
	for i, c := range clients {
		a := c.comeBack(names[i], recoverFrom(5, epochs[names[i]]))
		for end := time.Now().Add(waitMax); a.Error.Temporary && time.Now().Before(end); a = c.comeBack(names[i], recoverFrom(5, epochs[names[i]])) {
			time.Sleep(10 * time.Millisecond)
		}
		want := past - 5
		if i == 0 {
			want++
		}
		require.True(t, a.Subscribe.Recovered, "client %d: %+v", i, a)
		require.Len(t, a.Subscribe.Publications, want)
	}
	require.NotContains(t, r.log.String(), "level=ERROR")
}

// holdPast has Kafka answer no fetch from an offset below end, before release is called.
func (r *rig) holdPast(end int64) (release func()) {
	r.t.Helper()
	hold := make(chan struct{})
	r.kafka.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.kafka.KeepControl()
		for _, topic := range kreq.(*kmsg.FetchRequest).Topics {
			for _, p := range topic.Partitions {
				if p.FetchOffset < end {
					r.kafka.SleepControl(func() { <-hold })
				}
			}
		}
		return nil, nil, false
	})
	release = sync.OnceFunc(func() {
		r.kafka.DropControl()
		close(hold)
	})
	r.t.Cleanup(release)
	return release
}
