package shard

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// streamRig is a pastRig whose channel a has a long stream, and where time passes when the test says so.
type streamRig struct {
	*pastRig
	last int // Number of the last record.
}

func newStreamRig(t *testing.T, records, size int, change func(*Options)) *streamRig {
	t.Helper()
	r := &streamRig{}
	r.pastRig = newPastRig(t, func(o *Options) {
		o.Recovery.PublicationsMax = 1 << 20
		if change != nil {
			change(o)
		}
	})
	for range records {
		r.add(size)
	}
	r.place.set("a", uint64(r.last)) // Small.
	r.offset = uint64(r.last)        // Small.
	return r
}

// add adds a record to the stream without putting it on the bus.
func (r *streamRig) add(size int) string {
	r.last++
	value := fmt.Sprintf(`{"n":%d,"x":%q}`, r.last, strings.Repeat("x", size))
	r.past.mu.Lock()
	r.past.records = append(r.past.records, record(uint64(r.last), value)) // Small.
	r.past.mu.Unlock()
	return value
}

// live adds a record to the stream and publishes it.
func (r *streamRig) live(size int) { r.publish("a", r.add(size)) }

func (r *streamRig) after(d time.Duration) {
	r.shard.start = r.shard.start.Add(-d)
	r.step()
}

// What does not fit into the reply follows as publications, in order and before anything live: after a pause, in
// portions that wait for the client's pongs.
func TestStream(t *testing.T) {
	r := newStreamRig(t, 1000, 500, nil)
	c := r.joined()
	r.say(c, back(0, ""))
	require.Equal(t, []bus.Query{{Channel: "a", Epoch: "epoch", UpTo: 1000, RecordsMax: replyPublications, CountMax: 1 << 20}}, r.past.waiting())
	r.past.answer(bus.ResultOK)
	reply := r.hear(c)
	require.JSONEq(t, `{"id":5,"subscribe":{"recoverable":true,"epoch":"epoch","recovered":true,"positioned":true,"was_recovering":true}}`, reply)
	require.Empty(t, r.past.waiting(), "the pause")
	r.live(10)
	r.after(startPause)
	require.Len(t, r.past.waiting(), 1)
	r.past.answer(bus.ResultOK)
	r.step()
	require.Empty(t, r.past.waiting(), "the window is full until the pong comes")
	conn := r.shard.slab.get(0)
	require.EqualValues(t, 1, conn.pings)
	require.Zero(t, r.shard.stats.Recovered[RecoveryMemory].Load())
	r.past.auto()
	r.live(10)
	r.collect(c, "a", 1, 1003)
	require.Empty(t, r.shard.recoveries.waiting)
	r.live(10)
	r.collect(c, "a", 1003, 1004) // Answers the ping before it.
	eventually(t, "the last portion is acknowledged", func() bool {
		r.step()
		return r.shard.stats.Recovered[RecoveryMemory].Load() == 1
	})
	require.Empty(t, r.shard.flows.bySlot)
}

// A connection that reads nothing costs a window, however much it missed, and is not closed for the pongs that it
// owes while it takes bytes.
func TestStreamIsPaced(t *testing.T) {
	r := newStreamRig(t, 5000, 1000, func(o *Options) { o.Limits.PongTimeout = time.Second })
	r.past.auto()
	c := r.joined()
	r.say(c, back(0, ""))
	conn := r.shard.slab.get(0)
	for range 100 {
		r.after(startPause)
	}
	require.True(t, conn.isClient(), "pongs of portions have pongPatience")
	require.LessOrEqual(t, conn.out.cost, windowMax+portionMax)
	f := r.shard.flows.bySlot[0]
	require.NotNil(t, f)
	require.LessOrEqual(t, f.bytes, windowMin+portionMax)
	for range 3 { // While its kernel acknowledges bytes, they count as leaving.
		r.after(pongPatience)
	}
	require.False(t, conn.isClient())
	require.NoError(t, c.conn.Close())
	eventually(t, "counted", func() bool { r.step(); return r.reason(ReasonNoPong) == 1 })
}

// A stream that cannot go on ends with the connection, which the client makes anew from the last publication that it
// got.
func TestStreamEnds(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(r *streamRig)
		code uint16
	}{
		"the log is cut": {func(r *streamRig) { r.past.answer(bus.ResultGone) }, 3010},
		"another epoch":  {func(r *streamRig) { r.place.begin("another"); r.past.answer(bus.ResultOK) }, 3010},
		"a break":        {func(r *streamRig) { r.breakStream(bus.Break{Channel: "a"}); r.step() }, 3010},
		"detached":       {func(r *streamRig) { r.shard.reattach() }, 3010},
		"cannot be read": {func(r *streamRig) { r.past.answer(bus.ResultError) }, 3010},
		"not for a while": {func(r *streamRig) {
			for range retriesMax + 1 {
				r.past.answer(bus.ResultTimeout)
				r.step()
				r.after(retryPause)
			}
		}, 3010},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStreamRig(t, 1000, 500, nil)
			c := r.joined()
			r.say(c, back(0, ""))
			r.past.answer(bus.ResultOK)
			require.Contains(t, r.hear(c), `"recovered":true`)
			r.after(startPause)
			require.Len(t, r.past.waiting(), 1)
			test.end(r)
			r.step()
			var code uint16
			r.during(func() { code, _ = c.closed() })
			require.Equal(t, test.code, code)
			_ = c.conn.Close()
			eventually(t, "gone", func() bool { r.step(); return r.shard.connections == 0 })
			require.Empty(t, r.shard.flows.bySlot)
			require.Empty(t, r.shard.recoveries.waiting)
		})
	}
}

// Who leaves wants no answer any longer, and its place is free for others.
func TestQueriesAreCanceled(t *testing.T) {
	canceled := func(r *streamRig, i int) bool { return r.past.queries[i].Canceled.Load() }
	r := newStreamRig(t, 1000, 500, nil)
	c := r.joined()
	r.say(c, back(0, ""))
	r.say(c, `{"id":6,"history":{"channel":"a","limit":5}}`)
	require.False(t, canceled(r, 0))
	r.say(c, `{"id":7,"unsubscribe":{"channel":"a"}}`)
	require.True(t, canceled(r, 0), "unsubscribed")
	require.False(t, canceled(r, 1))
	r.say(c, back(0, ""))
	require.NoError(t, c.conn.Close())
	eventually(t, "gone", func() bool { r.step(); return r.shard.connections == 0 })
	require.True(t, canceled(r, 1), "closed")
	require.True(t, canceled(r, 2), "closed")
	for range 3 {
		r.past.answer(bus.ResultCanceled)
	}
	r.step()
	require.Zero(t, r.shard.inbox.expected)
}

// One connection has a few first queries under way, whatever it subscribes to.
func TestShareOfQueries(t *testing.T) {
	r := newStreamRig(t, 10, 10, func(o *Options) { o.Limits.ChannelsMax = 100 })
	c := r.joined()
	for i := range 50 {
		r.place.set(fmt.Sprint("c", i), 10)
		r.say(c, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"c%d","recover":true,"epoch":"epoch","offset":0}}`, i+10, i))
	}
	require.Len(t, r.past.waiting(), firstQueries)
	r.say(c, `{"id":9,"history":{"channel":"c1","limit":5}}`)
	for _, q := range r.past.queries {
		require.Equal(t, netip.MustParseAddr("127.0.0.1"), q.Address, "whose share it is")
	}
	require.Len(t, r.past.queries, firstQueries+1)
	r.past.answer(bus.ResultOK)
	r.step()
	require.Len(t, r.past.waiting(), firstQueries+1, "the next one has its place")
}

// Whatever happens, each client gets the stream from its offset on, in order, without a gap and nothing twice, and
// after a reconnect from the last one that it got.
func TestStreamModel(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			r := newStreamRig(t, 3000, 300, func(o *Options) { o.Limits.OutboundMax = 256 << 10 })
			var clients []*streamClient
			for range 5 {
				clients = append(clients, &streamClient{r: r, got: random.IntN(3000)})
			}
			for range 6000 {
				sc := clients[random.IntN(len(clients))]
				switch n := random.IntN(100); {
				case sc.c == nil:
					sc.connect()
				case n < 40:
					sc.read(random.IntN(64 << 10))
				case n < 60 && len(r.past.waiting()) > 0:
					result := bus.ResultOK
					if random.IntN(30) == 0 {
						result = bus.ResultTimeout
					}
					r.past.answer(result)
				case n < 85:
					r.live(random.IntN(600))
				case n == 99 && random.IntN(10) == 0:
					_ = sc.c.conn.Close()
					sc.c = nil
				case n > 97:
					r.after(startPause)
				}
				r.step()
			}
			r.past.auto()
			for len(r.past.waiting()) > 0 {
				r.past.answer(bus.ResultOK)
			}
			for _, sc := range clients {
				if sc.c == nil {
					sc.connect()
				}
			}
			eventually(t, "all have all", func() bool {
				done := true
				r.after(10 * time.Millisecond)
				for _, sc := range clients {
					if sc.c == nil {
						sc.connect()
					}
					sc.read(1 << 20)
					done = done && sc.got == r.last
				}
				return done
			})
		})
	}
}

// streamClient is a client that recovers a, again and again.
type streamClient struct {
	r   *streamRig
	c   *client
	got int // Number of the last record that it got.
}

func (sc *streamClient) connect() {
	sc.c = sc.r.joined()
	sc.c.send(ws.OpText, back(sc.got, ""))
}

// read takes what has come, at most n bytes, and answers pings.
func (sc *streamClient) read(n int) {
	if sc.c == nil || n == 0 {
		return
	}
	t := sc.r.t
	buf := make([]byte, n)
	_ = sc.c.conn.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
	k, _ := io.ReadFull(sc.c.in, buf) // Over TLS each Read is one record.
	sc.c.buf = append(sc.c.buf, buf[:k]...)
	for {
		event, payload, used, closeErr := sc.c.reader.Next(sc.c.buf, wire.RoleClient, 64<<20)
		require.Nil(t, closeErr)
		if used == 0 {
			return
		}
		text := string(payload)
		sc.c.buf = sc.c.buf[used:]
		if event == wire.EventClose {
			code, _, _ := wire.CloseCode([]byte(text))
			require.Contains(t, []uint16{3008, 3010}, code)
			_ = sc.c.conn.Close()
			sc.c = nil
			return
		}
		for line := range strings.SplitSeq(text, "\n") {
			if sc.line(line); sc.c == nil {
				return
			}
		}
	}
}

func (sc *streamClient) line(line string) {
	t := sc.r.t
	if line == "{}" {
		sc.c.send(ws.OpText, "{}")
		return
	}
	type pub struct{ Data struct{ N int } }
	var m struct {
		Push      struct{ Pub *pub }
		Subscribe *struct {
			Recovered    bool
			Publications []pub
		}
		Error *struct {
			Code      int
			Temporary bool
		}
	}
	require.NoError(t, json.Unmarshal([]byte(line), &m), line)
	if m.Error != nil { // A timeout of the first query.
		require.True(t, m.Error.Temporary, line)
		sc.c.send(ws.OpText, back(sc.got, ""))
	}
	if s := m.Subscribe; s != nil {
		require.True(t, s.Recovered, line)
		for _, p := range s.Publications {
			sc.take(p.Data.N)
		}
	}
	if m.Push.Pub != nil {
		sc.take(m.Push.Pub.Data.N)
	}
}

func (sc *streamClient) take(n int) {
	require.Equal(sc.r.t, sc.got+1, n)
	sc.got = n
}
