package shard

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A connection that ends takes everything with it that is kept by its slot: the next one there must not inherit it.
func TestNothingIsInherited(t *testing.T) {
	t.Run("resyncs", func(t *testing.T) {
		r := newResyncRig(t, nil)
		c := r.shard.slab.get(0)
		require.False(t, r.shard.resyncs.tooOften(c, 100))
		r.shard.abort(c)
		r.step()
	})
	t.Run("recalls", func(t *testing.T) {
		r := newStepped(t, nil)
		r.during(func() { r.join("a") })
		c := r.shard.slab.get(0)
		r.shard.recall(c, func(uint32) bool { return true })
		require.Len(t, r.shard.recalls.channels, 1)
		r.shard.abort(c)
		require.Empty(t, r.shard.recalls.channels)
		r.step()
	})
	t.Run("timers", func(t *testing.T) {
		r := newStepped(t, func(o *Options) { o.Limits.PingInterval = time.Second })
		r.during(func() { r.join("a") })
		r.shard.abort(r.shard.slab.get(0))
		r.step()
	})
}

// A connection that is closing is pinged no more.
func TestNoPingAfterClose(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.Limits.PingInterval, o.Limits.CloseGrace = time.Second, time.Hour })
	var c *client
	r.during(func() { c = r.join("a") })
	conn := r.shard.slab.get(0)
	conn.frameAt = r.shard.tick + 20
	r.shard.wheel.rearm(conn)
	r.shard.end(conn, ReasonShutdown)
	r.step()
	r.shard.start = r.shard.start.Add(-5 * time.Second)
	r.step()
	r.step()
	var events []wire.Event
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		event, _, n, _ := c.reader.Next(c.buf, wire.RoleClient, 1<<20)
		if n > 0 {
			c.buf = c.buf[n:]
			events = append(events, event)
			continue
		}
		buf := make([]byte, 4096)
		k, err := c.in.Read(buf)
		if err != nil {
			break
		}
		c.buf = append(c.buf, buf[:k]...)
	}
	require.Equal(t, []wire.Event{wire.EventClose}, events)
	require.Equal(t, stateClosing, conn.state)
}

// What is merged for a client is from before its close, and comes before the close frame.
func TestMergedBeforeClose(t *testing.T) {
	r, c, conn := conflating(t)
	r.shard.end(conn, ReasonShutdown)
	require.Equal(t, "last", r.lastMessage(c))
}

// Merged records of a channel that is recalled are from before the gap: they come before the push that says so.
func TestMergedBeforeRecall(t *testing.T) {
	r, c, conn := conflating(t)
	r.shard.recall(conn, func(uint32) bool { return true })
	require.Equal(t, "last", r.lastMessage(c))
}

// lastMessage returns the last message before the close frame or the end of the socket.
func (r *rig) lastMessage(c *client) (last string) {
	r.t.Helper()
	r.during(func() {
		for {
			event, payload, err := c.next()
			if err != nil || event == wire.EventClose {
				return
			}
			last = payload
		}
	})
	return last
}

// conflating returns a raw client for which a record is merged, the value "last".
func conflating(t *testing.T) (*rig, *client, *conn) {
	t.Helper()
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax, o.Slow = 1<<20, []SlowPolicy{{"c", PolicyConflate}} })
	var c *client
	r.during(func() {
		c = r.dial("/ws?channel=c")
		for range 3 { // So that one client is no reason to brake.
			r.dial("/ws?channel=b")
		}
	})
	conn := r.shard.slab.get(0)
	for conn.out.merge == nil {
		r.publish("c", strings.Repeat("v", 8000))
		r.step()
	}
	r.publish("c", "last")
	r.step()
	require.NotNil(t, conn.out.merge)
	return r, c, conn
}

// Everything queued is sent although a segment that has nothing for the client ends its wait for a compressed layout.
func TestNothingIsForgottenWhenWaitingEnds(t *testing.T) {
	d := &slowDeflater{room: -1}
	r := newStepped(t, func(o *Options) {
		o.Deflate = Deflate{Deflater: d, Least: testLeast, Inline: testInline}
		o.Limits.OutboundMax, o.Slow = 256<<10, []SlowPolicy{{"c", PolicyConflate}}
	})
	r.during(func() { r.dialDeflate("/ws?channel=a&channel=c") })
	conn := r.shard.slab.get(0)
	for i := range 6 {
		r.publish("a", jsonOf(9000, uint64(i)))
		r.step()
	}
	require.True(t, conn.out.chunks[0].deferred)
	r.publish("c", "\x00") // Nothing for a raw client.
	r.step()
	eventually(t, "sent", func() bool { r.step(); return conn.out.empty() })
	for d.posted() > 0 {
		d.do(0)
	}
	r.step()
}

// A pong that is partly sent is not replaced.
func TestPongInPart(t *testing.T) {
	s := newSender(1 << 20)
	o := &outbox{}
	s.pong(o, []byte("first"))
	o.offset = 1
	s.setBlocked(o, true)
	s.pong(o, []byte("second"))
	require.Equal(t, "\x8a\x05first", string(o.chunks[0].bytes))
	require.Equal(t, "\x8a\x06second", string(o.chunks[1].bytes))
}

// Replies that overtake a backlog count like it: who never reads is closed, however many chunks they are in.
func TestRepliesCount(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	var c *client
	r.during(func() {
		c = r.join("a")
		for range 3 { // So that one client is no reason to brake.
			r.join("b")
		}
	})
	require.NoError(t, tcp(c.conn).SetReadBuffer(4096))
	conn := r.shard.slab.get(0)
	for conn.out.cost < 40<<10 {
		r.publish("a", many(1, 8000)...)
		r.step()
	}
	cost := conn.out.cost
	for n := 0; conn.isClient(); n++ {
		require.Less(t, n, 10_000)
		c.send(ws.OpText, fmt.Sprintf(`{"id":%d,"rpc":{}}`, n+1))
		r.step()
		require.LessOrEqual(t, conn.out.cost, max(cost, 64<<10)+16<<10)
	}
	require.Equal(t, ReasonSlow, conn.reason)
}

// Who goes on sending after the goodbye is reset once what may have been on its way is over. Who does not has the time
// of CloseGrace to read it.
func TestDiscardIsBounded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.CloseGrace = time.Hour })
	polite, rude := r.dial("/ws?channel=a"), r.dial("/ws?channel=a")
	most := make([]byte, discardMax/2)
	for _, c := range []*client{polite, rude} {
		c.write([]byte{0xff, 0x80, 0, 0, 0, 0}) // Of no opcode.
		c.write(most)
	}
	_ = rude.conn.SetWriteDeadline(time.Now().Add(waitMax))
	var err error
	for range 1 << 10 { // More than the kernel buffers.
		if _, err = rude.conn.Write(most); err != nil {
			break
		}
	}
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	code, _ := polite.closed()
	require.Equal(t, uint16(1002), code)
	require.Eventually(t, func() bool { return r.shard.Stats().Connections.Load() == 1 }, waitMax, time.Millisecond)
}
