package shard

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A command that waits for its token counts in the account of memory, however long it is.
func TestHeldCommandIsAccounted(t *testing.T) {
	a := &authority{hold: true}
	r := newStepped(t, withAuthority(a, nil))
	var c *client
	r.during(func() { c = r.dial(pathProtocol) })
	c.send(ws.OpText, `{"id":1,"connect":{"token":"user=alice","data":"`+strings.Repeat("x", 20_000)+`"}}`)
	for a.waiting() == 0 {
		r.step()
	}
	require.Greater(t, r.shard.opts.Memory.Used(), int64(20_000))
	a.release()
	r.during(func() { require.Contains(t, c.message(wire.EventText), `"connect":{`) })
	require.Less(t, r.shard.opts.Memory.Used(), int64(2000))
}

// Clients of a TLS port show tokens like those of a plain one.
func TestTokensOverTLS(t *testing.T) {
	a := &authority{hold: true}
	r := newTLSRig(t, withAuthority(a, nil))
	c := r.dial(pathProtocol)
	c.send(ws.OpText, `{"id":1,"connect":{"token":"user=alice"}}`+"\n"+`{"id":2,"subscribe":{"channel":"public.a"}}`)
	raw := r.open()
	raw.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=public.a", "wsd.raw, wsd.token.user~alice", testKey))
	raw.send(ws.OpPing, "early")
	ended := r.open()
	ended.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=public.a&token=user=alice", "", testKey))
	late := r.dial(pathProtocol)
	late.send(ws.OpText, `{"id":1,"connect":{"token":"user=alice"}}`)
	eventually(t, "the tokens are being verified", func() bool { return a.waiting() == 4 })
	for _, gone := range []*client{ended, late} {
		require.NoError(t, gone.conn.Close())
	}
	a.release()
	require.Contains(t, c.message(wire.EventText), `{"id":1,"connect":{`)
	require.Equal(t, `{"id":2,"subscribe":{}}`, c.message(wire.EventText))
	status, body := raw.response()
	require.Equal(t, 101, status, body)
	require.Equal(t, "early", raw.message(wire.EventPong))
	r.publish("public.a", "1")
	require.Equal(t, "1", raw.message(wire.EventText))
	require.Contains(t, c.message(wire.EventText), `"data":1`)
	eventually(t, "those that ended are gone", func() bool { return r.shard.Stats().Connections.Load() == 2 })
}

// A client that has said its end by TLS behind its token is noticed when that was verified, although its socket is open
// and has nothing more.
func TestHeldByTLSEnds(t *testing.T) {
	a := &authority{hold: true}
	r := newStepped(t, withAuthority(a, func(o *Options) { o.TLS.Handshakes = newHandshakes(t) }))
	var c *client
	r.during(func() { c = r.dial(pathProtocol) })
	c.send(ws.OpText, `{"id":1,"connect":{"token":"user=alice"}}`)
	require.NoError(t, c.conn.(*tls.Conn).CloseWrite())
	for a.waiting() == 0 {
		r.step()
	}
	a.release()
	for waits := time.Now().Add(waitMax); r.shard.connections > 0; {
		require.True(t, time.Now().Before(waits), "the end is not noticed")
		r.step()
	}
}

// A client that shows a token and exceeds a limit in what came with its connection is closed for the limit, although its
// socket is not watched yet.
func TestHeldWhileAccepted(t *testing.T) {
	notByTLS(t, manyReads)
	a := &authority{hold: true}
	r := newStepped(t, withAuthority(a, func(o *Options) { o.Limits.Rates[RateCommands] = RateLimit{PerSecond: 1} }))
	c := r.openPlain()
	c.write(wire.AppendClientHandshake(nil, r.address, pathProtocol, "", testKey))
	c.send(ws.OpText, `{"id":1,"connect":{"token":"user=alice","data":"`+strings.Repeat("x", 64_000)+`"}}`)
	r.during(func() {
		status, body := c.response()
		require.Equal(t, 101, status, body)
		code, reason := c.closed()
		require.EqualValues(t, 3013, code, reason)
	})
	a.release()
	r.step()
}

// Users that have gone leave no memory behind, and neither do identities.
func TestUsersGiveMemoryBack(t *testing.T) {
	const many = 50_000
	s := bareChannels()
	empty := heap()
	list := fill(s, many)
	for i, c := range list {
		id := s.identities.of(c)
		s.identities.set(id, &Identity{User: fmt.Sprint("user", i)})
		s.opts.Quotas.users.add(id.who.User, 1)
		id.counted = true
	}
	full := heap() - empty
	for _, c := range list {
		s.forgetIdentity(c)
	}
	clear(list)
	s.laterShrink()
	require.Zero(t, s.opts.Quotas.users.len())
	require.Zero(t, s.identities.bytes)
	require.Less(t, s.opts.Quotas.users.peak, 1024, "the map was made anew")
	require.Less(t, s.peaks.identified, 1024)
	require.Less(t, heap()-empty, full)
}
