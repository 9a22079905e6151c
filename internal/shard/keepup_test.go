package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// TestAnswersKeepUp: however much clients publish in a turn, what is answered does not fall behind what they begin. So
// nobody who publishes slowly gets 111 because of what others do.
func TestAnswersKeepUp(t *testing.T) {
	const clients, publications, most = 40, 200, 50
	w := &writer{auto: true}
	r := newStepped(t, withWriter(w, func(o *Options) { o.Quotas.Limits[QuotaPublishUnderWay].Max = most }))
	var list []*client
	r.during(func() {
		for range clients {
			list = append(list, r.join())
		}
	})
	for _, c := range list {
		var lines []string
		for i := range publications {
			lines = append(lines, fmt.Sprintf(`{"id":%d,"publish":{"channel":"chat","data":1}}`, i+2))
		}
		c.send(ws.OpText, strings.Join(lines, "\n"))
	}
	stats := r.shard.Stats()
	eventually(t, "all is published", func() bool {
		r.step()
		require.Zero(t, r.shard.inbox.expected, "what was answered in this turn waits")
		return stats.Commands.Load() >= clients*(publications+1)
	})
	require.Zero(t, stats.PublishRefused.Load())
	require.EqualValues(t, clients*publications, stats.Published.Load())
	r.during(func() {
		for _, c := range list {
			for _, line := range c.lines(publications) {
				require.Contains(t, line, `"publish":{}`)
			}
		}
	})
}

// TestAnswersCatchUp: answers that come all at once take turns, and become fewer while clients go on.
func TestAnswersCatchUp(t *testing.T) {
	const clients, publications = 20, 200
	w := &writer{}
	r := newStepped(t, withWriter(w, nil))
	var list []*client
	r.during(func() {
		for range clients {
			list = append(list, r.join())
		}
	})
	publish := func(c *client, n int) {
		var lines []string
		for i := range n {
			lines = append(lines, fmt.Sprintf(`{"id":%d,"publish":{"channel":"chat","data":1}}`, i+2))
		}
		c.send(ws.OpText, strings.Join(lines, "\n"))
	}
	for _, c := range list {
		publish(c, publications)
	}
	eventually(t, "all is published", func() bool { r.step(); return w.waiting() == clients*publications })
	w.answer(nil)
	last := r.shard.inbox.expected
	r.step()
	require.Greater(t, r.shard.inbox.expected, last/2, "a turn takes a part")
	w.auto = true // What is published from now on is answered in the same turn.
	for r.shard.inbox.expected > 0 {
		last = r.shard.inbox.expected
		publish(list[0], 30)
		r.step()
		require.Less(t, r.shard.inbox.expected, last)
	}
}
