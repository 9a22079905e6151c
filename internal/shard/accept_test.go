package shard

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A turn takes one connection, but all that it may behind a long turn, and where epoll cannot tell everything at once.
func TestAcceptsByNeed(t *testing.T) {
	r := newStepped(t, nil)
	stats := r.shard.Stats()
	for range 3*acceptsPerTurn + 2 {
		c, err := net.Dial("tcp", r.address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
	}
	accepted := func(do func()) uint64 {
		was := stats.Accepted.Load()
		do()
		return stats.Accepted.Load() - was
	}
	step := func(before uint64) uint64 { // before: nanoseconds of the turn before.
		return accepted(func() {
			r.shard.lastTurn = before
			r.step()
		})
	}
	require.EqualValues(t, 1, step(0))
	require.EqualValues(t, 1, step(uint64(longTurn)-1))
	require.EqualValues(t, acceptsPerTurn, step(uint64(longTurn)))
	r.shard.lastTurn = 0
	require.EqualValues(t, acceptsPerTurn, accepted(func() { r.shard.acceptReady(0, true) }))
	require.EqualValues(t, 1, accepted(func() { r.shard.acceptReady(0, false) }))
	require.EqualValues(t, acceptsPerTurn-1, step(uint64(longTurn)), "there are no more")
	require.Zero(t, step(0))
}

// A request that came with its connection, and the commands behind it, are answered in the turn that accepts.
func TestReadsWhatItAccepts(t *testing.T) {
	notByTLS(t, manyReads)
	const timeout = 50 * time.Millisecond
	r := newStepped(t, func(o *Options) { o.Limits.HandshakeTimeout = timeout })
	c := r.open()
	c.write(append(wire.AppendClientHandshake(nil, r.address, pathProtocol, "", testKey), wire.AppendMasked(nil, ws.OpText, []byte(`{"id":1,"connect":{}}`), [4]byte{})...))
	r.step()
	status, _ := c.response()
	require.Equal(t, http.StatusSwitchingProtocols, status)
	require.Contains(t, c.message(wire.EventText), `{"id":1,"connect":{`)

	// It is watched from then on, and the time for its handshake is over.
	for until := time.Now().Add(2 * timeout); time.Now().Before(until); {
		r.step()
	}
	c.write(wire.AppendMasked(nil, ws.OpText, []byte(`{"id":2,"rpc":{}}`), [4]byte{}))
	r.step()
	require.Contains(t, c.message(wire.EventText), `{"id":2,"error":{"code":108,"message":"not available"}}`)
}

// Whoever is gone before the turn that accepts is counted once, and leaves nothing.
func TestAcceptsTheGone(t *testing.T) {
	var logged bytes.Buffer
	r := newStepped(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	stats := r.shard.Stats()
	require.NoError(t, r.open().conn.Close())
	r.step()
	require.EqualValues(t, 1, stats.Accepted.Load())
	require.EqualValues(t, 1, r.reason(ReasonGone))
	require.Zero(t, stats.Connections.Load())
	require.Zero(t, r.shard.slab.slots.used[0])
	r.step()
	require.EqualValues(t, 1, r.reason(ReasonGone))
	require.Empty(t, logged.String(), "a descriptor that is closed may be somebody else's: it is not watched")
}

// A client that is slow in its first read already ends with the part of the turn that accepts it, also behind a pause.
func TestAcceptsTheSlow(t *testing.T) {
	notByTLS(t, manyReads)
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax = 100 })
	command := func(json string) []byte { return wire.AppendMasked(nil, ws.OpText, []byte(json), [4]byte{}) }
	c := r.open()
	c.write(slices.Concat(wire.AppendClientHandshake(nil, r.address, pathProtocol, "", testKey), command(`{"id":1,"connect":{}}`),
		bytes.Repeat(command(`{"id":2,"rpc":{}}`), 20)))
	r.shard.resumeAccepting()
	require.EqualValues(t, 1, r.shard.stats.Slow[PolicyDisconnect].Load())
	r.step()
	require.Empty(t, r.shard.outlet.failed)
	require.Equal(t, stateClosing, r.shard.slab.get(0).state)
}

// BenchmarkAcceptTurn is how long a turn takes that accepts as many clients as it may, each with its request: by so much
// a ramp of clients delays those who are connected.
func BenchmarkAcceptTurn(b *testing.B) {
	r := newStepped(b, nil)
	request := wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey)
	for b.Loop() {
		b.StopTimer()
		var clients []net.Conn
		for range acceptsPerTurn {
			c, err := net.Dial("tcp", r.address)
			require.NoError(b, err)
			_, err = c.Write(request)
			require.NoError(b, err)
			clients = append(clients, c)
		}
		before := r.shard.stats.Clients.Load()
		r.shard.lastTurn = uint64(longTurn)
		b.StartTimer()
		r.shard.turnOver(false)
		b.StopTimer()
		require.EqualValues(b, acceptsPerTurn, r.shard.stats.Clients.Load()-before)
		for _, c := range clients {
			_ = tcp(c).SetLinger(0)
			_ = c.Close()
		}
		for r.shard.stats.Clients.Load() > 0 {
			r.shard.turnOver(false)
		}
		b.StartTimer()
	}
}
