package shard

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/proto"
	"wsd/internal/wire"
)

// application is a Backend whose answers wait until they are given.
type application struct {
	mu       sync.Mutex
	calls    []*Call
	answers  []func(*CallAnswer)
	canceled map[int]bool
	answer   func(k *Call) *CallAnswer // Gives answers at once; nil results wait.
}

func (a *application) Call(k *Call, answer func(*CallAnswer)) func() {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.calls)
	a.calls, a.answers = append(a.calls, k), append(a.answers, answer)
	if a.answer != nil {
		if got := a.answer(k); got != nil {
			go answer(got)
		}
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.canceled == nil {
			a.canceled = make(map[int]bool)
		}
		a.canceled[n] = true
	}
}

func (*application) Decides(channel string) bool { return strings.HasPrefix(channel, "ask.") }

func (a *application) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.calls)
}

// give answers the call with a number, and returns it.
func (a *application) give(n int, answer *CallAnswer) *Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[n](answer)
	return a.calls[n]
}

func (a *application) canceledCount() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.canceled)
}

func withApplication(a *application, change func(*Options)) func(*Options) {
	return func(o *Options) {
		o.Auth = AuthOptions{Authority: &authority{}, Grace: 25 * time.Second}
		o.Calls = CallOptions{
			Backend: a, Serves: [CallKinds]bool{CallConnect: true, CallSubscribe: true, CallRPC: true, CallSend: true},
			Max: 3, Headers: []string{"cookie"}, Emulated: []string{"x-token", "cookie"},
		}
		if change != nil {
			change(o)
		}
	}
}

func (r *rig) awaitCalls(a *application, n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d calls", n), func() bool { return a.count() == n })
}

func TestRPC(t *testing.T) {
	a := &application{}
	r := newRig(t, withApplication(a, nil))
	c, _ := r.login("user=alice")
	c.send(ws.OpText, `{"id":2,"rpc":{"method":"sum","data":{"a":[1,2]}}}`+"\n"+`{"id":3,"rpc":{"method":"fail"}}`)
	r.awaitCalls(a, 2)
	a.give(1, &CallAnswer{Error: &proto.Error{Code: 1000, Message: "no"}})
	require.Equal(t, `{"id":3,"error":{"code":1000,"message":"no"}}`, c.message(wire.EventText))
	k := a.give(0, &CallAnswer{Given: true, Data: []byte(`{"sum":3}`)})
	require.Equal(t, `{"id":2,"rpc":{"data":{"sum":3}}}`, c.message(wire.EventText), "replies come as the answers do")
	require.Equal(t, "alice", k.User)
	require.Equal(t, "sum", k.Method)
	require.Equal(t, `{"a":[1,2]}`, string(k.Data))
	require.Len(t, k.Client, 32)
	require.False(t, k.Binary)
	c.send(ws.OpText, `{"id":4,"rpc":{"method":"bye"}}`)
	r.awaitCalls(a, 3)
	a.give(2, &CallAnswer{Disconnect: &proto.Disconnect{Code: 4501, Reason: "enough"}})
	code, reason := c.closed()
	require.EqualValues(t, 4501, code)
	require.Equal(t, "enough", reason)
	eventually(t, "it is counted", func() bool { return r.reason(ReasonBackend) == 1 })
}

// A backend's code 3000 says nothing about why: there is no close frame.
func TestBackendDisconnectSaysNothing(t *testing.T) {
	a := &application{}
	r := newRig(t, withApplication(a, nil))
	c, _ := r.login("user=alice")
	c.send(ws.OpText, `{"id":2,"rpc":{"method":"bye"}}`)
	r.awaitCalls(a, 1)
	a.give(0, &CallAnswer{Disconnect: &proto.Disconnect{Code: 3000, Reason: "x"}})
	_, _, err := c.next()
	require.ErrorIs(t, err, io.EOF)
	eventually(t, "it is counted", func() bool { return r.reason(ReasonBackend) == 1 })
}

func TestRPCNotServed(t *testing.T) {
	r := newRig(t, nil)
	c := r.join("a")
	require.Equal(t, `{"id":2,"error":{"code":108,"message":"not available"}}`, c.ask(`{"id":2,"rpc":{"method":"m"}}`))
	c.send(ws.OpText, `{"send":{"data":1}}`)
	code, _ := c.closed()
	require.EqualValues(t, 3508, code)
	ignoring := newRig(t, func(o *Options) { o.Calls.IgnoreSend = true })
	c = ignoring.join("a")
	c.send(ws.OpText, `{"send":{"data":1}}`)
	require.Contains(t, c.ask(`{"id":2,"rpc":{"method":"m"}}`), `"code":108`)
	require.EqualValues(t, 1, ignoring.shard.Stats().Sends[SendIgnored].Load())
}

func TestSend(t *testing.T) {
	a := &application{}
	r := newRig(t, withApplication(a, nil))
	c, _ := r.login("user=alice")
	c.send(ws.OpText, `{"send":{"data":{"n":1}}}`+"\n"+`{"send":{"data":2}}`)
	r.awaitCalls(a, 2)
	require.Equal(t, `{"n":1}`, string(a.give(0, &CallAnswer{Given: true}).Data))
	a.give(1, &CallAnswer{Failed: true, Error: proto.ErrInternal})
	sends := &r.shard.Stats().Sends
	eventually(t, "they are counted", func() bool { return sends[SendTaken].Load() == 1 && sends[SendFailed].Load() == 1 })
	c.send(ws.OpText, `{"send":{"data":3}}`)
	r.awaitCalls(a, 3)
	a.give(2, &CallAnswer{Disconnect: &proto.Disconnect{Code: 3500, Reason: "x"}})
	code, _ := c.closed()
	require.EqualValues(t, 3500, code)
}

// A client that has as many calls under way as it may is not read from until one has ended, in order.
func TestCallsOfAClientAreBounded(t *testing.T) {
	a := &application{}
	r := newRig(t, withApplication(a, nil))
	c, _ := r.login("user=alice")
	var commands []string
	for i := range 5 {
		commands = append(commands, fmt.Sprintf(`{"id":%d,"rpc":{"method":"m%d"}}`, i+2, i))
	}
	c.send(ws.OpText, strings.Join(commands, "\n"))
	c.send(ws.OpText, `{"id":9,"subscribe":{"channel":"public.a"}}`)
	r.awaitCalls(a, 3)
	other, _ := r.login("user=bob")
	require.Equal(t, `{"id":2,"subscribe":{}}`, other.ask(`{"id":2,"subscribe":{"channel":"public.a"}}`), "others go on")
	require.Equal(t, 3, a.count())
	a.give(1, &CallAnswer{Given: true})
	require.Equal(t, `{"id":3,"rpc":{}}`, c.message(wire.EventText))
	r.awaitCalls(a, 4)
	a.give(0, &CallAnswer{Given: true})
	require.Equal(t, `{"id":2,"rpc":{}}`, c.message(wire.EventText))
	r.awaitCalls(a, 5)
	a.give(4, &CallAnswer{Given: true})
	require.Equal(t, `{"id":6,"rpc":{}}`, c.message(wire.EventText))
	require.Equal(t, `{"id":9,"subscribe":{}}`, c.message(wire.EventText))
	require.Equal(t, "m3", a.give(3, &CallAnswer{Given: true}).Method)
	require.Equal(t, `{"id":5,"rpc":{}}`, c.message(wire.EventText))
	a.give(2, &CallAnswer{Given: true})
	require.Equal(t, `{"id":4,"rpc":{}}`, c.message(wire.EventText))
}

// Sums are checked after every step while calls are under way, and a connection that ends cancels its own.
func TestCallsOfAConnectionThatEnds(t *testing.T) {
	a := &application{}
	r := newStepped(t, withApplication(a, nil))
	var c *client
	r.during(func() { c, _ = r.login("user=alice") })
	for i := range 3 {
		c.send(ws.OpText, fmt.Sprintf(`{"id":%d,"rpc":{"method":"m","data":"%s"}}`, i+2, strings.Repeat("x", 5000)))
		for a.count() <= i {
			r.step()
		}
	}
	require.Greater(t, r.shard.calls.bytes, int64(15_000))
	require.NoError(t, c.conn.Close())
	// A held connection's end is seen when it is read from again; one call ends.
	a.give(0, &CallAnswer{Given: true, Data: []byte(`1`)})
	for r.shard.connections > 0 {
		r.step()
	}
	require.Equal(t, 2, a.canceledCount())
	require.Zero(t, r.shard.calls.bytes)
	require.Equal(t, 2, r.shard.inbox.expected)
	for i := range 2 {
		a.give(i+1, &CallAnswer{Failed: true, Error: proto.ErrInternal})
	}
	for r.shard.inbox.expected > 0 {
		r.step()
	}
}

func TestConnectAsked(t *testing.T) {
	a := &application{}
	r := newRig(t, withApplication(a, nil))
	connect := func(answer *CallAnswer) (*client, *Call) {
		n := a.count()
		c := r.dial(pathProtocol)
		c.send(ws.OpText, `{"id":1,"connect":{"name":"js","version":"5","data":{"d":1},"headers":{"X-Token":"t","X-Other":"o"},"subs":{"public.x":{}}}}`+"\n"+
			`{"id":2,"subscribe":{"channel":"user.carol"}}`)
		r.awaitCalls(a, n+1)
		return c, a.give(n, answer)
	}
	who := &Identity{User: "carol", Meta: []byte(`{"m":1}`), Data: []byte(`{"hello":true}`), Channels: []string{"s"},
		SubData: map[string][]byte{"s": []byte(`"sub"`)}, Asked: true, ExpireAt: time.Now().Add(time.Hour), Bytes: 100}
	c, k := connect(&CallAnswer{Given: true, Identity: who})
	reply := c.message(wire.EventText)
	require.Contains(t, reply, `"data":{"hello":true}`)
	require.Contains(t, reply, `"s":{"data":"sub"}`)
	require.NotContains(t, reply, "expires", "no token of the client could extend it")
	require.Equal(t, `{"id":2,"subscribe":{}}`, c.message(wire.EventText))
	require.Equal(t, []string{"js", "5", `{"d":1}`, "public.x", "[[x-token t]]"},
		[]string{k.Name, k.Version, string(k.Data), strings.Join(k.Channels, ","), fmt.Sprint(k.Header)})
	c.send(ws.OpText, `{"id":3,"rpc":{"method":"m"}}`)
	r.awaitCalls(a, 2)
	k = a.give(1, &CallAnswer{Given: true})
	require.Equal(t, `{"m":1}`, string(k.Meta))
	require.Equal(t, "carol", k.User)
	require.Equal(t, "[[x-token t]]", fmt.Sprint(k.Header), "later calls have it, too")
	c.message(wire.EventText)

	for want, answer := range map[string]*CallAnswer{
		`{"id":1,"error":{"code":1001,"message":"banned"}}`:                                {Error: &proto.Error{Code: 1001, Message: "banned"}},
		`{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}`: {Failed: true, Error: proto.ErrInternal},
		`{"id":1,"error":{"code":101,"message":"unauthorized"}}`:                           {},
		`{"id":1,"error":{"code":110,"message":"expired"}}`:                                {Given: true, Identity: &Identity{User: "x", ExpireAt: time.Now().Add(-time.Second)}},
	} {
		c, _ := connect(answer)
		require.Equal(t, want, c.message(wire.EventText))
		code, _ := c.closed()
		require.EqualValues(t, 3501, code, "what follows a refusal ends it")
	}
	c, _ = connect(&CallAnswer{Disconnect: &proto.Disconnect{Code: 4100, Reason: "x"}})
	code, _ := c.closed()
	require.EqualValues(t, 4100, code)
	c, reply = r.login("user=alice")
	require.Contains(t, reply, `"connect":{`, "a token is verified here")
	_ = c
}

func TestRawAsked(t *testing.T) {
	a := &application{}
	r := newRig(t, withApplication(a, nil))
	try := func(answer *CallAnswer) (*client, int, string) {
		n := a.count()
		c := r.open()
		head := string(wire.AppendClientHandshake(nil, r.address, "/ws?channel=user.carol", "", testKey))
		c.write([]byte(strings.TrimSuffix(head, "\r\n") + "Cookie: a=b\r\n\r\n"))
		r.awaitCalls(a, n+1)
		k := a.give(n, answer)
		require.Equal(t, [][2]string{{"cookie", "a=b"}}, k.Header)
		status, body := c.response()
		return c, status, body
	}
	c, status, _ := try(&CallAnswer{Given: true, Identity: &Identity{User: "carol", Asked: true}})
	require.Equal(t, 101, status)
	r.publish("user.carol", "1")
	require.Equal(t, "1", c.message(wire.EventText))
	_, status, _ = try(&CallAnswer{Given: true, Identity: &Identity{User: "dave", Asked: true}})
	require.Equal(t, 403, status)
	_, status, body := try(&CallAnswer{Error: &proto.Error{Code: 1000}})
	require.Equal(t, 403, status)
	require.Contains(t, body, "The application refuses")
	_, status, body = try(&CallAnswer{Failed: true, Error: proto.ErrInternal})
	require.Equal(t, 503, status)
	require.Contains(t, body, "The application that knows its clients does not answer")
}

func TestSubscribeAsked(t *testing.T) {
	a := &application{}
	r := newRig(t, withApplication(a, func(o *Options) { o.Calls.Max = 10 }))
	c, _ := r.login("user=alice")
	subscribe := func(id int, channel string) {
		c.send(ws.OpText, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q,"data":{"d":1},"token":"t"}}`, id, channel))
	}
	subscribe(2, "ask.a")
	subscribe(3, "ask.b")
	r.awaitCalls(a, 2)
	require.Equal(t, `{"id":4,"error":{"code":105,"message":"already subscribed"}}`, c.ask(`{"id":4,"subscribe":{"channel":"ask.a"}}`))
	r.publish("ask.a", "0")
	a.give(1, &CallAnswer{Error: proto.ErrPermissionDenied})
	require.Equal(t, `{"id":3,`+denied+`}`, c.message(wire.EventText), "nothing came before")
	k := a.give(0, &CallAnswer{Given: true, Data: []byte(`{"s":1}`), ExpireAt: time.Now().Add(time.Hour)})
	require.Equal(t, `{"id":2,"subscribe":{"data":{"s":1}}}`, c.message(wire.EventText))
	require.Equal(t, []string{"alice", "ask.a", `{"d":1}`, "t"}, []string{k.User, k.Channel, string(k.Data), k.Token})
	r.publish("ask.a", "1")
	require.Contains(t, c.message(wire.EventText), `"data":1`)

	subscribe(5, "ask.c")
	r.awaitCalls(a, 3)
	c.send(ws.OpText, `{"id":6,"unsubscribe":{"channel":"ask.c"}}`)
	require.Equal(t, `{"id":5,"error":{"code":100,"message":"unsubscribed meanwhile","temporary":true}}`, c.message(wire.EventText))
	require.Equal(t, `{"id":6,"unsubscribe":{}}`, c.message(wire.EventText))
	require.Equal(t, 1, a.canceledCount())
	a.give(2, &CallAnswer{Given: true})
	r.publish("ask.c", "1")
	require.Equal(t, `{"id":7,`+denied+`}`, c.ask(`{"id":7,"history":{"channel":"ask.c"}}`), "it is not subscribed")

	subscribe(8, "ask.d")
	r.awaitCalls(a, 4)
	a.give(3, &CallAnswer{Given: true, ExpireAt: time.Now().Add(-time.Second)})
	require.Equal(t, `{"id":8,"error":{"code":110,"message":"expired"}}`, c.message(wire.EventText))
	subscribe(9, "ask.e")
	r.awaitCalls(a, 5)
	a.give(4, &CallAnswer{Disconnect: &proto.Disconnect{Code: 4000, Reason: "x"}})
	code, _ := c.closed()
	require.EqualValues(t, 4000, code)
}

// A connection or subscription that expires goes on if the backend says so, and for a while if it says nothing.
func TestRefreshAsked(t *testing.T) {
	a := &application{}
	r := newStepped(t, withApplication(a, func(o *Options) { o.Calls.Serves[CallRefresh], o.Calls.Serves[CallSubRefresh] = true, true }))
	var c *client
	var reply string
	until := func(what string, cond func() bool) {
		t.Helper()
		for deadline := time.Now().Add(waitMax); !cond(); {
			require.False(t, time.Now().After(deadline), what)
			r.step()
		}
	}
	r.during(func() { c, reply = r.login("user=alice,ttl=300ms") })
	require.NotContains(t, reply, "expires", "the server refreshes it")
	until("it is asked", func() bool { return a.count() == 1 })
	a.give(0, &CallAnswer{Failed: true, Error: proto.ErrInternal})
	until("the answer came", func() bool { return r.shard.inbox.expected == 0 })
	id := r.shard.identities.bySlot[0]
	require.WithinDuration(t, time.Now().Add(refreshAgain), id.ends.at, 5*time.Second)
	id.ends = r.shard.asksAt(time.Now())
	r.shard.rescheduleEnd(r.shard.slab.get(0))
	until("it is asked again", func() bool { return a.count() == 2 })
	k := a.give(1, &CallAnswer{Given: true, Identity: &Identity{ExpireAt: time.Now().Add(time.Hour), Meta: []byte(`"new"`)}})
	require.Equal(t, CallRefresh, k.Kind)
	until("the answer came", func() bool { return r.shard.inbox.expected == 0 })
	require.Equal(t, `"new"`, string(id.who.Meta))
	require.Equal(t, "alice", id.who.User)

	c.send(ws.OpText, `{"id":2,"subscribe":{"channel":"ask.a"}}`)
	until("it asks", func() bool { return a.count() == 3 })
	a.give(2, &CallAnswer{Given: true, ExpireAt: time.Now().Add(200 * time.Millisecond)})
	r.during(func() { require.Equal(t, `{"id":2,"subscribe":{}}`, c.message(wire.EventText)) })
	until("the subscription is asked for", func() bool { return a.count() == 4 })
	k = a.give(3, &CallAnswer{Given: true, ExpireAt: time.Now().Add(200 * time.Millisecond)})
	require.Equal(t, CallSubRefresh, k.Kind)
	require.Equal(t, "ask.a", k.Channel)
	until("once more", func() bool { return a.count() == 5 })
	a.give(4, &CallAnswer{Given: true, Expired: true})
	r.during(func() {
		require.Equal(t, `{"push":{"channel":"ask.a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`, c.message(wire.EventText))
	})
	id.ends = r.shard.asksAt(time.Now())
	r.shard.rescheduleEnd(r.shard.slab.get(0))
	until("it is asked again", func() bool { return a.count() == 6 })
	a.give(5, &CallAnswer{})
	r.during(func() {
		code, _ := c.closed()
		require.EqualValues(t, 3005, code)
	})
}

// Calls and connections come and go in any order, and nothing is left behind.
func TestCallsChurn(t *testing.T) {
	a := &application{answer: func(k *Call) *CallAnswer {
		switch len(k.Method) % 4 {
		case 0:
			return &CallAnswer{Given: true, Data: []byte(`"` + strings.Repeat("y", 2000) + `"`), Identity: &Identity{User: "u"}}
		case 1:
			return &CallAnswer{Error: proto.ErrPermissionDenied}
		case 2:
			return &CallAnswer{Disconnect: &proto.Disconnect{Code: 4000}}
		default:
			return nil // Until it is canceled, or the end.
		}
	}}
	r := newRig(t, withApplication(a, nil))
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 15 {
				c := r.dial(pathProtocol)
				c.send(ws.OpText, `{"id":1,"connect":{}}`+"\n"+fmt.Sprintf(`{"id":2,"rpc":{"method":"%s"}}`, strings.Repeat("m", i%5))+"\n"+
					`{"id":3,"subscribe":{"channel":"ask.a"}}`+"\n"+`{"id":4,"unsubscribe":{"channel":"ask.a"}}`+"\n"+`{"send":{"data":1}}`)
				if (i+n)%3 == 0 {
					c.message(wire.EventText)
				}
				c.conn.Close()
			}
		})
	}
	all.Wait()
	eventually(t, "they are gone", func() bool { return r.shard.Stats().Connections.Load() == 0 })
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, k := range a.calls {
		if len(k.Method)%4 == 3 {
			a.answers[i](&CallAnswer{Failed: true, Error: proto.ErrInternal})
		}
	}
}
