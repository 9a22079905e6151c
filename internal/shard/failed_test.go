package shard

import (
	"fmt"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// condition is what may not change of a connection that has failed.
type condition struct {
	state             connState
	reason            Reason
	cost, subs        int
	pings, histories  uint8
	hasFlow, recalled bool
	slow              uint64 // Stats.Slow[PolicyDisconnect].
	recalls           uint64
	queries, parked   int
	recoveries        int
	failed, resyncs   int
}

func (p *pastRig) condition(c *conn) condition {
	s := p.shard
	return condition{
		state: c.state, reason: c.reason, cost: c.out.cost, subs: len(c.subs), pings: c.pings, histories: c.histories,
		hasFlow: c.hasFlow, recalled: c.recalled, slow: s.stats.Slow[PolicyDisconnect].Load(),
		recalls: s.stats.Recalled.Load(), queries: len(p.past.queries), parked: s.sender.parkedBytes,
		recoveries: len(s.recoveries.waiting),
		failed:     len(s.outlet.failed), resyncs: len(s.resyncs.ending),
	}
}

// A connection that failed takes part in nothing until it ends, whatever is about to be done for it in the same turn,
// and ends for the reason it failed for.
func TestFailedTakesPartInNothing(t *testing.T) {
	everything := func(uint32) bool { return true }
	k := chunk{bytes: wire.AppendFrame(nil, opPing, nil)}
	recovering := func(p *pastRig, c *conn) *recovery {
		p.shard.commands(c, []byte(back(0, "")))
		p.shard.recoveries.askReady()
		rec := p.shard.recoveries.of(c, c.subs[len(c.subs)-1].channel)
		require.True(p.t, rec.asked)
		return rec
	}
	segment := func(p *pastRig, c *conn, channel string) *pending { // Sealed, but not on the bus.
		p.add(channel, "1")
		b := p.builder.Seal()
		return &pending{channel: c.subs[p.shard.channels.find(c, channel)].channel, segment: b.Segments[0], batch: b}
	}
	// Each prepares what is to be done, and returns it.
	for name, prepare := range map[string]func(p *pastRig, c *conn) (act func()){
		"connect": func(p *pastRig, c *conn) func() {
			return func() { p.shard.commands(c, []byte(`{"id":9,"connect":{}}`)) }
		},
		"subscribe": func(p *pastRig, c *conn) func() {
			return func() { p.shard.commands(c, []byte(`{"id":9,"subscribe":{"channel":"new"}}`)) }
		},
		"history": func(p *pastRig, c *conn) func() {
			return func() { p.shard.commands(c, []byte(`{"id":9,"history":{"channel":"a","limit":1}}`)) }
		},
		"completion": func(p *pastRig, c *conn) func() {
			work := p.shard.inbox.begin(c)
			return func() {
				work.post(0, false, func(*conn, bool) { p.t.Error("run for a connection that failed") })
				p.shard.takeCompletions()
				require.Zero(p.t, p.shard.inbox.expected, "its place")
			}
		},
		"queue":       func(p *pastRig, c *conn) func() { return func() { p.shard.outlet.queue(c, k) } },
		"queue reply": func(p *pastRig, c *conn) func() { return func() { p.shard.outlet.queueReply(c, k) } },
		"offer":       func(p *pastRig, c *conn) func() { return func() { p.shard.outlet.offer(c, k) } },
		"fail again":  func(p *pastRig, c *conn) func() { return func() { p.shard.outlet.fail(c, verdictSlow) } },
		"fail for another reason": func(p *pastRig, c *conn) func() {
			return func() { p.shard.outlet.failFor(c, ReasonInsufficientState) }
		},
		"delivery": func(p *pastRig, _ *conn) func() {
			return func() {
				p.publish("first", "1")
				p.shard.deliver()
				require.Zero(p.t, p.shard.sender.counts.deliveries)
			}
		},
		"merge": func(p *pastRig, c *conn) func() {
			one := segment(p, c, "first")
			return func() { p.shard.mergeFor(c, one, 0) }
		},
		"recall": func(p *pastRig, c *conn) func() {
			return func() { p.shard.recall(c, everything) }
		},
		"recall while it recovers": func(p *pastRig, c *conn) func() {
			recovering(p, c)
			return func() { p.shard.recall(c, everything) }
		},
		"notice of a recall": func(p *pastRig, c *conn) func() {
			p.shard.recall(c, everything)
			return func() {
				before := c.recalled
				p.shard.notify(c)
				c.recalled = before // It was forgotten.
				p.shard.recalls.channels[c.slot] = nil
			}
		},
		"parked": func(p *pastRig, c *conn) func() {
			rec := recovering(p, c)
			require.NotNil(p.t, rec)
			one := segment(p, c, "a")
			return func() {
				i := p.shard.channels.find(c, "a")
				require.True(p.t, p.shard.recoveries.parkFor(c, one, uint32(i)))
			}
		},
		"resync": func(p *pastRig, c *conn) func() {
			for range 3 {
				p.shard.outlet.queue(c, chunk{bytes: make([]byte, p.shard.opts.Limits.OutboundMax)})
			}
			one := segment(p, c, "first")
			return func() { p.shard.mustResync(c, one) }
		},
		"query": func(p *pastRig, c *conn) func() {
			p.shard.commands(c, []byte(back(0, "")))
			return p.shard.recoveries.askReady
		},
		"join": func(p *pastRig, c *conn) func() {
			rec := recovering(p, c)
			return func() {
				p.shard.sender.park(&rec.parked, k)
				p.shard.recoveries.joinLive(c, rec)
				rec.over = false
				p.shard.recoveries.begin(rec) // It was through.
			}
		},
		"ping": func(p *pastRig, c *conn) func() {
			return func() {
				c.pingAt = max(1, p.shard.tick)
				p.shard.tick = c.pingAt
				p.shard.due(c)
			}
		},
		"ping after a portion": func(p *pastRig, c *conn) func() {
			return func() { p.shard.pings.afterPortion(c, pingInFlight{bytes: 1}) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPastRig(t, nil)
			p.t = t
			p.place.set("a", 3)
			p.place.set("first", 0)
			p.offset = 3
			p.joined("first")
			c := p.shard.slab.get(0)
			act := prepare(p, c)
			p.shard.outlet.fail(c, verdictSlow)
			before := p.condition(c)
			require.Equal(t, stateFailed, before.state)
			act()
			require.Equal(t, before, p.condition(c))
			p.step()
			require.Equal(t, stateClosing, c.state)
			require.Equal(t, ReasonSlow, c.reason)
			require.EqualValues(t, 1, p.shard.stats.Slow[PolicyDisconnect].Load())
			for len(p.past.queries) > 0 {
				p.past.answer(bus.ResultCanceled)
			}
			p.step()
		})
	}
}

// One that is recovering as a stream fails while it is recalled, and is then not notified as well.
func TestRecallFailsAStream(t *testing.T) {
	r := newStreamRig(t, 1000, 500, nil)
	c := r.joined("other")
	r.say(c, back(0, ""))
	r.past.answer(bus.ResultOK)
	r.step()
	conn := r.shard.slab.get(0)
	require.True(t, r.shard.recoveries.of(conn, conn.subs[1].channel).started)
	r.shard.recall(conn, func(uint32) bool { return true })
	require.Equal(t, stateFailed, conn.state)
	require.Equal(t, ReasonInsufficientState, conn.reason)
	require.False(t, conn.recalled)
	require.Zero(t, r.shard.stats.Recalled.Load())
	r.step()
	require.Equal(t, stateClosing, conn.state)
}

// A raw client that failed before it was notified of its recall ends for what it failed for, at the end of the turn.
func TestNoticeToFailedRaw(t *testing.T) {
	r := newStepped(t, nil)
	r.during(func() { r.dial("/ws?channel=a") })
	conn := r.shard.slab.get(0)
	r.shard.recall(conn, func(uint32) bool { return true })
	r.shard.outlet.fail(conn, verdictSlow)
	r.shard.notify(conn)
	require.Equal(t, stateFailed, conn.state)
	r.step()
	require.Equal(t, ReasonSlow, conn.reason)
}

// A connection that failed and whose socket ends in the same turn ends once.
func TestFailedAndGone(t *testing.T) {
	r := newStepped(t, nil)
	r.during(func() { r.join("a") })
	conn := r.shard.slab.get(0)
	r.shard.outlet.fail(conn, verdictSlow)
	r.shard.peerClosed(conn, ReasonGone)
	require.Equal(t, stateFree, conn.state)
	r.step()
	require.EqualValues(t, 1, r.reason(ReasonGone))
	require.Zero(t, r.reason(ReasonSlow))
	require.Zero(t, r.shard.sender.bytes, "no close frame for the next one in its slot")
	require.Empty(t, r.shard.released)
}

// One that holds too much of the bus and has failed already is reset, and counts as slow once.
func TestPinningAndFailed(t *testing.T) {
	r := newStepped(t, nil)
	r.during(func() { r.join("a") })
	conn := r.shard.slab.get(0)
	r.shard.outlet.fail(conn, verdictSlow)
	r.shard.closePinning(conn)
	require.Equal(t, stateFree, conn.state)
	require.EqualValues(t, 1, r.shard.stats.Slow[PolicyDisconnect].Load())
	r.step()
	require.EqualValues(t, 1, r.reason(ReasonSlow))
}

// What a client sends behind the frame that ends it is not looked at, nor kept, nor timed.
func TestNothingIsReadBehindTheEnd(t *testing.T) {
	r := newStepped(t, nil)
	r.during(func() { r.join("a") })
	conn := r.shard.slab.get(0)
	frames := wire.AppendMasked(nil, opPing, []byte("1"), [4]byte{})
	frames = append(frames, wire.AppendMasked(nil, opPing, []byte("2"), [4]byte{})...)
	read := r.shard.turn.framesIn
	r.shard.end(conn, ReasonBadRequest)
	cost := conn.out.cost
	r.shard.readFrames(conn, append(frames, frames[0]))
	require.Equal(t, read, r.shard.turn.framesIn)
	require.Equal(t, cost, conn.out.cost)
	require.Nil(t, conn.in)
	require.Zero(t, conn.frameAt)
	r.step()
}

// What the bus brings for subscriptions that recover is kept up to a limit for each and for all of a shard. Those that
// would exceed it keep nothing and ask again, and all get everything.
func TestParkedIsBounded(t *testing.T) {
	const clients, outboundMax = 40, 32 << 10
	r := newStreamRig(t, 10, 10, func(o *Options) { o.Limits.OutboundMax = outboundMax })
	var all []*streamClient
	for range clients {
		sc := &streamClient{r: r}
		sc.connect()
		all = append(all, sc)
	}
	eventually(t, "asked", func() bool { r.step(); return len(r.past.waiting()) == clients })
	full := func() (n int) {
		for _, rec := range r.shard.recoveries.waiting {
			if rec.full {
				n++
			}
		}
		return n
	}
	for i := range 20 {
		r.live(1000)
		r.step()
		require.LessOrEqual(t, r.shard.sender.parkedBytes, parkedMany*outboundMax, "all of the shard's")
		for _, rec := range r.shard.recoveries.waiting {
			require.LessOrEqual(t, rec.parked.cost, outboundMax/parkedPart, "of one subscription")
		}
		if i < 10 {
			require.Zero(t, full(), fmt.Sprint("after ", i))
		}
	}
	require.Equal(t, clients, full(), "each has more than may be kept for it")
	r.past.auto()
	for len(r.past.waiting()) > 0 {
		r.past.answer(bus.ResultOK)
	}
	eventually(t, "all have all", func() bool {
		r.after(startPause)
		done := len(r.shard.recoveries.waiting) == 0
		for _, sc := range all {
			sc.read(1 << 20)
			done = done && sc.got == r.last
		}
		return done
	})
	require.Zero(t, r.reason(ReasonSlow))
}

// Connections that fail at once, as clients do whose channels the server subscribed them to, end in turns that are
// bounded, in their order. Those that wait take part in nothing, whatever happens to them meanwhile.
func TestFailuresTakeTurns(t *testing.T) {
	const perTurn = workPart/(unitsEnd+2*unitsLeave) + 1 // Each has its user's entry and one channel.
	const clients = 2*perTurn + 40
	p := newPastRig(t, withAuthority(&authority{}, nil))
	p.place.set("a", 0)
	all := make([]*client, clients)
	p.during(func() {
		for i := range all {
			all[i], _ = p.login("user=alice,server=a")
		}
	})
	p.breakStream(bus.Break{Channel: "a"})
	p.publish("a", "1") // From behind the break.
	s := p.shard
	p.step()
	inState := func(state connState) (n int) {
		s.slab.each(func(c *conn) {
			if c.state == state {
				n++
			}
		})
		return n
	}
	ended := clients - inState(stateFailed)
	require.InDelta(t, perTurn, ended, 1)
	first, last := s.slab.get(clients-1), s.slab.get(0) // A break begins with the last subscriber.
	require.Equal(t, stateClosing, first.state)
	require.Equal(t, stateFailed, last.state)

	// One that waits sends something, another one is reset, and what is left of the turn is too short for any.
	require.NoError(t, all[0].conn.SetDeadline(time.Now().Add(waitMax))) // That of its dial may be over.
	all[0].send(ws.OpText, `{"id":9,"rpc":{}}`)
	require.NoError(t, tcp(all[1].conn).SetLinger(0))
	require.NoError(t, all[1].conn.Close())
	commands := s.stats.Commands.Load()
	s.work.over = true
	s.work.beginPart()
	require.True(t, s.endFailed())
	require.InDelta(t, ended+leastPart/(unitsEnd+2*unitsLeave), clients-inState(stateFailed), 1)
	for turns := 1; inState(stateFailed) > 0; turns++ {
		before := inState(stateFailed)
		p.step()
		require.LessOrEqual(t, before-inState(stateFailed), perTurn)
		require.LessOrEqual(t, turns, clients/perTurn+1)
	}
	require.Empty(t, s.outlet.failed)
	require.Equal(t, commands, s.stats.Commands.Load())
	p.during(func() {
		for i, c := range all {
			if i == 1 {
				continue
			}
			code, _ := c.closed()
			require.EqualValues(t, 3010, code)
			_ = c.conn.Close()
		}
	})
	eventually(t, "all have gone", func() bool { p.step(); return s.stats.Connections.Load() == 0 })
	require.EqualValues(t, clients, p.reason(ReasonInsufficientState)+p.reason(ReasonGone))
}
