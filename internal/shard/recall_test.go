package shard

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

const unsubscribePush = `{"push":{"channel":%q,"unsubscribe":{"code":2500,"reason":"insufficient state"}}}`

// breakStream puts a break onto the bus as the source does.
func (r *rig) breakStream(br bus.Break) {
	r.t.Helper()
	require.NoError(r.t, r.ring.Publish(context.Background(), bus.NewBreak(br, r.interest.Shards(br.Concerns))))
}

// lines reads messages until it has so many lines.
func (c *client) lines(n int) (all []string) {
	c.t.Helper()
	for len(all) < n {
		all = append(all, strings.Split(c.message(wire.EventText), "\n")...)
	}
	return all
}

// A break comes after what was published before it and before what is published after it, and concerns its channel
// alone.
func TestBreak(t *testing.T) {
	r := newStepped(t, nil)
	var raw, other, protocol *client
	r.during(func() {
		raw, other, protocol = r.dial("/ws?channel=a"), r.dial("/ws?channel=b"), r.join("a", "b")
	})
	// All of it waits when the shard looks.
	r.publish("a", "1")
	r.publish("b", "2")
	r.breakStream(bus.Break{Channel: "a"})
	r.publish("a", "3")
	r.publish("b", "4")
	r.during(func() {
		require.Equal(t, "1", raw.message(wire.EventText))
		code, reason := raw.closed()
		require.Equal(t, uint16(1013), code)
		require.Equal(t, "messages were missed, reconnect", reason)
		_ = raw.conn.Close()
		require.Equal(t, "2", other.message(wire.EventText))
		require.Equal(t, "4", other.message(wire.EventText))
		lines := protocol.lines(4)
		require.Contains(t, lines[0], `"data":1`)
		require.Contains(t, lines[1], `"data":2`)
		require.ElementsMatch(t, []string{fmt.Sprintf(unsubscribePush, "a"), `{"push":{"channel":"b","pub":{"data":4,"offset":4}}}`}, lines[2:])

		protocol.send(ws.OpText, `{"id":30,"subscribe":{"channel":"a"}}`)
		require.Equal(t, `{"id":30,"subscribe":{}}`, protocol.message(wire.EventText))
	})
	r.publish("a", "5")
	r.during(func() { require.Contains(t, protocol.message(wire.EventText), `"data":5`) })
	require.EqualValues(t, 2, r.shard.Stats().Recalled.Load())
	eventually(t, "closed", func() bool { r.step(); return r.reason(ReasonInsufficientState) == 1 })
}

func TestBreakByPattern(t *testing.T) {
	r := newRig(t, nil)
	protocol, raw := r.join("a:1", "b", "a:2"), r.dial("/ws?channel=a:3")
	r.breakStream(bus.Break{Match: func(name string) bool { return strings.HasPrefix(name, "a:") }})
	require.ElementsMatch(t, []string{fmt.Sprintf(unsubscribePush, "a:1"), fmt.Sprintf(unsubscribePush, "a:2")},
		strings.Split(protocol.message(wire.EventText), "\n"), "one message for all channels")
	code, _ := raw.closed()
	require.Equal(t, uint16(1013), code)
	_ = raw.conn.Close()
	r.publish("b", "1")
	require.Contains(t, protocol.message(wire.EventText), `"data":1`)
	shards := r.interest.Shards(func(string) bool { return true })
	require.True(t, shards.Has(0))
	shards = r.interest.Shards(func(name string) bool { return name != "b" })
	require.True(t, shards.Empty(), "nobody is left to be told")
}

// Where streams begin, only those that keep a position come back.
func TestBreakWhereStreamsBegin(t *testing.T) {
	for name, br := range map[string]bus.Break{
		"one":     {Channel: "a", Begins: true},
		"several": {Begins: true, Match: func(name string) bool { return name != "c" }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			raw, both, protocol := r.dial("/ws?channel=a"), r.dial("/ws?channel=a&channel=b"), r.join("a", "c")
			r.breakStream(br)
			require.Equal(t, fmt.Sprintf(unsubscribePush, "a"), protocol.message(wire.EventText))
			r.publish("a", "1")
			r.publish("c", "2")
			require.Equal(t, "1", raw.message(wire.EventText))
			require.Equal(t, "1", both.message(wire.EventText))
			require.Contains(t, protocol.message(wire.EventText), `"data":2`)
			require.EqualValues(t, 1, r.shard.Stats().Recalled.Load())
		})
	}
}

// Many are told over several turns; nobody gets what comes after the gap before.
func TestBreakTakesTurns(t *testing.T) {
	const perTurn = workPart/unitsEnd + 1
	const clients = 2*perTurn + 10
	r := newStepped(t, nil)
	all := make([]*client, clients)
	r.during(func() {
		for i := range all {
			all[i] = r.dial("/ws?channel=a")
		}
	})
	r.breakStream(bus.Break{Channel: "a"})
	r.publish("a", "after")
	r.step()
	require.EqualValues(t, clients, r.shard.Stats().Recalled.Load())
	require.Zero(t, r.shard.Stats().Subscriptions.Load())
	for turns := 1; r.shard.recalls.queue != nil; turns++ {
		require.Positive(t, r.shard.recalls.next)
		require.LessOrEqual(t, r.shard.recalls.next, turns*perTurn)
		r.step()
	}
	r.during(func() {
		for _, c := range all {
			code, _ := c.closed()
			require.Equal(t, uint16(1013), code)
			_ = c.conn.Close()
		}
	})
	eventually(t, "closed", func() bool { r.step(); return r.reason(ReasonInsufficientState) == clients })
}

// What is taken ahead of a backlog never comes from behind a break.
func TestNothingIsTakenFromBehindABreak(t *testing.T) {
	r := newStepped(t, nil)
	var c *client
	r.during(func() { c = r.join("a", "big", "b") })
	for range 3 {
		r.publish("big", strings.Repeat("1", 60<<10))
	}
	r.publish("b", "1")
	r.breakStream(bus.Break{Channel: "a"})
	r.publish("a", "2")
	r.publish("b", "3")
	r.during(func() {
		var all string
		for !strings.Contains(all, `"data":3,`) || !strings.Contains(all, fmt.Sprintf(unsubscribePush, "a")) {
			all += c.message(wire.EventText)
		}
		require.NotContains(t, all, `"data":2,`)
	})
}

// A client whose turn to be told has not come gets the push before the answer to a command about a channel.
func TestCommandsBeforeTelling(t *testing.T) {
	r := newStepped(t, nil)
	var c *client
	r.during(func() { c = r.join("a") })
	s := r.shard
	s.slab.each(func(c *conn) { s.recall(c, func(uint32) bool { return true }) })
	require.Len(t, s.recalls.queue, 1)
	c.send(ws.OpText, `{"id":3,"subscribe":{"channel":"a"}}`) // A turn looks at sockets first.
	r.during(func() {
		require.Equal(t, fmt.Sprintf(unsubscribePush, "a"), c.message(wire.EventText))
		require.Equal(t, `{"id":3,"subscribe":{}}`, c.message(wire.EventText))
	})
	require.EqualValues(t, 1, s.Stats().Subscriptions.Load())
}

// Who is gone, or has left, before being told hurts nobody.
func TestGoneBeforeTelling(t *testing.T) {
	r := newStepped(t, nil)
	r.during(func() {
		one, two := r.join("a"), r.dial("/ws?channel=a")
		_ = one.conn.Close()
		_ = two.conn.Close()
	})
	r.breakStream(bus.Break{Channel: "a"})
	eventually(t, "gone", func() bool { r.step(); return r.shard.Stats().Connections.Load() == 0 })
	r.step()
	require.Nil(t, r.shard.recalls.queue)
}
