package shard

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/wire"
)

func TestDeliverRaw(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial("/ws?channel=a&channel=b")
	r.publish("a", `{"n":1}`, "plain text", "\x00", "\xff\xfe", "2")
	require.Equal(t, `{"n":1}`, c.message(wire.EventText))
	require.Equal(t, "plain text", c.message(wire.EventText))
	require.Equal(t, "\xff\xfe", c.message(wire.EventBinary), "not UTF-8: binary; the null before it: nothing")
	require.Equal(t, "2", c.message(wire.EventText))
	r.publish("other", "no")
	r.publish("b", "yes")
	require.Equal(t, "yes", c.message(wire.EventText))
	stats := r.shard.Stats()
	eventually(t, "counted", func() bool { return stats.Deliveries.Load() == 5 })
	require.EqualValues(t, 2, stats.Batches.Load(), "nobody wanted the other one")
	require.EqualValues(t, 6, stats.Records.Load())
	eventually(t, "timed", func() bool { return r.timed().InWsd.Count == 6 })
}

// The publications of a batch come in one frame, what is not JSON is left out.
func TestDeliverProtocol(t *testing.T) {
	r := newRig(t, nil)
	c := r.join("a", `quo"te`)
	r.publish("a", `{"n":1}`, "plain text", "\x00", "2")
	require.Equal(t, `{"push":{"channel":"a","pub":{"data":{"n":1},"offset":1}}}`+"\n"+
		`{"push":{"channel":"a","pub":{"data":null,"offset":3}}}`+"\n"+
		`{"push":{"channel":"a","pub":{"data":2,"offset":4}}}`, c.message(wire.EventText))
	r.publish("a", "plain text")
	r.publish(`quo"te`, "3")
	require.Equal(t, `{"push":{"channel":"quo\"te","pub":{"data":3,"offset":6}}}`, c.message(wire.EventText))
	stats := r.shard.Stats()
	eventually(t, "counted", func() bool { return stats.Deliveries.Load() == 4 })
}

// Two channels in one turn reach a client in one write.
func TestJoinWrites(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial("/ws?channel=a&channel=b")
	stats := r.shard.Stats()
	eventually(t, "handshake counted", func() bool { return stats.Writes.Load() == 1 })
	for _, channel := range []string{"a", "b"} {
		ch, ok := r.interest.Lookup([]byte(channel))
		require.True(t, ok)
		r.builder.Add(ch, record(1, channel), time.Now())
	}
	r.seal()
	require.Equal(t, "a", c.message(wire.EventText))
	require.Equal(t, "b", c.message(wire.EventText))
	eventually(t, "counted", func() bool { return stats.Deliveries.Load() == 2 })
	require.EqualValues(t, 2, stats.Writes.Load())
}

// A subscriber that joins while a batch is being filled gets what comes after the position it was told, and nothing
// before.
func TestJoinInTheMiddle(t *testing.T) {
	for _, protocol := range []bool{true, false} {
		r := newRig(t, nil)
		r.place.set("a", 0)
		join := func() *client {
			if protocol {
				return r.join("a")
			}
			return r.dial("/ws?channel=a")
		}
		early := join()
		ch, ok := r.interest.Lookup([]byte("a"))
		require.True(t, ok)
		add := func(offset uint64) {
			r.place.set("a", offset)
			r.builder.Add(ch, record(offset, fmt.Sprint(offset)), time.Now())
		}
		add(1)
		add(2)
		late := join()
		add(3)
		add(4)
		last := join() // Nothing of this batch is for it.
		r.seal()
		add(5)
		r.seal()
		read := func(c *client) (got []string) {
			for len(got) == 0 || got[len(got)-1] != "5" {
				text := c.message(wire.EventText)
				if !protocol {
					got = append(got, text)
					continue
				}
				for _, line := range strings.Split(text, "\n") {
					_, after, _ := strings.Cut(line, `"data":`)
					value, _, _ := strings.Cut(after, ",")
					got = append(got, value)
				}
			}
			return got
		}
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, read(early))
		require.Equal(t, []string{"3", "4", "5"}, read(late))
		require.Equal(t, []string{"5"}, read(last))
	}
}

// A client that does not read is closed by the outbound limit; the others get everything meanwhile, and the memory
// comes back.
func TestSlowClient(t *testing.T) {
	for _, path := range []string{"/ws?channel=a", pathProtocol} {
		t.Run(path, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Limits.OutboundMax = 256 << 10; o.Limits.CloseGrace = 200 * time.Millisecond })
			dial := func() *client {
				if path == pathProtocol {
					return r.join("a")
				}
				return r.dial(path)
			}
			slow, good := dial(), dial()
			require.NoError(t, tcp(slow.conn).SetReadBuffer(4096))
			stats := r.shard.Stats()
			value := `{"n":"` + strings.Repeat("x", 16<<10) + `"}`
			for n := 0; stats.Slow[PolicyDisconnect].Load() == 0; n++ {
				require.Less(t, n, 10000)
				r.publish("a", value)
				require.Contains(t, good.message(wire.EventText), value)
				require.Less(t, stats.OutboundBytes.Load(), int64(256<<10+2*len(value)))
			}
			eventually(t, "closed by force after the grace", func() bool { return stats.Connections.Load() == 1 })
			require.EqualValues(t, 1, r.reason(ReasonSlow))
			require.Positive(t, stats.Dropped.Load())
			require.Zero(t, stats.OutboundBytes.Load())
			r.publish("a", "1")
			require.Contains(t, good.message(wire.EventText), "1")
		})
	}
}

// Each of several pings is answered, before what waits, and no pong makes a client slow.
func TestPongBeyondLimit(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	var c *client
	r.during(func() {
		c = r.dial("/ws?channel=a")
		for range 3 { // So that one client is no reason to brake.
			r.dial("/ws?channel=b")
		}
	})
	require.NoError(t, tcp(c.conn).SetReadBuffer(4096))
	conn, stats := r.shard.slab.get(0), r.shard.Stats()
	sent := 0
	for ; !conn.out.exceeds(r.shard.opts.Limits.OutboundMax); sent++ {
		r.publish("a", many(1, 1000)...)
		r.step()
	}
	frames := stats.FramesIn.Load()
	ping := func(from, to int) {
		for n := from; n < to; n++ {
			c.send(ws.OpPing, fmt.Sprintf("%0100d", n))
		}
		eventually(t, "the pings are seen", func() bool { r.step(); return stats.FramesIn.Load() == frames+uint64(to) })
	}
	ping(0, 10)
	require.True(t, conn.isClient())
	ping(10, 60)
	require.True(t, conn.isClient())
	waiting := 0
	for i := range conn.out.chunks {
		if conn.out.chunks[i].pong != 0 {
			waiting += len(conn.out.chunks[i].bytes)
		}
	}
	require.LessOrEqual(t, waiting, pongBytesMax)
	var pongs []string
	messages := 0
	r.during(func() {
		for messages < sent {
			event, payload, err := c.next()
			if err != nil {
				return
			}
			if event == wire.EventPong {
				pongs = append(pongs, payload)
				continue
			}
			messages++
		}
	})
	require.Equal(t, sent, messages)
	require.Less(t, len(pongs), 60)
	for n := range 10 {
		require.Equal(t, fmt.Sprintf("%0100d", n), pongs[n])
	}
	require.Equal(t, fmt.Sprintf("%0100d", 59), pongs[len(pongs)-1], "the newest is answered")
}

// A slow client that reads again in time sees whole messages up to a point, then the reason.
func TestSlowClientSeesReason(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10; o.Limits.CloseGrace = waitMax })
	c := r.dial("/ws?channel=a")
	stats := r.shard.Stats()
	for n := 0; stats.Slow[PolicyDisconnect].Load() == 0; n++ {
		require.Less(t, n, 100000)
		r.publish("a", fmt.Sprintf("%d%s", n, strings.Repeat(" ", 8<<10)))
		eventually(t, "taken", func() bool { return stats.Batches.Load() == uint64(n+1) })
	}
	for n := 0; ; n++ {
		event, payload, err := c.next()
		require.NoError(t, err)
		if event == wire.EventClose {
			code, reason, _ := wire.CloseCode([]byte(payload))
			require.Equal(t, uint16(1008), code)
			require.Equal(t, "slow", reason)
			break
		}
		require.Equal(t, fmt.Sprint(n), strings.TrimSpace(payload))
	}
	_ = c.conn.Close()
	eventually(t, "gone", func() bool { return stats.Connections.Load() == 0 })
}

// One message larger than the outbound limit reaches a client that reads.
func TestLargeMessage(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.OutboundMax = 4096 })
	c := r.dial("/ws?channel=a")
	value := strings.Repeat("9", 8<<20)
	r.publish("a", value)
	require.Equal(t, value, c.message(wire.EventText))
	r.publish("a", "1")
	require.Equal(t, "1", c.message(wire.EventText))
}

// Many batches, more than a turn takes, arrive whole and in order at a client that reads in its own time.
func TestBacklog(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial("/ws?channel=a")
	const batches = 2000
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range batches * 3 {
			if got := c.message(wire.EventText); got != fmt.Sprint(n) {
				t.Errorf("message %d is %q", n, got)
				return
			}
		}
	}()
	for n := range batches {
		r.publish("a", fmt.Sprint(3*n), fmt.Sprint(3*n+1), fmt.Sprint(3*n+2))
	}
	<-done
}

// A shard that the bus had to leave behind tells its clients to come back, and goes on.
func TestDetached(t *testing.T) {
	r := newRig(t, nil)
	raw, protocol, idle := r.dial("/ws?channel=a"), r.join("a", "b"), r.join()
	block := make(chan struct{})
	r.place.block.Store(&block)
	idle.send(ws.OpText, `{"id":9,"subscribe":{"channel":"slow"}}`) // The shard now hangs in Position.
	eventually(t, "detached", func() bool {
		r.publish("a", "1")
		return r.ring.Stats().Detached[0].Load() == 1
	})
	r.place.block.Store(nil)
	close(block)
	require.Equal(t, `{"id":9,"subscribe":{}}`, idle.message(wire.EventText))
	var ended []string
	for len(ended) < 2 {
		for _, line := range strings.Split(protocol.message(wire.EventText), "\n") {
			if strings.Contains(line, "unsubscribe") {
				require.Contains(t, line, `"unsubscribe":{"code":2500,"reason":"insufficient state"}`)
				ended = append(ended, line)
			}
		}
	}
	for {
		event, payload, err := raw.next()
		require.NoError(t, err)
		if event == wire.EventClose {
			code, _, _ := wire.CloseCode([]byte(payload))
			require.Equal(t, uint16(1013), code)
			break
		}
	}
	_ = raw.conn.Close()
	require.EqualValues(t, 1, r.shard.Stats().Reattached.Load())
	protocol.send(ws.OpText, `{"id":30,"subscribe":{"channel":"a"}}`)
	require.Equal(t, `{"id":30,"subscribe":{}}`, protocol.message(wire.EventText))
	r.publish("a", "77")
	require.Contains(t, protocol.message(wire.EventText), `"data":77`)
}

// Clients that vanish in the middle of a delivery hurt nobody.
func TestVanishingClients(t *testing.T) {
	r := newRig(t, nil)
	good := r.dial("/ws?channel=a")
	for round := range 30 {
		var others []*client
		for range 10 {
			others = append(others, r.dial("/ws?channel=a"))
		}
		for i, c := range others {
			if i%2 == 0 {
				_ = tcp(c.conn).SetLinger(0)
			}
			_ = c.conn.Close()
			r.publish("a", fmt.Sprint(round*10+i))
		}
		for i := range others {
			require.Equal(t, fmt.Sprint(round*10+i), good.message(wire.EventText))
		}
	}
	stats := r.shard.Stats()
	eventually(t, "gone", func() bool { return stats.Connections.Load() == 1 })
}

// What a refused write kept from a client is counted like what waited for it.
func TestWriteError(t *testing.T) {
	r := newStepped(t, nil)
	r.during(func() { r.dial("/ws?channel=a") })
	require.NoError(t, unix.Shutdown(int(r.shard.slab.get(0).fd), unix.SHUT_WR))
	r.publish("a", "1", "2")
	r.step()
	require.EqualValues(t, 1, r.reason(ReasonWriteError))
	require.EqualValues(t, 2, r.shard.Stats().Dropped.Load())
}

// Stopping delivers what is on the bus, then says goodbye.
func TestShutdown(t *testing.T) {
	r := newRig(t, nil)
	raw, protocol, head := r.dial("/ws?channel=a"), r.join("a"), r.open()
	head.write([]byte("GET /ws?channel=a HTTP/1.1\r\n"))
	eventually(t, "accepted", func() bool { return r.shard.Stats().Connections.Load() == 3 })
	before := runtime.NumGoroutine()
	for n := range 50 {
		r.publish("a", fmt.Sprint(n))
	}
	r.shard.PostStopAccepting()
	eventually(t, "listener closed", func() bool {
		conn, err := net.Dial("tcp", r.address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 50 {
			if got := raw.message(wire.EventText); got != fmt.Sprint(n) {
				t.Errorf("got %q", got)
			}
		}
		code, reason := raw.closed()
		if code != 1001 || reason != "shutdown" {
			t.Errorf("got %d %q", code, reason)
		}
		_ = raw.conn.Close()
		var got strings.Builder
		for !strings.Contains(got.String(), `"data":49`) {
			got.WriteString(protocol.message(wire.EventText))
		}
		if code, reason := protocol.closed(); code != 3001 || reason != "shutdown" {
			t.Errorf("got %d %q", code, reason)
		}
		_ = protocol.conn.Close()
		if status, _ := head.response(); status != 503 {
			t.Errorf("got %d", status)
		}
		_ = head.conn.Close()
	}()
	r.stop(waitMax)
	<-done
	eventually(t, "loop goroutine ended", func() bool { return runtime.NumGoroutine() < before })
	require.EqualValues(t, 3, r.reason(ReasonShutdown))
}

// Clients that do not answer the goodbye, or read nothing, do not hold the shutdown beyond its deadline.
func TestShutdownDeadline(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.CloseGrace = time.Hour })
	c := r.dial("/ws?channel=a")
	r.publish("a", strings.Repeat("1", 4<<20))
	began := time.Now()
	r.stop(300 * time.Millisecond)
	require.GreaterOrEqual(t, time.Since(began), 250*time.Millisecond)
	_, err := io.Copy(io.Discard, c.in)
	require.Error(t, err, "reset")
}

// A publication that the socket refuses counts as dropped, like those that wait.
func TestDropsWhatCannotBeWritten(t *testing.T) {
	r := newStepped(t, nil)
	r.during(func() { r.dial("/ws?channel=a") })
	require.NoError(t, unix.Shutdown(int(r.shard.slab.get(0).fd), unix.SHUT_WR))
	r.publish("a", "1", "2")
	stats := r.shard.Stats()
	eventually(t, "closed", func() bool { r.step(); return r.reason(ReasonWriteError) == 1 })
	require.EqualValues(t, 2, stats.Dropped.Load())
	require.Zero(t, stats.Deliveries.Load())
}
