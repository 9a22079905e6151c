package shard

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/routing"
	"wsd/internal/wire"
)

// order has the shard carry an order out, and returns how many connections it changed.
func (r *rig) order(o *Order) int {
	r.t.Helper()
	done := make(chan int, 1)
	require.True(r.t, r.shard.PostOrder(o, func(changed int) { done <- changed }))
	if r.stepped {
		for len(done) == 0 {
			r.step()
		}
	}
	select {
	case n := <-done:
		return n
	case <-time.After(waitMax):
		require.Fail(r.t, "the order was not carried out")
		return 0
	}
}

// connOf returns the connection of a client by the reply to its connect command.
func connOf(t testing.TB, reply string) routing.ConnID {
	t.Helper()
	_, text, _ := strings.Cut(reply, `"client":"`)
	id, ok := routing.ParseClientID([]byte(text[:32]))
	require.True(t, ok, reply)
	conn, ok := testIDs.Conn(id)
	require.True(t, ok)
	return conn
}

func TestOrderDisconnect(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	one, _ := r.login("user=alice")
	two, reply := r.login("user=alice")
	raw := r.dial("/ws?channel=public.a&token=user=alice")
	_, text, _ := strings.Cut(reply, `"client":"`)
	other, otherReply := r.login("user=bob")

	require.Zero(t, r.order(&Order{Kind: OrderDisconnect, User: "nobody"}))
	require.Zero(t, r.order(&Order{Kind: OrderDisconnect}))
	require.Zero(t, r.order(&Order{Kind: OrderDisconnect, User: "alice", HasConn: true, Conn: connOf(t, otherReply)}),
		"another user's connection")
	require.Equal(t, 2, r.order(&Order{Kind: OrderDisconnect, User: "alice", Keep: []string{text[:32]}}))
	code, reason := one.closed()
	require.Equal(t, "3503 force disconnect", fmt.Sprint(code, " ", reason))
	code, reason = raw.closed()
	require.Equal(t, "1008 disconnected by the server", fmt.Sprint(code, " ", reason))
	require.Equal(t, 1, r.order(&Order{Kind: OrderDisconnect, User: "alice", Code: 4321, Text: "out"}))
	code, reason = two.closed()
	require.Equal(t, "4321 out", fmt.Sprint(code, " ", reason))
	require.Equal(t, 1, r.order(&Order{Kind: OrderDisconnect, HasConn: true, Conn: connOf(t, otherReply)}))
	other.closed()
	require.Zero(t, r.order(&Order{Kind: OrderDisconnect, HasConn: true, Conn: connOf(t, otherReply)}), "it has gone")
	eventually(t, "closes are counted", func() bool { return r.shard.Stats().Closed[ReasonOrder].Load() == 4 })
}

// Code 3000 ends a connection without a close frame: clients take that for a lost connection, and come back.
func TestOrderDisconnectSaysNothing(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	one, _ := r.login("user=alice")
	raw := r.dial("/ws?channel=public.a&token=user=alice")
	require.Equal(t, 2, r.order(&Order{Kind: OrderDisconnect, User: "alice", Code: 3000, Text: "test"}))
	for _, c := range []*client{one, raw} {
		_, _, err := c.next()
		require.ErrorIs(t, err, io.EOF)
	}
	eventually(t, "closes are counted", func() bool { return r.shard.Stats().Closed[ReasonOrder].Load() == 2 })
}

// What an order subscribes a client to, it gets from then on; the rules are not asked.
func TestOrderSubscribe(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	r.place.set("known", 41)
	c, _ := r.login("user=alice")
	require.Contains(t, c.ask(`{"id":2,"subscribe":{"channel":"known"}}`), denied)
	o := &Order{Kind: OrderSubscribe, User: "alice", Channel: "known", Data: []byte(`{"a":1}`), DataJSON: true}
	require.Equal(t, 1, r.order(o))
	require.JSONEq(t, `{"push":{"channel":"known","subscribe":{"epoch":"epoch","offset":41,"positioned":true,"data":{"a":1}}}}`,
		c.message(wire.EventText))
	require.Zero(t, r.order(o), "it has it")
	r.offset = 41
	r.publish("known", "1")
	require.Contains(t, c.message(wire.EventText), `"pub":{"data":1,"offset":42}`)
	require.Zero(t, r.order(&Order{Kind: OrderUnsubscribe, User: "alice", Channel: "other"}))
	require.Equal(t, 1, r.order(&Order{Kind: OrderUnsubscribe, User: "alice", Channel: "known"}))
	require.JSONEq(t, `{"push":{"channel":"known","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`,
		c.message(wire.EventText))

	for _, name := range []string{"a", "b"} {
		require.Equal(t, 1, r.order(&Order{Kind: OrderSubscribe, User: "alice", Channel: name, Data: []byte("\x01")}))
		require.JSONEq(t, `{"push":{"channel":"`+name+`","subscribe":{}}}`, c.message(wire.EventText), "data that is not JSON")
	}
	require.Equal(t, 1, r.order(&Order{Kind: OrderUnsubscribe, User: "alice"}), "from all channels")
	require.Contains(t, c.message(wire.EventText)+c.message(wire.EventText), `"unsubscribe"`)

	require.Zero(t, r.order(&Order{Kind: OrderSubscribe, User: "alice", Channel: strings.Repeat("x", 65)}))
	for n := range 9 {
		changed := r.order(&Order{Kind: OrderSubscribe, User: "alice", Channel: fmt.Sprint("c", n)})
		require.Equal(t, n < 8, changed == 1, "client.channels_max")
	}
	require.EqualValues(t, 2, r.shard.Stats().OrdersRefused.Load())

	raw := r.dial("/ws?channel=public.a&token=user=bob")
	require.Equal(t, 1, r.order(&Order{Kind: OrderSubscribe, User: "bob", Channel: "x"}))
	r.publish("x", "7")
	require.Equal(t, "7", raw.message(wire.EventText))
	require.Equal(t, 1, r.order(&Order{Kind: OrderUnsubscribe, User: "bob", Channel: "x"}))
	code, _ := raw.closed()
	require.EqualValues(t, 1008, code, "it cannot be told")
}

// Where clients have no identity, orders name one by its id.
func TestOrderForAnybody(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial(pathProtocol)
	c.send(ws.OpText, `{"id":1,"connect":{}}`)
	conn := connOf(t, c.message(wire.EventText))
	require.Equal(t, 1, r.order(&Order{Kind: OrderSubscribe, HasConn: true, Conn: conn, Channel: "x"}))
	require.Contains(t, c.message(wire.EventText), `"subscribe":{}`)
	require.Equal(t, 1, r.order(&Order{Kind: OrderRefresh, HasConn: true, Conn: conn, ExpireAt: time.Now().Add(time.Hour)}))
	require.Regexp(t, `^\{"push":\{"refresh":\{"expires":true,"ttl":3\d\d\d\}\}\}$`, c.message(wire.EventText))
	require.Equal(t, 1, r.order(&Order{Kind: OrderRefresh, HasConn: true, Conn: conn}))
	require.JSONEq(t, `{"push":{"refresh":{}}}`, c.message(wire.EventText))
	require.Equal(t, 1, r.order(&Order{Kind: OrderRefresh, HasConn: true, Conn: conn, Expired: true}))
	code, _ := c.closed()
	require.EqualValues(t, 3005, code)
}

// An order may say from where on a client gets the channel: all that came since follows the push, in order, and then
// what is live.
func TestOrderRecovers(t *testing.T) {
	p := newPastRig(t, withAuthority(&authority{}, func(o *Options) { o.Recovery.PublicationsMax = 1000 }))
	p.past.auto()
	p.numbers(1, 400)
	c := p.joinedBy("user=alice")
	o := &Order{Kind: OrderSubscribe, User: "alice", Channel: "a", Recover: true, Epoch: "epoch", Offset: 10}
	require.Equal(t, 1, p.order(o))
	var push string
	p.during(func() { push = c.message(wire.EventText) })
	require.JSONEq(t, `{"push":{"channel":"a","subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch","offset":10}}}`, push)
	p.numbers(400, 402)
	p.collect(c, "a", 11, 402)

	// A position that is not of this stream: it begins where that is.
	o = &Order{Kind: OrderSubscribe, User: "alice", Channel: "b", Recover: true, Epoch: "other", Offset: 1}
	p.place.set("b", 7)
	require.Equal(t, 1, p.order(o))
	p.during(func() {
		for push = "{}"; push == "{}"; push = c.message(wire.EventText) { // A ping.
		}
	})
	require.Contains(t, push, `"offset":7`)
}

// A client whose connect command waits for what it missed is disconnected all the same.
func TestOrderWhileJoining(t *testing.T) {
	p := newPastRig(t, withAuthority(&authority{}, nil))
	keep := p.joinedBy("user=keeper,server=a")
	p.numbers(1, 4)
	c := p.joining("user=alice,server=a", position("a", 1), 1)
	require.Zero(t, p.order(&Order{Kind: OrderUnsubscribe, User: "alice", Channel: "a"}))
	require.Equal(t, 1, p.order(&Order{Kind: OrderDisconnect, User: "alice"}))
	var code uint16
	p.during(func() { code, _ = c.closed() })
	require.EqualValues(t, 3503, code)
	p.past.answer(bus.ResultOK)
	p.step()
	_ = keep
}

// A user may have many connections: an order for them takes turns, and others wait for it.
func TestOrdersTakeTurns(t *testing.T) {
	r := newStepped(t, withAuthority(&authority{}, nil))
	const n = 2 * workPart / unitsEnd
	var clients []*client
	r.during(func() {
		for range n {
			c, _ := r.login("user=alice")
			clients = append(clients, c)
		}
	})
	changed, after := -1, -1
	require.True(t, r.shard.PostOrder(&Order{Kind: OrderDisconnect, User: "alice"}, func(n int) { changed = n }))
	require.True(t, r.shard.PostOrder(&Order{Kind: OrderDisconnect, User: "alice"}, func(n int) { after = n }))
	r.step()
	require.Equal(t, -1, changed)
	for after < 0 {
		r.step()
	}
	require.Equal(t, n, changed)
	require.Zero(t, after)
	require.Empty(t, r.shard.orders.queue)
	r.during(func() {
		for _, c := range clients {
			c.closed()
		}
	})
}

func TestOrdersBounded(t *testing.T) {
	r := newStepped(t, nil)
	done := 0
	for range ordersMax {
		require.True(t, r.shard.PostOrder(&Order{Kind: OrderDisconnect, User: "x"}, func(int) { done++ }))
	}
	require.False(t, r.shard.PostOrder(&Order{Kind: OrderDisconnect, User: "x"}, nil))
	for done < ordersMax {
		r.step()
	}
	require.True(t, r.shard.PostOrder(&Order{Kind: OrderDisconnect, User: "x"}, nil))
	r.step()
	require.Zero(t, r.shard.orders.count)
}

// A connect command may name channels: those that the client may have are subscribed to with it, and recovered.
func TestConnectSubs(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	c := r.dial(pathProtocol)
	reply := c.ask(`{"id":1,"connect":{"token":"user=alice,server=x","subs":{"public.a":{},"secret":{},"user.alice":{}}}}`)
	require.Contains(t, reply, `"public.a":{}`)
	require.Contains(t, reply, `"user.alice":{}`)
	require.Contains(t, reply, `"x":{}`)
	require.NotContains(t, reply, "secret")
	r.publish("public.a", "1")
	require.Contains(t, c.message(wire.EventText), `"channel":"public.a"`)

	p := newPastRig(t, nil) // Without identities.
	keep := p.joined("a")
	p.numbers(1, 4)
	p.during(func() { c = p.dial(pathProtocol) })
	c.send(ws.OpText, `{"id":1,"connect":{"subs":{"b":{},`+position("a", 1)+`}}}`)
	for len(p.past.waiting()) == 0 {
		p.step()
	}
	p.past.answer(bus.ResultOK)
	p.during(func() { reply = c.message(wire.EventText) })
	require.Contains(t, reply, `"recovered":true`)
	require.Contains(t, reply, `"publications":[{"data":2,"offset":2},{"data":3,"offset":3}]`)
	require.Contains(t, reply, `"b":{}`)
	_ = keep

	var over strings.Builder
	for n := range 9 {
		fmt.Fprintf(&over, `,"public.%d":{}`, n)
	}
	c = r.dial(pathProtocol)
	require.Contains(t, c.ask(`{"id":1,"connect":{"token":"user=alice","subs":{`+over.String()[1:]+`}}}`), `"code":106`)
}
