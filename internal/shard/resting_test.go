package shard

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/tlsrecord"
	"wsd/internal/wire"
)

// restAll lets time pass until no connection has ciphers.
func (r *rig) restAll() {
	r.t.Helper()
	for range 3 {
		r.shard.start = r.shard.start.Add(-restAfter)
		r.step()
	}
	require.Empty(r.t, r.shard.secured.awake)
}

// The ciphers of a connection that nothing uses go after a while, and come back when something does, in either
// direction. Those of a busy connection stay.
func TestTLSRests(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.TLS.Handshakes = newHandshakes(t) })
	var idle, busy *client
	r.during(func() {
		idle, busy = r.dial("/ws?channel=a"), r.dial("/ws?channel=b")
	})
	s := r.shard
	ciphers := func(slot uint32) warmth { return s.secured.of(&s.slab.get(slot).transport).warmth }
	require.NotZero(t, ciphers(0))
	for n := range 4 {
		s.start = s.start.Add(-restAfter)
		r.step()
		require.NotZero(t, s.secured.restAt, "it is awake for the other one")
		r.publish("b", fmt.Sprint(n))
		r.step()
		r.during(func() { require.Equal(t, fmt.Sprint(n), busy.message(wire.EventText)) })
	}
	require.Equal(t, cold, ciphers(0))
	require.NotEqual(t, cold, ciphers(1))
	require.Len(t, s.secured.awake, 1)
	r.restAll()
	require.Zero(t, s.secured.restAt, "nothing wakes an idle shard")

	r.publish("a", "text")
	r.step()
	require.Equal(t, hot, ciphers(0))
	r.during(func() { require.Equal(t, "text", idle.message(wire.EventText)) })
	r.restAll()
	idle.send(ws.OpPing, "payload")
	r.during(func() { require.Equal(t, "payload", idle.message(wire.EventPong)) })
	require.Equal(t, hot, ciphers(0))

	// One that goes while it is in the list.
	r.during(func() {
		_ = idle.conn.Close()
		eventually(t, "it has gone", func() bool { return s.stats.Connections.Load() == 1 })
		idle = r.dial("/ws?channel=a") // In its slot.
	})
	r.restAll()
	r.publish("a", "again")
	r.during(func() { require.Equal(t, "again", idle.message(wire.EventText)) })
}

// Many connections are looked through in turns that are bounded.
func TestTLSRestsInTurns(t *testing.T) {
	const connections = 100_000
	s := bareChannels()
	x := &s.secured
	secret := make([]byte, 32)
	records, err := tlsrecord.New(tlsrecord.From13(tls.TLS_AES_128_GCM_SHA256, secret, secret, 0))
	require.NoError(t, err)
	for n := range connections {
		sc := &secureConn{records: records}
		x.using(sc)
		if n%2 == 0 {
			sc.warmth = warm
		}
	}
	require.False(t, s.restTLS())
	s.tick = x.restAt
	left := connections
	for more := true; more; {
		more = s.restTLS()
		require.LessOrEqual(t, left-x.restNext%connections, workPart*restedUnit)
		if left = x.restNext; !more {
			break
		}
		x.using(&secureConn{records: records, warmth: cold}) // Between two turns, for the next time.
	}
	added := (connections - 1) / (workPart * restedUnit)
	require.Len(t, x.awake, connections/2+added)
	for _, sc := range x.awake[:10] {
		require.NotNil(t, sc)
	}
	for range 2 {
		for s.tick = x.restAt; s.restTLS(); {
		}
	}
	require.Empty(t, x.awake)
	require.Zero(t, x.restAt)
}

// A client of TLS 1.2 whose keys have protected as many records as they should is closed, with a code after which it
// comes back, whoever has sent them. With TLS 1.3 the key changes and nothing is to be seen.
func TestTLSKeysWearOut(t *testing.T) {
	const records = 10
	for name, config := range tlsConfigs() {
		for _, path := range []string{"/ws?channel=a", pathProtocol} {
			for _, sends := range []bool{false, true} {
				r := newStepped(t, func(o *Options) { o.TLS.Handshakes = newHandshakes(t) })
				var c *client
				r.during(func() {
					c = r.openTLS(config.Clone())
					c.upgrade(r, path)
					if path == pathProtocol {
						c.send(ws.OpText, `{"id":1,"connect":{}}`)
						c.message(wire.EventText)
						c.send(ws.OpText, `{"id":2,"subscribe":{"channel":"a"}}`)
						c.message(wire.EventText)
					}
				})
				sc := r.shard.secured.of(&r.shard.slab.get(0).transport)
				state := sc.records.State()
				limited := state.Limit > 0
				state.Limit = uint32(max(state.In.Number, state.Out.Number)) + records
				var err error
				sc.records, err = tlsrecord.New(state)
				require.NoError(t, err)
				wears := limited && state.Version == tls.VersionTLS12
				for n := range records + 5 {
					if sends {
						c.send(ws.OpPong, "unasked")
					} else {
						r.publish("a", fmt.Sprint(n))
					}
					r.step()
				}
				if !wears {
					require.Zero(t, r.reason(ReasonTLSKeys), name)
					require.Equal(t, stateFree+stateJoined, r.shard.slab.get(0).state, name)
					r.publish("a", "99")
					r.during(func() {
						for !strings.Contains(c.message(wire.EventText), "99") {
						}
					})
					continue
				}
				r.during(func() {
					event, payload, err := c.next()
					for n := 0; event != wire.EventClose; n++ {
						require.NoError(t, err)
						require.False(t, sends, payload)
						require.Contains(t, payload, fmt.Sprint(n), "what came before is not lost")
						event, payload, err = c.next()
					}
					code, _, _ := wire.CloseCode([]byte(payload))
					require.EqualValues(t, map[bool]int{true: 3011, false: 1012}[path == pathProtocol], code)
					_, _, err = c.next()
					require.ErrorContains(t, err, "EOF")
					_ = c.conn.Close()
				})
				eventually(t, "it has gone", func() bool { r.step(); return r.reason(ReasonTLSKeys) == 1 })
			}
		}
	}
}

// idle connects a client by TLS, or without if config is nil, which does nothing from then on, and returns its socket.
// Nothing else of it stays in memory.
func (r *rig) idle(config *tls.Config) (fd int) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.address)
	require.NoError(r.t, err)
	defer conn.Close()
	fd, err = unix.Dup(rawFD(r.t, conn))
	require.NoError(r.t, err)
	c := &client{t: r.t, conn: conn}
	if config != nil {
		startTLS(c, config.Clone())
	}
	c.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey))
	response := make([]byte, 0, 1024)
	for !strings.Contains(string(response), "\r\n\r\n") {
		n, err := c.conn.Read(response[len(response):cap(response)])
		require.NoError(r.t, err)
		response = response[:len(response)+n]
	}
	return fd
}

// idleBytes returns how much live heap each of many idle connections takes.
func idleBytes(t testing.TB, connections int, config *tls.Config) float64 {
	t.Helper()
	r := newStepped(t, func(o *Options) {
		o.TLS.Handshakes = nil
		if config != nil {
			o.TLS.Handshakes = newHandshakes(t)
		}
	})
	fds := make([]int, 0, connections)
	measure := func(upTo int) int64 {
		r.during(func() {
			for len(fds) < upTo {
				fds = append(fds, r.idle(config))
			}
		})
		r.restAll()
		return heap()
	}
	const shared = blockSlots // What they take, the others do not need again.
	before := measure(shared)
	each := float64(measure(connections)-before) / float64(connections-shared)
	for _, fd := range fds {
		epoll.Close(fd)
	}
	for r.shard.stats.Connections.Load() > 0 {
		r.shard.turnOver(true)
	}
	return each
}

// idleConfigs are the kinds of idle clients; nil: without TLS.
func idleConfigs() map[string]*tls.Config {
	configs := tlsConfigs()
	configs["plain"] = nil
	return configs
}

// An idle TLS connection takes little more of the heap than a plain one.
func TestTLSIdleMemory(t *testing.T) {
	each := map[string]float64{}
	for name, config := range idleConfigs() {
		each[name] = idleBytes(t, 4*blockSlots, config)
		t.Logf("%s: %.0f bytes", name, each[name])
	}
	for name, n := range each {
		require.Less(t, n-each["plain"], 640.0, name)
	}
}

// BenchmarkIdleTLS reports how much live heap an idle connection takes, plain and by each version and suite. It counts
// objects, not time, so that other work on the machine does not matter:
//
//	go test ./internal/shard -run xxx -bench IdleTLS -benchtime 1x
func BenchmarkIdleTLS(b *testing.B) {
	for name, config := range idleConfigs() {
		b.Run(name, func(b *testing.B) {
			var each float64
			for b.Loop() {
				each = idleBytes(b, 2048, config)
			}
			b.ReportMetric(each, "heap-B/conn")
		})
	}
}
