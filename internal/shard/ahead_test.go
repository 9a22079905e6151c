package shard

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
	"wsd/internal/wire"
)

// A backlog on the bus, a hundred turns long, does not delay another channel's messages.
func TestAheadOfBacklog(t *testing.T) {
	const batches, records = 50, 600 // 3 MB; a turn takes 64 KiB and the batch that passes it.
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax = 64 << 20 })
	var other *client
	r.during(func() {
		r.dial("/ws?channel=a")
		other = r.join("b")
		r.join("a", "b")
	})
	for range batches {
		r.publish("a", many(records, 100)...)
	}
	for n := range 10 {
		r.publish("b", fmt.Sprint(n))
		require.LessOrEqual(t, r.turnsUntil(other, fmt.Sprintf(`"data":%d`, n)), 2)
		require.Less(t, r.shard.Stats().Records.Load(), uint64(batches*records/2), "the backlog is still there")
	}
	eventually(t, "gathered", func() bool { r.step(); return r.shard.opts.Cursor.Lag() == 0 })
	require.EqualValues(t, batches*records+10, r.shard.Stats().Records.Load())
}

// Neither does the brake that holds for the clients of a channel.
func TestAheadOfHold(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax = 256 << 10 })
	var other *client
	r.during(func() {
		for range 8 {
			c := r.dial("/ws?channel=a")
			require.NoError(t, tcp(c.conn).SetReadBuffer(4096))
		}
		other = r.join("b")
	})
	held := 0
	for n := range 60 {
		r.publish("a", many(100, 100)...)
		r.step()
		if r.shard.sender.pacing.until == 0 {
			continue
		}
		held++
		r.publish("b", fmt.Sprint(n))
		require.LessOrEqual(t, r.turnsUntil(other, fmt.Sprintf(`"data":%d`, n)), 2)
		for r.ring.Cursor(0).Lag() > 32 { // Until the brake is let go.
			r.step()
		}
	}
	require.Positive(t, held)
}

// And what is more than a turn takes ahead waits for no event: the loop goes on.
func TestAheadOfHoldGoesOn(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax, o.Limits.BatchBytesPerTurn = 256<<10, 8<<10 })
	const others = 6
	var clients []*client
	r.during(func() {
		for range 8 {
			c := r.dial("/ws?channel=a")
			require.NoError(t, tcp(c.conn).SetReadBuffer(4096))
		}
		for i := range others {
			clients = append(clients, r.dial(fmt.Sprint("/ws?channel=b", i)))
		}
	})
	for r.shard.sender.pacing.until == 0 {
		r.publish("a", many(100, 100)...)
		r.step()
	}
	r.publish("a", "1")
	for i := range others {
		r.publish(fmt.Sprint("b", i), many(60, 100)...)
	}
	records := r.shard.Stats().Records.Load() + others*60
	for more := true; more; {
		more, _ = r.shard.turnOver(false)
	}
	require.NotZero(t, r.shard.sender.pacing.until, "the brake still holds")
	require.Equal(t, records, r.shard.Stats().Records.Load())
	for _, c := range clients {
		require.Equal(t, many(1, 100)[0], c.message(wire.EventText))
	}
}

// Whatever is taken ahead, each client gets each channel's records from its subscription on, in order and once:
// clients that read now and then, join meanwhile, and channels with more than a turn takes.
func TestAheadOrder(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testAheadOrder(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func testAheadOrder(t *testing.T, rnd *rand.Rand) {
	t.Helper()
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax, o.Limits.BatchBytesPerTurn = 1<<20, 16<<10 })
	names := []string{"a", "b", "c", "d"}
	published := make(map[string][]uint64)
	for _, name := range names {
		r.place.set(name, 0)
	}
	var readers []*orderReader
	join := func() {
		var list []string
		for _, name := range names {
			if rnd.IntN(2) == 0 {
				list = append(list, name)
			}
		}
		o := &orderReader{next: map[string]int{}}
		for _, name := range list {
			o.next[name] = len(published[name]) // Nothing is published while it joins.
		}
		r.during(func() { o.c = r.join(list...) })
		readers = append(readers, o)
	}
	join()
	for range 300 {
		switch rnd.IntN(10) {
		case 0, 1, 2, 3:
			if r.ring.Cursor(0).Lag() > 48 {
				r.step()
				continue
			}
			name := names[min(rnd.IntN(8), len(names)-1)] // d has the most.
			for range 1 + rnd.IntN(2)*rnd.IntN(3) {       // Parts of a batch with a message between them.
				n := 1 + rnd.IntN(1+rnd.IntN(200))
				values := many(n, 99)
				for i, v := range values {
					published[name] = append(published[name], r.offset+uint64(i)+1)
					values[i] = "1" + v // A number.
				}
				r.add(name, values...)
				require.True(t, r.tell(routing.Everybody, "0"))
			}
			r.seal()
		case 4:
			if len(readers) < 8 {
				join()
			}
		case 5, 6:
			readers[rnd.IntN(len(readers))].read(t, published)
		default:
			r.step()
		}
	}
	eventually(t, "all delivered", func() bool {
		r.step()
		done := r.ring.Cursor(0).Lag() == 0
		for _, o := range readers {
			o.read(t, published)
			done = done && (o.closed || o.complete(published))
		}
		return done
	})
	require.Positive(t, r.shard.gatherer.aheadSeq)
}

// orderReader is a client that knows what is to come next.
type orderReader struct {
	c      *client
	next   map[string]int // By channel, index into what was published.
	closed bool
}

func (o *orderReader) read(t *testing.T, published map[string][]uint64) {
	t.Helper()
	buf := make([]byte, 256<<10)
	n, err := o.c.readNow(buf)
	if err == nil && n == 0 {
		o.closed = true
	}
	o.c.buf = append(o.c.buf, buf[:max(n, 0)]...)
	for {
		event, payload, n, closeErr := o.c.reader.Next(o.c.buf, wire.RoleClient, 64<<20)
		require.Nil(t, closeErr)
		if n == 0 {
			return
		}
		o.c.buf = o.c.buf[n:]
		if event == wire.EventClose {
			require.Contains(t, string(payload), "slow")
			o.closed = true
			return
		}
		for _, line := range strings.Split(strings.TrimSpace(string(payload)), "\n") {
			var m struct {
				Push struct {
					Channel string
					Pub     struct{ Offset uint64 }
				}
			}
			require.NoError(t, json.Unmarshal([]byte(line), &m))
			if m.Push.Channel == "" {
				continue // A ping, or a message.
			}
			at := o.next[m.Push.Channel]
			require.Less(t, at, len(published[m.Push.Channel]))
			require.Equal(t, published[m.Push.Channel][at], m.Push.Pub.Offset, m.Push.Channel)
			o.next[m.Push.Channel]++
		}
	}
}

func (o *orderReader) complete(published map[string][]uint64) bool {
	for name, at := range o.next {
		if at < len(published[name]) {
			return false
		}
	}
	return true
}
