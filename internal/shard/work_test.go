package shard

import (
	"bytes"
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
	other.send(ws.OpText, `{"id":2,"rpc":{}}`)
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
				require.Contains(t, text, rateOptions[kind])
			})
		}
	}
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
