package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

// These tests count turns of the loop, which they turn over themselves.

// A turn writes at most writePerTurn to a connection, however much the kernel would take.
func TestWritePerTurn(t *testing.T) {
	for name, publish := range map[string]func(*rig){
		"one message": func(r *rig) { r.publish("a", strings.Repeat("1", 3<<20)) },
		"many":        func(r *rig) { r.publish("a", many(30_000, 100)...) },
		"batches": func(r *rig) {
			for range 50 {
				r.publish("a", many(600, 100)...)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStepped(t, func(o *Options) { o.Limits.OutboundMax, o.Limits.BatchBytesPerTurn = 8<<20, 4<<20 })
			var c *client
			r.during(func() { c = r.dial("/ws?channel=a") })
			require.NoError(t, unix.SetsockoptInt(int(r.shard.slab.get(0).fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20))
			require.NoError(t, tcp(c.conn).SetReadBuffer(1<<20))
			publish(r)
			buf, most := make([]byte, 1<<20), uint64(0)
			stats := r.shard.Stats()
			for deliveries := uint64(0); deliveries == 0 || stats.OutboundBytes.Load() > 0; deliveries = stats.Deliveries.Load() {
				before := stats.BytesOut.Load()
				r.step()
				most = max(most, stats.BytesOut.Load()-before)
				for n := 1; n > 0; {
					n, _ = c.readNow(buf)
				}
			}
			require.LessOrEqual(t, most, uint64(writePerTurn))
			require.Equal(t, uint64(writePerTurn), most, "the kernel would have taken more")
		})
	}
}

// A queue that ends exactly with what a turn may write leaves nothing for a record that comes in the same turn: it
// waits for the next.
func TestWritePerTurnUsedUp(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax = 8 << 20 })
	var c *client
	r.during(func() { c = r.dial("/ws?channel=a") })
	require.NoError(t, unix.SetsockoptInt(int(r.shard.slab.get(0).fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20))
	require.NoError(t, tcp(c.conn).SetReadBuffer(1<<20))
	r.publish("a", strings.Repeat("1", 2*writePerTurn-headerMax))
	r.step()
	r.publish("a", "x")
	buf, got := make([]byte, 1<<20), 0
	eventually(t, "all has come", func() bool {
		r.step()
		n, _ := c.readNow(buf)
		got += max(n, 0)
		return got == 2*writePerTurn+len("\x81\x01x")
	})
}

func many(n, size int) (values []string) {
	for i := range n {
		values = append(values, fmt.Sprintf("%0*d", size, i))
	}
	return values
}

// turnsUntil turns the loop over until c has got the message.
func (r *rig) turnsUntil(c *client, message string) (turns int) {
	buf := make([]byte, 64<<10)
	for before := r.shard.Stats().Turns.Load(); turns < 1000; {
		r.step()
		turns = int(r.shard.Stats().Turns.Load() - before)
		n, _ := c.readNow(buf)
		c.buf = append(c.buf, buf[:max(n, 0)]...)
		event, payload, n, _ := c.reader.Next(c.buf, wire.RoleClient, 1<<20)
		if c.buf = c.buf[n:]; n > 0 && event == wire.EventText {
			require.Contains(r.t, string(payload), message)
			return turns
		}
	}
	return turns
}

// A million deliveries of one channel that wait for its clients, whether they read or not, do not delay a message of
// another channel.
func TestMillionDeliveriesQueued(t *testing.T) {
	const clients, records = 100, 10_000
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax = 8 << 20 })
	var busy []*client
	var other *client
	r.during(func() {
		for range clients {
			busy = append(busy, r.dial("/ws?channel=a"))
		}
		other = r.join("b")
	})
	for range records / 500 {
		r.publish("a", many(500, 100)...)
		r.step()
	}
	r.step()
	stats := r.shard.Stats()
	require.Greater(t, stats.OutboundBytes.Load(), int64(clients*records*100/2))
	r.publish("b", "1")
	require.LessOrEqual(t, r.turnsUntil(other, `"data":1`), 2, "nobody reads")
	buf := make([]byte, 16<<10)
	for n := range 20 {
		for _, c := range busy {
			_, _ = c.readNow(buf)
		}
		r.publish("b", fmt.Sprint(n))
		require.LessOrEqual(t, r.turnsUntil(other, fmt.Sprintf(`"data":%d`, n)), 2, "all read")
	}
}

// Neither does a million of deliveries that wait on the bus, a thousand records for each of a thousand clients.
func TestMillionDeliveriesOnTheBus(t *testing.T) {
	const clients, records, batch = 1000, 1000, 500
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax = 8 << 20 })
	var other *client
	r.during(func() {
		for range clients {
			r.dial("/ws?channel=a")
		}
		other = r.join("b")
	})
	for range records / batch {
		r.publish("a", many(batch, 100)...)
	}
	r.publish("b", "1")
	require.LessOrEqual(t, r.turnsUntil(other, `"data":1`), 2)
	eventually(t, "gathered", func() bool { r.step(); return r.shard.Stats().Records.Load() == records+1 })
}

// A client that sends commands as fast as it can does not delay others.
func TestFlood(t *testing.T) {
	notByTLS(t, "it writes past TLS")
	r := newStepped(t, nil)
	var flood, other *client
	r.during(func() { flood, other = r.join("a"), r.join("b") })
	fd := rawFD(t, flood.conn)
	command := string(wire.AppendMasked(nil, ws.OpText, []byte(`{"id":1,"rpc":{}}`), [4]byte{1, 2, 3, 4}))
	commands := []byte(strings.Repeat(command, 10_000))
	sent, buf := 0, make([]byte, 1<<20)
	stats := r.shard.Stats()
	for n := range 200 {
		for { // As much as the kernel takes.
			k, err := unix.Write(fd, commands[sent%len(commands):])
			if err != nil || k <= 0 {
				break
			}
			sent += k
		}
		before := stats.Commands.Load()
		r.publish("b", fmt.Sprint(n))
		turns := r.turnsUntil(other, fmt.Sprintf(`"data":%d`, n))
		require.LessOrEqual(t, turns, 2)
		require.LessOrEqual(t, stats.Commands.Load()-before, uint64(turns*len(r.shard.readBuf)/len(command)+turns), "a turn takes one buffer full")
		_, _ = epoll.Read(fd, buf)
	}
	require.Greater(t, stats.Commands.Load(), uint64(10_000))
}
