package shard

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// masked returns a client's frame.
func masked(text string) []byte { return wire.AppendMasked(nil, ws.OpText, []byte(text), [4]byte{}) }

// A client whose message has more commands than its share of a turn gets all its replies, in order, over several
// turns; what another sends meanwhile is answered in the next turn.
func TestManyCommandsTakeTurns(t *testing.T) {
	const commands = 2000
	r := newStepped(t, nil)
	var flood, other *client
	r.during(func() { flood, other = r.join(), r.join() })
	var lines []string
	for i := range commands {
		lines = append(lines, fmt.Sprintf(`{"id":%d,"rpc":{}}`, i+1))
	}
	flood.send(ws.OpText, strings.Join(lines, "\n"))
	flood.write(masked(`{"id":5000,"rpc":{}}`))
	before := r.shard.Stats().Commands.Load()
	eventually(t, "begun", func() bool { r.step(); return r.shard.Stats().Commands.Load() > before })
	require.LessOrEqual(t, r.shard.Stats().Commands.Load()-before, uint64(workShare))
	// It is read to where the flood was.
	other.send(ws.OpText, `{"id":2,"rpc":{},"x":"`+strings.Repeat("x", 60_000)+`"}`)
	now := r.shard.Stats().Commands.Load()
	r.step()
	require.Contains(t, other.lines(1)[0], `"id":2`)
	require.LessOrEqual(t, r.shard.Stats().Commands.Load()-now, uint64(workShare)+1)
	require.NotZero(t, r.shard.Stats().PutOff.Load())
	var replies []string
	r.during(func() { replies = flood.lines(commands + 1) })
	for i, reply := range replies[:commands] {
		require.Contains(t, reply, fmt.Sprintf(`{"id":%d,`, i+1))
	}
	require.Contains(t, replies[commands], `{"id":5000,`, "what comes behind waits for its turn")
	require.Empty(t, r.shard.work.waiting)
}

// A client that has ended its side after its commands gets all replies: also those of the turn that finds the end.
func TestHalfClosedGetsAllReplies(t *testing.T) {
	const commands = 1000
	for name, message := range map[string][]byte{
		"in a message": masked(strings.TrimSuffix(strings.Repeat(`{"id":2,"rpc":{}}`+"\n", commands), "\n")),
		"in frames":    bytes.Repeat(masked(`{"id":2,"rpc":{}}`), commands),
	} {
		t.Run(name, func(t *testing.T) {
			r := newStepped(t, nil)
			var c *client
			r.during(func() { c = r.join() })
			r.step()
			c.write(message)
			require.NoError(t, tcp(c.conn).CloseWrite())
			eventually(t, "gone", func() bool { r.step(); return r.shard.connections == 0 })
			require.Len(t, c.lines(commands), commands)
			require.Equal(t, uint64(1), r.reason(ReasonGone))
		})
	}
}

// When the turn has done enough, all who have something wait in their order, are not read meanwhile, and are not taken
// for silent.
func TestTurnsAreBounded(t *testing.T) {
	const clients, frames = 20, 100
	r := newStepped(t, func(o *Options) { o.Limits.PongTimeout = time.Second })
	var list []*client
	r.during(func() {
		for range clients {
			list = append(list, r.join())
		}
	})
	r.step()
	r.shard.work.max = 0 // The clock ends each turn's work when it is first looked at.
	for _, c := range list {
		c.write(bytes.Repeat(masked(`{"id":2,"rpc":{}}`), frames))
	}
	served := func() (n int) {
		r.step()
		return int(r.shard.Stats().Commands.Load())
	}
	before := served()
	for range 5 {
		n := served()
		require.LessOrEqual(t, n-before, 1+workLook/(unitsCommand+unitsFrame))
		before = n
	}
	require.Len(t, r.shard.work.waiting, clients)
	// The pong's time is over while the input waits.
	last := r.shard.slab.get(r.shard.work.waiting[clients-1].slot)
	last.pings, last.pingAt = 1, r.shard.tick+1
	r.shard.wheel.rearm(last)
	r.shard.start = r.shard.start.Add(-2 * tickLength)
	r.step()
	require.True(t, last.isClient())
	last.pings, last.pingAt = 0, 0

	r.during(func() {
		for _, c := range list {
			require.Len(t, c.lines(frames), frames)
		}
	})
	require.Empty(t, r.shard.work.waiting)
}

// Those that wait are served in their order: whoever was served and has more comes after those that were not.
func TestWaitingTakeTurns(t *testing.T) {
	const clients, frames, rounds = 7, 200, 3
	r := newStepped(t, nil)
	var list []*client
	r.during(func() {
		for range clients {
			list = append(list, r.join())
		}
	})
	r.step()
	for _, c := range list {
		c.write(bytes.Repeat(masked(`{"id":2,"rpc":{}}`), frames))
	}
	r.shard.work.max = 0 // The clock ends each turn's work when it is first looked at: a turn serves one connection.
	eventually(t, "all wait", func() bool { r.step(); return len(r.shard.work.waiting) == clients })
	var served []uint32
	for range rounds * clients {
		served = append(served, r.shard.work.waiting[0].slot)
		r.step()
	}
	for i := clients; i < len(served); i++ {
		require.Equal(t, served[i-clients], served[i])
		require.NotContains(t, served[i-clients+1:i], served[i])
	}
	r.during(func() {
		for _, c := range list {
			require.Len(t, c.lines(frames), frames)
		}
	})
}

// Reading is work as well, also where nothing is acted on: bytes of an incomplete message, and of a connection that has
// been told goodbye.
func TestReadingIsBounded(t *testing.T) {
	const clients, bytesEach = 20, 32 << 10
	most := uint64(bytesEach * (1 + workLook/(unitsRead+bytesEach/bytesUnitRead)))
	for _, closing := range []bool{false, true} {
		t.Run(fmt.Sprint("closing ", closing), func(t *testing.T) {
			r := newStepped(t, nil)
			var list []*client
			r.during(func() {
				for range clients {
					list = append(list, r.join())
				}
			})
			r.step()
			if closing {
				r.shard.slab.each(func(c *conn) { r.shard.end(c, ReasonBadRequest) })
				r.step()
			}
			r.shard.work.max = 0 // The clock ends each turn's work when it is first looked at.
			before := r.shard.Stats().BytesIn.Load()
			for _, c := range list {
				c.write(masked(strings.Repeat("x", 2*bytesEach))[:bytesEach])
			}
			read := func() uint64 { return r.shard.Stats().BytesIn.Load() - before }
			for last := uint64(0); last < clients*bytesEach; last = read() {
				r.step()
				require.LessOrEqual(t, read()-last, most)
			}
		})
	}
}

// A connection that ends while its input waits leaves nothing behind.
func TestWaitingConnectionEnds(t *testing.T) {
	r := newStepped(t, nil)
	var c *client
	r.during(func() { c = r.join() })
	c.write(bytes.Repeat(masked(`{"id":2,"rpc":{}}`), 1000))
	eventually(t, "it waits", func() bool { r.step(); return len(r.shard.work.waiting) > 0 })
	conn := r.shard.slab.get(r.shard.work.waiting[0].slot)
	r.shard.end(conn, ReasonShutdown)
	require.Nil(t, conn.in)
	r.step()
	require.Empty(t, r.shard.work.waiting)
	require.NoError(t, c.conn.Close())
	eventually(t, "gone", func() bool { r.step(); return r.shard.connections == 0 })
}

// Each kind of input has a rate, may be saved up for the window, and ends the connection beyond. In a dry run it is
// counted alone.
func TestAllowance(t *testing.T) {
	const perSecond = 10
	saved := perSecond * int(allowanceWindow/time.Second)
	for _, kind := range Rates() {
		for _, dry := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, " dry ", dry), func(t *testing.T) {
				r := newStepped(t, func(o *Options) { o.Limits.Rates[kind] = RateLimit{perSecond, dry} })
				var client *client
				r.during(func() { client = r.join() })
				c := r.shard.slab.get(0)
				c.whole = 0
				later := func(d time.Duration) {
					r.shard.start = r.shard.start.Add(-d)
					r.step()
				}
				later(time.Minute)
				for range saved {
					require.True(t, r.shard.charge(c, kind, 1))
				}
				later(time.Second)
				require.True(t, r.shard.charge(c, kind, perSecond-1))
				require.Zero(t, r.shard.Stats().OverRate[kind].Load())
				require.Equal(t, dry, r.shard.charge(c, kind, 2))
				require.EqualValues(t, 1, r.shard.Stats().OverRate[kind].Load())
				require.Equal(t, dry, c.isClient())
				if dry {
					require.True(t, r.shard.charge(c, kind, saved), "counted once a window")
					return
				}
				r.step()
				code, text := client.closed()
				require.EqualValues(t, 3013, code)
				require.Contains(t, text, fmt.Sprintf("more than %d ", perSecond))
				require.Contains(t, text, "limits."+kind.String())
			})
		}
	}
}

// The clock of the allowances wraps around after three days. Neither a process that has run for long, nor a client that
// has been silent for long, makes an allowance look used up.
func TestAllowanceAfterDays(t *testing.T) {
	wrap := time.Duration(1<<32) * allowanceUnit
	for _, uptime := range []time.Duration{0, 40 * time.Hour, wrap - 10*time.Second, wrap + time.Second, 2 * wrap} {
		t.Run(uptime.String(), func(t *testing.T) {
			const perSecond = 10
			saved := perSecond * int(allowanceWindow/time.Second)
			r := newStepped(t, func(o *Options) { o.Limits.Rates[RateCommands] = RateLimit{PerSecond: perSecond} })
			r.shard.start = r.shard.start.Add(-uptime)
			r.step()
			r.during(func() { r.join() })
			c := r.shard.slab.get(0)
			spent := int64(int32(c.whole - r.shard.allowanceNow()))
			require.LessOrEqual(t, spent, int64(time.Second/allowanceUnit/perSecond), "more than joining took")
			c.whole = r.shard.allowanceNow()
			for _, silence := range []time.Duration{0, time.Minute, 40 * time.Hour} {
				for range 3 {
					r.shard.clock.tick += uint32(silence / tickLength)
					require.True(t, r.shard.charge(c, RateCommands, saved/3))
				}
			}
			r.shard.clock.tick += uint32(allowanceWindow / tickLength)
			require.True(t, r.shard.charge(c, RateCommands, saved))
			require.False(t, r.shard.charge(c, RateCommands, 1))
		})
	}
}

// However high a rate is, input is never free.
func TestAllowanceOfHighRate(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.Limits.Rates[RateInflated].PerSecond = 1 << 40 })
	r.during(func() { r.join() })
	c := r.shard.slab.get(0)
	for range allowanceWindow / allowanceUnit {
		require.True(t, r.shard.charge(c, RateInflated, 1))
	}
	require.False(t, r.shard.charge(c, RateInflated, 1))
}

// What a dry run counts takes nothing from the rates that are enforced, and a connection leaves nothing of it behind.
func TestDryRunTakesNothing(t *testing.T) {
	const perSecond = 100
	r := newStepped(t, func(o *Options) {
		o.Limits.Rates[RateCommands] = RateLimit{perSecond, true}
		o.Limits.Rates[RateFrames] = RateLimit{perSecond, false}
	})
	var client *client
	r.during(func() { client = r.join() })
	c := r.shard.slab.get(0)
	saved := perSecond * int(allowanceWindow/time.Second)
	r.shard.clock.tick += uint32(allowanceWindow / tickLength) // Joining took some.
	require.True(t, r.shard.charge(c, RateCommands, saved))
	for range saved {
		require.True(t, r.shard.charge(c, RateFrames, 1))
	}
	require.Zero(t, r.shard.Stats().OverRate[RateCommands].Load())
	require.True(t, r.shard.charge(c, RateCommands, 1))
	require.EqualValues(t, 1, r.shard.Stats().OverRate[RateCommands].Load())
	require.NotEmpty(t, r.shard.dryRuns)
	require.NoError(t, client.conn.Close())
	eventually(t, "gone", func() bool { r.step(); return r.shard.connections == 0 })
	require.Empty(t, r.shard.dryRuns)
}

// What is charged is what a client sends.
func TestWhatIsCharged(t *testing.T) {
	for name, c := range map[string]struct {
		kind Rate
		send func(c *client)
	}{
		"commands":      {RateCommands, func(c *client) { c.send(ws.OpText, strings.Repeat(`{"id":2,"rpc":{}}`+"\n", 400)) }},
		"large command": {RateCommands, func(c *client) { c.send(ws.OpText, `{"id":2,"rpc":{"data":"`+strings.Repeat("x", 60<<10)+`"}}`) }},
		"frames":        {RateFrames, func(c *client) { c.write(bytes.Repeat(wire.AppendMasked(nil, ws.OpPing, nil, [4]byte{}), 400)) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStepped(t, func(o *Options) { o.Limits.Rates[c.kind].PerSecond = 1 })
			var client *client
			r.during(func() { client = r.join() })
			for range 2 {
				c.send(client)
			}
			eventually(t, "closed", func() bool {
				r.step()
				return r.reason(ReasonTooManyRequests) == 1 || r.shard.slab.get(0).state == stateClosing
			})
			require.EqualValues(t, 1, r.shard.Stats().OverRate[c.kind].Load())
		})
	}
}

// Whatever costs something takes it off the share of the turn: reading, frames and commands by their number and length.
func TestWhatIsSpent(t *testing.T) {
	const size = 32 << 10
	text := strings.Repeat("x", size)
	read := func(bytes int) int { return unitsRead + bytes/bytesUnitRead }
	command := func(bytes int) int { return unitsCommand + bytes/bytesUnitCommand }
	large := `{"id":1,"connect":{},"x":"` + jsonOf(size, 1) + `"}`
	deflated := deflatedMessage(large)
	for name, c := range map[string]struct {
		path string
		send []byte
		want int
	}{
		"a frame":       {"/ws?channel=a", masked(""), read(0) + unitsFrame},
		"frames":        {"/ws?channel=a", bytes.Repeat(masked(""), 50), read(0) + 50*unitsFrame},
		"a large frame": {"/ws?channel=a", masked(text), read(size) + unitsFrame + size/bytesUnitFrame},
		"a request":     {"", []byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), read(0) + unitsHandshake},
		"a large command": {pathProtocol, masked(large),
			read(len(large)) + unitsFrame + len(large)/bytesUnitFrame + command(len(large))},
		"a deflated command": {pathProtocol, deflated, read(len(deflated)) + unitsFrame +
			len(deflated)/bytesUnitFrame + unitsInflate + len(large)/bytesUnitInflated + command(len(large))},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStepped(t, func(o *Options) { o.Deflate = Deflate{&slowDeflater{}, testLeast, testInline} })
			var client *client
			r.during(func() {
				switch {
				case c.path != "":
					client = r.dialDeflate(c.path)
				case r.tls:
					client = r.openTLS(new(tls.Config))
				default:
					client = r.openPlain()
				}
			})
			// The client's part of a handshake is over first.
			eventually(t, "begun", func() bool { r.step(); return !r.tls || r.shard.slab.get(0).state != stateTLS })
			before := r.shard.Stats().BytesIn.Load()
			client.write(c.send)
			eventually(t, "read", func() bool { r.step(); return r.shard.Stats().BytesIn.Load() > before })
			require.Equal(t, before+uint64(len(c.send)), r.shard.Stats().BytesIn.Load())
			spent := workShare - r.shard.work.share
			if *everythingTLS { // crypto/tls sends the first bytes of a connection in many short records.
				require.InDelta(t, c.want, spent, 10)
				return
			}
			require.Equal(t, c.want, spent)
		})
	}
}

// Inflated bytes have a rate, and a message that grows far more than commands do is refused.
func TestInflatedIsBounded(t *testing.T) {
	command := func(n int) string { return `{"id":2,"rpc":{},"x":` + jsonOf(n, 1) + `}` }
	r, _ := newDeflateRig(t, func(o *Options) { o.Limits.Rates[RateInflated].PerSecond = 1 << 10 })
	c := r.joinDeflate("a")
	for range 2 {
		c.sendDeflated(command(8 << 10))
	}
	c.lines(2) // The input is charged when it has been acted on.
	code, text := c.closed()
	require.EqualValues(t, 3013, code)
	require.Contains(t, text, "limits.inflated_rate")
	require.EqualValues(t, 1, r.shard.Stats().OverRate[RateInflated].Load())

	r, _ = newDeflateRig(t, nil)
	c = r.joinDeflate("a")
	c.sendDeflated(`{"id":2,"rpc":{},"x":"` + strings.Repeat("a", inflateFree-100) + `"}`)
	require.Contains(t, c.message(wire.EventText), `"id":2`)
	c.sendDeflated(`{"id":3,"rpc":{},"x":"` + strings.Repeat("a", 60<<10) + `"}`)
	code, text = c.closed()
	require.EqualValues(t, 1009, code)
	require.Contains(t, text, "100 times its size")
}

// The list of those that wait gives back the memory of a crowd.
func TestWaitingGivesMemoryBack(t *testing.T) {
	s := bare()
	s.work.begin(0)
	for _, c := range fill(s, 5000) {
		s.work.wait(c, inputSocket)
		c.state = stateClosing
	}
	s.takeWaiting()
	require.Empty(t, s.work.waiting)
	require.Greater(t, cap(s.work.waiting), 4000)
	s.work.shrink()
	require.Zero(t, cap(s.work.waiting)+cap(s.work.spare))
}
