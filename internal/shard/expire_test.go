package shard

import (
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

func shortGrace(o *Options) { o.Auth.Grace = 200 * time.Millisecond }

// A connection whose token expires is closed after the grace, unless another token came.
func TestConnectionExpires(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, shortGrace))
	kept, _ := r.login("user=alice,ttl=300ms")
	require.Regexp(t, `^\{"id":2,"refresh":\{"client":"[0-9a-f]{32}","version":"test","expires":true,"ttl":\d+\}\}$`,
		kept.ask(`{"id":2,"refresh":{"token":"user=alice,ttl=1h"}}`))
	c, reply := r.login("user=alice,ttl=300ms")
	require.Contains(t, reply, `"expires":true,"ttl":1`)
	raw := r.dial("/ws?channel=public.a&token=user=alice,ttl=300ms")
	code, reason := c.closed()
	require.EqualValues(t, 3005, code)
	require.Equal(t, "connection expired", reason)
	code, _ = raw.closed()
	require.EqualValues(t, 1008, code)
	require.Contains(t, kept.ask(`{"id":3,"subscribe":{"channel":"public.a"}}`), `"subscribe":{}`)
	require.Contains(t, kept.ask(`{"id":4,"refresh":{"token":"user=alice"}}`), `"version":"test"}}`, "it never expires now")
	eventually(t, "both are counted", func() bool { return r.reason(ReasonExpired) == 2 })
}

func TestRefreshRefused(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	for token, want := range map[string]uint16{"bad": 3500, "user=bob": 3500, "user=alice,channel=$a": 3500, "old": 3005, "": 3501} {
		c, _ := r.login("user=alice,ttl=1h")
		c.send(ws.OpText, `{"id":2,"refresh":{"token":"`+token+`"}}`)
		code, _ := c.closed()
		require.Equal(t, want, code, token)
	}
	c, _ := r.login("user=alice,ttl=1h")
	require.Equal(t, `{"id":2,`+tooMany+`}`, c.ask(`{"id":2,"refresh":{"token":"busy"}}`))
	require.Contains(t, c.ask(`{"id":2,"refresh":{"token":"user=alice"}}`), `"refresh"`)
}

// A token without the claim by which a client had a channel ends the subscription.
func TestRefreshRevokes(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	c, _ := r.login("user=alice,list=team.a+team.b")
	for _, command := range []string{
		`{"id":2,"subscribe":{"channel":"team.a"}}`, `{"id":2,"subscribe":{"channel":"team.b"}}`, `{"id":2,"subscribe":{"channel":"public.a"}}`,
		`{"id":2,"subscribe":{"channel":"$a","token":"user=alice,channel=$a"}}`,
	} {
		require.Equal(t, `{"id":2,"subscribe":{}}`, c.ask(command))
	}
	require.Contains(t, c.ask(`{"id":3,"refresh":{"token":"user=alice,list=team.b"}}`), `"refresh":{`)
	require.Equal(t, `{"push":{"channel":"team.a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`, c.message(wire.EventText))
	require.Equal(t, `{"id":4,"unsubscribe":{}}`, c.ask(`{"id":4,"unsubscribe":{"channel":"$a"}}`))
	require.EqualValues(t, 2, r.shard.Stats().Subscriptions.Load())
}

// A subscription whose token expires ends after the grace with 2501, unless another token came. The connection goes on.
func TestSubscriptionExpires(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, shortGrace))
	c, _ := r.login("user=alice")
	require.Equal(t, `{"id":2,"subscribe":{"expires":true,"ttl":1}}`,
		c.ask(`{"id":2,"subscribe":{"channel":"$kept","token":"user=alice,channel=$kept,ttl=300ms"}}`))
	require.Regexp(t, `^\{"id":3,"sub_refresh":\{"expires":true,"ttl":3\d{3}\}\}$`,
		c.ask(`{"id":3,"sub_refresh":{"channel":"$kept","token":"user=alice,channel=$kept,ttl=1h"}}`))
	for token, want := range map[string]string{
		"bad": denied, "user=bob,channel=$kept": denied, "user=alice,channel=$other": denied, "": denied, "busy": tooMany,
	} {
		require.Equal(t, `{"id":3,`+want+`}`, c.ask(`{"id":3,"sub_refresh":{"channel":"$kept","token":"`+token+`"}}`), token)
	}
	require.Equal(t, `{"id":4,"subscribe":{}}`, c.ask(`{"id":4,"subscribe":{"channel":"$old","token":"user=alice,channel=$old"}}`))
	require.Equal(t, `{"push":{"channel":"$old","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`+"\n"+`{"id":4,`+tokenExpired+`}`,
		c.ask(`{"id":4,"sub_refresh":{"channel":"$old","token":"old"}}`))
	require.Equal(t, `{"id":4,"subscribe":{"expires":true,"ttl":1}}`,
		c.ask(`{"id":4,"subscribe":{"channel":"$lost","token":"user=alice,channel=$lost,ttl=300ms"}}`))
	require.Equal(t, `{"push":{"channel":"$lost","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`, c.message(wire.EventText))
	require.Equal(t, `{"id":5,`+denied+`}`, c.ask(`{"id":5,"history":{"channel":"$lost"}}`))
	r.publish("$kept", "1")
	require.Contains(t, c.message(wire.EventText), `"data":1`)
}

// Ends and refreshes of what expires together are spread.
func TestExpiryIsSpread(t *testing.T) {
	r := newStepped(t, withAuthority(&authority{}, nil))
	at := time.Now().Add(time.Hour)
	ends, ttls := map[uint32]bool{}, map[uint32]bool{}
	for range 1000 {
		e := r.shard.expiresAt(at)
		ends[e.end] = true
		require.LessOrEqual(t, e.end, r.shard.endTick(at.Add(25*time.Second)))
		require.Greater(t, e.end, r.shard.endTick(at.Add(18*time.Second)))
		ttl := ttlOf(at)
		ttls[ttl] = true
		require.True(t, ttl > 3600*9/10-2 && ttl <= 3600, ttl)
	}
	require.Greater(t, len(ends), 50)
	require.Greater(t, len(ttls), 200)
	require.EqualValues(t, ttlMax, ttlOf(time.Now().Add(24*365*20*time.Hour)), "what timers of JavaScript can count")
	far := r.shard.expiresAt(time.Now().Add(24 * 365 * 20 * time.Hour))
	require.Less(t, far.end, uint32(1<<31))
	far.end = 1
	r.shard.tick = max(r.shard.tick, 1)
	require.False(t, r.shard.expired(&far), "it is looked at again later")
	require.Greater(t, far.end, uint32(1<<29))
}
