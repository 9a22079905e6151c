package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/proto"
	"wsd/internal/wire"
)

// fillCalls has c make as many calls as it may, and await them.
func (r *rig) fillCalls(a *application, c *client) {
	r.t.Helper()
	n := a.count()
	for i := range r.shard.opts.Calls.Max {
		c.send(ws.OpText, fmt.Sprintf(`{"id":%d,"rpc":{"method":"m"}}`, 100+i))
	}
	for a.count() < n+r.shard.opts.Calls.Max {
		r.step()
	}
}

// A client that its calls hold, for as long as it has some, is pinged like others, and its pong, which waits in its
// socket meanwhile, is not missed.
func TestHeldClientIsPinged(t *testing.T) {
	a := &application{}
	r := newStepped(t, withApplication(a, nil))
	var c *client
	r.during(func() { c, _ = r.login("user=alice") })
	r.fillCalls(a, c)
	k := r.shard.slab.get(0)
	require.Equal(t, inputHeld, k.input)
	due := func() {
		k.pingAt = r.shard.tick + 1
		r.shard.wheel.rearm(k)
		for at := r.shard.tick; r.shard.tick < at+4; {
			r.step()
		}
	}
	due()
	require.EqualValues(t, 1, k.pings)
	r.during(func() { require.Equal(t, "{}", c.message(wire.EventText)) })
	c.send(ws.OpText, "{}")
	due() // The pong is late, as far as the shard knows.
	require.True(t, k.isClient())
	a.give(0, &CallAnswer{Given: true})
	for k.pings > 0 {
		r.step()
		require.True(t, k.isClient())
	}
	r.during(func() { require.Equal(t, `{"id":100,"rpc":{}}`, c.message(wire.EventText)) })
}

// Calls do not keep a connection or subscription that has expired.
func TestHeldClientExpires(t *testing.T) {
	a := &application{}
	r := newStepped(t, withApplication(a, func(o *Options) { o.Auth.Grace = 0 }))
	var c *client
	r.during(func() { c, _ = r.login("user=alice,ttl=700ms") })
	r.fillCalls(a, c)
	require.Equal(t, inputHeld, r.shard.slab.get(0).input)
	r.during(func() {
		code, _ := c.closed()
		require.EqualValues(t, 3005, code)
	})
	require.Equal(t, r.shard.opts.Calls.Max, a.canceledCount())
	for i := range r.shard.opts.Calls.Max {
		a.give(i, &CallAnswer{Failed: true, Error: proto.ErrInternal})
	}
	for r.shard.inbox.expected > 0 {
		r.step()
	}
}

// An answer counts from when it is there, whatever it is for.
func TestAnswersOfTheBackendCount(t *testing.T) {
	a := &application{}
	r := newStepped(t, withApplication(a, nil))
	c := r.dialDuring()
	c.send(ws.OpText, `{"id":1,"connect":{"data":1}}`)
	for a.count() == 0 {
		r.step()
	}
	before := r.shard.opts.Memory.Used()
	data := []byte(`"` + strings.Repeat("x", 100_000) + `"`)
	a.give(0, &CallAnswer{Given: true, Data: data, Identity: &Identity{User: "carol", Data: data, Asked: true, Bytes: len(data)}})
	require.Greater(t, r.shard.opts.Memory.Used(), before+100_000)
	r.during(func() { require.Contains(t, c.message(wire.EventText), `"data":"xxx`) })
	c.send(ws.OpText, `{"id":2,"subscribe":{"channel":"ask.a"}}`)
	for a.count() == 1 {
		r.step()
	}
	before = r.shard.opts.Memory.Used()
	a.give(1, &CallAnswer{Given: true, Data: data, ExpireAt: time.Now().Add(time.Hour)})
	require.Greater(t, r.shard.opts.Memory.Used(), before+100_000)
	r.during(func() { require.Contains(t, c.message(wire.EventText), `"data":"xxx`) })
}

// dialDuring is dial for a rig that is stepped.
func (r *rig) dialDuring() (c *client) {
	r.t.Helper()
	r.during(func() { c = r.dial(pathProtocol) })
	return c
}

// The backend learns how many calls a client has, by which it shares what there is among clients.
func TestCallsSayHowManyAreAhead(t *testing.T) {
	a := &application{}
	r := newRig(t, withApplication(a, nil))
	c, _ := r.login("user=alice")
	for i := range 3 {
		c.send(ws.OpText, fmt.Sprintf(`{"id":%d,"rpc":{"method":"m"}}`, i+2))
		r.awaitCalls(a, i+1)
	}
	for i := range 3 {
		require.Equal(t, i, a.give(i, &CallAnswer{Given: true}).Ahead)
	}
}

// Clients without identity have their emulated fields in calls as well, each once.
func TestEmulatedFieldsOfAnybody(t *testing.T) {
	a := &application{}
	r := newStepped(t, withApplication(a, func(o *Options) { o.Auth = AuthOptions{} }))
	c := r.dialDuring()
	c.send(ws.OpText, `{"id":1,"connect":{"headers":{"x-token":"lower","X-Token":"upper","X-Other":"o","Cookie":"a\r\nX: b"}}}`+"\n"+`{"id":2,"rpc":{}}`)
	for a.count() == 0 {
		r.step()
	}
	require.Equal(t, "[[x-token upper]]", fmt.Sprint(a.give(0, &CallAnswer{Given: true}).Header))
	r.during(func() { require.Contains(t, c.message(wire.EventText), `"connect":{`) })
}

// An answer about a subscription that has ended meanwhile says nothing about the next one to the same channel, and one
// about a connection nothing when its client has another token.
func TestAnswersAboutWhatHasEnded(t *testing.T) {
	a := &application{}
	r := newStepped(t, withApplication(a, func(o *Options) { o.Calls.Serves[CallRefresh], o.Calls.Serves[CallSubRefresh] = true, true }))
	var c *client
	r.during(func() { c, _ = r.login("user=alice,ttl=1h") })
	calls := func(n int) {
		for deadline := time.Now().Add(waitMax); a.count() < n; r.step() {
			require.False(t, time.Now().After(deadline), "the backend is not asked")
		}
	}
	reply := func(want string) { r.during(func() { require.Equal(t, want, c.message(wire.EventText)) }) }
	c.send(ws.OpText, `{"id":2,"subscribe":{"channel":"ask.a"}}`)
	calls(1)
	a.give(0, &CallAnswer{Given: true, ExpireAt: time.Now().Add(200 * time.Millisecond)})
	reply(`{"id":2,"subscribe":{}}`)
	calls(2)
	c.send(ws.OpText, `{"id":3,"unsubscribe":{"channel":"ask.a"}}`)
	reply(`{"id":3,"unsubscribe":{}}`)
	c.send(ws.OpText, `{"id":4,"subscribe":{"channel":"ask.a"}}`)
	calls(3)
	a.give(2, &CallAnswer{Given: true, ExpireAt: time.Now().Add(time.Hour)})
	reply(`{"id":4,"subscribe":{}}`)
	require.Equal(t, CallSubRefresh, a.give(1, &CallAnswer{Given: true, Expired: true}).Kind)

	id := r.shard.identities.bySlot[0]
	id.ends = r.shard.asksAt(time.Now())
	r.shard.rescheduleEnd(r.shard.slab.get(0))
	calls(4)
	c.send(ws.OpText, `{"id":5,"refresh":{"token":"user=alice,ttl=1h"}}`)
	r.during(func() { require.Contains(t, c.message(wire.EventText), `{"id":5,"refresh":{`) })
	require.Equal(t, CallRefresh, a.give(3, &CallAnswer{Given: true, Expired: true}).Kind)
	for r.shard.inbox.expected > 0 {
		r.step()
	}
	c.send(ws.OpText, `{"id":6,"history":{"channel":"ask.a"}}`)
	r.during(func() { require.NotContains(t, c.message(wire.EventText), `"code":103`, "it is subscribed") })
}
