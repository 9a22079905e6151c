package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/routing"
	"wsd/internal/wire"
)

// Channels that a token names are subscribed to with the connect command, whatever the rules say.
func TestServedChannels(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	r.place.set("known", 41)
	c, reply := r.login("user=alice,server=x+known")
	require.Contains(t, reply, `"subs":{`)
	require.Contains(t, reply, `"known":{"epoch":"epoch","offset":41,"positioned":true}`)
	require.Contains(t, reply, `"x":{}`)
	r.publish("x", "1")
	require.Equal(t, `{"push":{"channel":"x","pub":{"data":1,"offset":1}}}`, c.message(wire.EventText))
	require.True(t, r.tell(string(routing.AppendUser(nil, []byte("alice"))), "7"))
	r.seal()
	require.Equal(t, fmt.Sprintf(data, "7"), c.message(wire.EventText))
	require.Contains(t, c.ask(`{"id":2,"subscribe":{"channel":"x"}}`), `"code":105`)
	require.Contains(t, c.ask(`{"id":2,"history":{"channel":"x"}}`), `"code":108`, "it may read what it has")
	require.Equal(t, `{"id":3,"unsubscribe":{}}`, c.ask(`{"id":3,"unsubscribe":{"channel":"x"}}`))
	require.Contains(t, c.ask(`{"id":2,"history":{"channel":"x"}}`), `"code":103`)

	_, reply = r.login("user=alice,server=1+2+3+4+5+6+7+8+9")
	require.Contains(t, reply, `"code":106`, "more than client.channels_max")
	raw := r.dial("/ws?channel=public.a&token=user=alice,server=x")
	r.publish("x", "2")
	require.Equal(t, "2", raw.message(wire.EventText))
}

// joining sends a connect command with positions, and turns the loop until the Recoverer has so many queries.
func (p *pastRig) joining(token, subs string, queries int) *client {
	p.t.Helper()
	var c *client
	p.during(func() { c = p.dial(pathProtocol) })
	c.send(ws.OpText, fmt.Sprintf(`{"id":1,"connect":{"token":%q,"subs":{%s}}}`, token, subs))
	for len(p.past.waiting()) < queries {
		p.step()
	}
	return c
}

func position(channel string, offset int) string {
	return fmt.Sprintf(`%q:{"recover":true,"epoch":"epoch","offset":%d}`, channel, offset)
}

// A client that comes back recovers the channels that its token names: the reply to its connect command has what it
// missed, and what comes meanwhile follows it, without a gap and nothing twice.
func TestServedChannelsRecover(t *testing.T) {
	p := newPastRig(t, withAuthority(&authority{}, nil))
	p.place.set("b", 0)
	keep := p.joinedBy("user=keeper,server=a+b") // So that the bus has everything.
	p.numbers(1, 4)
	c := p.joining("user=alice,server=a+b+c", position("a", 1)+","+position("b", 0), 1)
	p.numbers(4, 6)
	p.add("b", "6")
	p.seal()
	p.step()
	require.Empty(t, c.buf)
	c.send(ws.OpText, `{"id":2,"subscribe":{"channel":"public.x"}}`)
	p.step()
	p.past.answer(bus.ResultOK)
	for len(p.past.waiting()) == 0 { // Meanwhile b has something, too.
		p.step()
	}
	p.past.records = append(p.past.records, record(6, "6"))
	onlyB := p.past.records[len(p.past.records)-1:]
	p.past.records = onlyB
	p.past.answer(bus.ResultOK)
	var lines []string
	p.during(func() { lines = c.lines(4) })
	require.Contains(t, lines[0], `"a":{"recoverable":true,"epoch":"epoch","publications":[{"data":2,"offset":2},{"data":3,"offset":3}],"recovered":true,"offset":1,`)
	require.Contains(t, lines[0], `"b":{"recoverable":true,"epoch":"epoch","publications":[{"data":6,"offset":6}],"recovered":true,`)
	require.Contains(t, lines[0], `"c":{}`)
	require.Equal(t, `{"push":{"channel":"a","pub":{"data":4,"offset":4}}}`, lines[1])
	require.Equal(t, `{"push":{"channel":"a","pub":{"data":5,"offset":5}}}`, lines[2])
	require.Equal(t, `{"id":2,"subscribe":{}}`, lines[3], "what it sent meanwhile comes after the reply")
	_ = keep
}

// joinedBy connects with a token.
func (p *pastRig) joinedBy(token string) (c *client) {
	p.t.Helper()
	p.during(func() { c, _ = p.login(token) })
	return c
}

// What does not fit into the reply, or cannot be recovered, is told apart in it.
func TestServedChannelsPartly(t *testing.T) {
	p := newPastRig(t, withAuthority(&authority{}, func(o *Options) { o.Recovery.PublicationsMax = 1000 }))
	p.numbers(1, 400)
	c := p.joining("user=alice,server=a", position("a", 10), 1)
	p.past.answer(bus.ResultOK) // More than a reply has.
	var reply string
	p.during(func() { reply = c.message(wire.EventText) })
	require.Contains(t, reply, `"recovered":true,"offset":10`)
	require.NotContains(t, reply, "publications")
	for len(p.past.waiting()) == 0 { // The stream.
		p.step()
	}
	p.past.answer(bus.ResultOK)
	p.during(func() {
		require.Equal(t, `{"push":{"channel":"a","pub":{"data":11,"offset":11}}}`, strings.Split(c.message(wire.EventText), "\n")[0])
	})
	_ = c.conn.Close()

	c = p.joining("user=alice,server=a", position("a", 10), 1)
	p.past.answer(bus.ResultGone)
	p.during(func() { reply = c.message(wire.EventText) })
	require.Contains(t, reply, `"offset":399,"positioned":true,"was_recovering":true`)
	require.NotContains(t, reply, `"recovered"`)
	p.numbers(400, 401)
	p.during(func() { require.Contains(t, c.message(wire.EventText), `"data":400`) })

	c = p.joining("user=alice,server=a", position("a", 10), 1)
	p.past.answer(bus.ResultOverload) // It has lost nothing if it comes back.
	p.during(func() {
		code, _ := c.closed()
		require.EqualValues(t, 3010, code)
	})
}

// The SDKs do not subscribe again to what the server subscribed them to: they are closed, so that they come back.
func TestServedChannelBreaks(t *testing.T) {
	p := newPastRig(t, withAuthority(&authority{}, nil))
	c := p.joinedBy("user=alice,server=a")
	other := p.joinedBy("user=alice,server=b")
	p.numbers(1, 2)
	waiting := p.joining("user=alice,server=a", position("a", 0), 1)
	p.breakStream(bus.Break{Channel: "a"})
	p.during(func() {
		require.Contains(t, c.message(wire.EventText), `"data":1`)
		for _, gone := range []*client{c, waiting} {
			code, _ := gone.closed()
			require.EqualValues(t, 3010, code)
			_ = gone.conn.Close()
		}
	})
	p.publish("b", "2")
	p.during(func() { require.Contains(t, other.message(wire.EventText), `"data":2`) })
	p.past.answer(bus.ResultOK)
	p.step()
}

// A connection that goes while its reply waits leaves nothing.
func TestServedChannelsGone(t *testing.T) {
	p := newPastRig(t, withAuthority(&authority{}, nil))
	p.joinedBy("user=keeper,server=a")
	p.numbers(1, 3)
	c := p.joining("user=alice,server=a", position("a", 1), 1)
	require.NoError(t, c.conn.Close())
	p.past.answer(bus.ResultOK)
	for p.shard.Stats().Clients.Load() > 1 {
		p.step()
	}
}

// A token may name more channels than a connection finds without an index, and its user comes before them.
func TestServedChannelsAreIndexed(t *testing.T) {
	p := newPastRig(t, withAuthority(&authority{}, func(o *Options) { o.Limits.ChannelsMax = 1000 }))
	names := make([]string, 3*indexedFrom)
	for i := range names {
		names[i] = fmt.Sprint("c", i)
	}
	c := p.joinedBy("user=alice,server=" + strings.Join(names, "+"))
	for _, i := range []int{0, 1, len(names) - 1} {
		p.during(func() {
			require.Equal(t, `{"id":3,"unsubscribe":{}}`, c.ask(fmt.Sprintf(`{"id":3,"unsubscribe":{"channel":%q}}`, names[i])))
		})
	}
	p.publish(names[2], "1")
	p.during(func() { require.Contains(t, c.message(wire.EventText), `"data":1`) })
	require.EqualValues(t, len(names)-3, p.shard.Stats().Subscriptions.Load())
}

// A client that refreshes by a token which no longer names a channel of the server's loses that channel, unless a rule
// lets it have it.
func TestServedChannelIsLostByRefresh(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	c, reply := r.login("user=alice,server=x+y+public.z")
	require.Contains(t, reply, `"subs":{`)
	require.Contains(t, c.ask(`{"id":2,"refresh":{"token":"user=alice,server=y"}}`), `"refresh":{`)
	require.Equal(t, `{"push":{"channel":"x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`,
		c.message(wire.EventText))
	for _, name := range []string{"x", "y", "public.z"} {
		r.publish(name, "1")
	}
	require.Contains(t, c.message(wire.EventText), `{"push":{"channel":"y"`)
	require.Contains(t, c.message(wire.EventText), `{"push":{"channel":"public.z"`)
	require.Contains(t, c.ask(`{"id":3,"history":{"channel":"x"}}`), `"code":103`)
}
