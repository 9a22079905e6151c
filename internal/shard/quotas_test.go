package shard

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/wire"
)

// limited returns a rig with one quota, perhaps in a dry run.
func limited(t *testing.T, quota Quota, most int64, dry bool) *rig {
	t.Helper()
	return newRig(t, func(o *Options) { o.Quotas.Limits[quota] = QuotaLimit{most, dry} })
}

func (r *rig) exceeded(q Quota) uint64 { return r.shard.Stats().Exceeded[q].Load() }

// ask sends an upgrade request and returns the response.
func (r *rig) ask(path string) (c *client, status int, body string) {
	r.t.Helper()
	c = r.open()
	c.write(wire.AppendClientHandshake(nil, r.address, path, "", testKey))
	status, body = c.response()
	return c, status, body
}

// dryOrNot runs a test once with a quota that is kept and once in a dry run.
func dryOrNot(t *testing.T, test func(t *testing.T, dry bool)) {
	t.Helper()
	for _, dry := range []bool{false, true} {
		t.Run(fmt.Sprint("dry ", dry), func(t *testing.T) { test(t, dry) })
	}
}

// Beyond so many connections, in all or of an address, a client gets a status that says so, and one that leaves makes
// room, however it leaves. A request that is refused for another reason takes no place.
func TestConnectionsLimit(t *testing.T) {
	for quota, status := range map[Quota]int{QuotaConnections: 503, QuotaAddressConnections: 429} {
		t.Run(quota.String(), func(t *testing.T) {
			dryOrNot(t, func(t *testing.T, dry bool) {
				t.Helper()
				r := limited(t, quota, 2, dry)
				_, got, _ := r.ask("/nowhere")
				require.Equal(t, 404, got)
				for round, leave := range []func(*client){
					func(c *client) { _ = c.conn.Close() },
					func(c *client) { c.write([]byte{0x88, 0x80, 0, 0, 0, 0}); _, _ = io.ReadAll(c.in) },
					func(c *client) { c.write([]byte{0xff, 0x80, 0, 0, 0, 0}); _, _ = io.ReadAll(c.in) }, // Not a frame.
				} {
					raw, protocol := r.dial("/ws?channel=a"), r.dial(pathProtocol)
					for _, path := range []string{"/ws?channel=a", pathProtocol} {
						c, got, body := r.ask(path)
						if dry {
							require.Equal(t, 101, got)
							leave(c)
							continue
						}
						require.Equal(t, status, got)
						require.Contains(t, body, "limits."+quota.String())
						require.Regexp(t, `^([5-9]|10)$`, c.header.Get("Retry-After"))
						_ = c.conn.Close()
						eventually(t, "counted", func() bool { return r.refused()[quota.cause()] > 0 })
					}
					require.EqualValues(t, 2*(round+1), r.exceeded(quota))
					leave(raw)
					leave(protocol)
					_ = raw.conn.Close()
					_ = protocol.conn.Close()
					eventually(t, "gone", func() bool { return r.shard.Stats().Connections.Load() == 0 })
				}
			})
		})
	}
}

// An address is counted by itself, and costs nothing when it has nothing.
func TestAddressesAreCounted(t *testing.T) {
	var a addresses
	first, second := networkOf(mustAddr("192.0.2.1")), networkOf(mustAddr("2001:db8::1"))
	require.Equal(t, second, networkOf(mustAddr("2001:db8::ffff")), "a /64 is one")
	require.EqualValues(t, 1, a.change(first, 1, 0).connections)
	require.EqualValues(t, 1, a.change(second, 1, 0).connections)
	require.Equal(t, addressCount{1, 1}, a.change(first, 0, 1))
	require.Equal(t, 2, a.len())
	a.change(first, -1, -1)
	a.change(second, -1, 0)
	require.Zero(t, a.len())
	require.Panics(t, func() { a.change(first, -1, 0) })
}

// Beyond so many requests that are not complete, in all or of an address, the next one is refused before it is, and its
// socket is free at once. A request that comes complete never counts, and one that becomes complete makes room.
func TestHandshakesLimit(t *testing.T) {
	notByTLS(t, "before the handshake there is no way to say why a client is refused")
	for quota, status := range map[Quota]int{QuotaHandshakes: 503, QuotaAddressHandshakes: 429} {
		t.Run(quota.String(), func(t *testing.T) {
			dryOrNot(t, func(t *testing.T, dry bool) {
				t.Helper()
				r := limited(t, quota, 2, dry)
				q := r.shard.opts.Quotas
				request := wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey)
				begun := func(n int64) {
					t.Helper()
					eventually(t, "begun", func() bool { return q.Handshakes() == n })
				}
				var waiting []*client
				for i := range 2 {
					c := r.open()
					c.write(request[:10])
					begun(int64(i + 1))
					waiting = append(waiting, c)
				}
				c := r.open()
				c.write(request[:20])
				if dry {
					begun(3)
					_ = c.conn.Close()
				} else {
					got, body := c.response()
					require.Equal(t, status, got)
					require.Contains(t, body, "limits."+quota.String())
					require.NotEmpty(t, c.header.Get("Retry-After"))
					_, err := c.in.ReadByte()
					require.True(t, errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET), err) // A reset if more came meanwhile.
					require.EqualValues(t, 1, r.refused()[quota.cause()])
				}
				begun(2)
				require.EqualValues(t, 1, r.exceeded(quota))
				waiting[0].write(request[10:])
				got, _ := waiting[0].response()
				require.Equal(t, 101, got)
				begun(1)
				require.NoError(t, waiting[1].conn.Close())
				begun(0)
			})
		})
	}
}

// A request that stays incomplete leaves its place when its time is over.
func TestHandshakeTimeoutLeavesPlace(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Quotas.Limits[QuotaAddressHandshakes].Max = 1
		o.Limits.HandshakeTimeout = 50 * time.Millisecond
	})
	c := r.open()
	c.write([]byte("GET /ws"))
	status, _ := c.response()
	require.Equal(t, 408, status)
	require.Zero(t, r.shard.opts.Quotas.Handshakes())
	require.Zero(t, r.shard.opts.Quotas.addresses.len())
}

// Beyond so many channels, a subscription to another one gets an error; those that exist are for everybody.
func TestChannelsLimit(t *testing.T) {
	dryOrNot(t, func(t *testing.T, dry bool) {
		t.Helper()
		r := limited(t, QuotaChannels, 3, dry)
		r.interest.Add("elsewhere", 7, 0)
		defer r.interest.Remove("elsewhere", 7)
		c := r.join("a", "b")
		for _, name := range []string{"a", "elsewhere"} {
			other := r.join(name)
			_ = other.conn.Close()
		}
		c.send(ws.OpText, `{"id":9,"subscribe":{"channel":"c"}}`)
		raw, status, body := r.ask("/ws?channel=a&channel=d")
		if dry {
			require.Contains(t, c.message(wire.EventText), `{"id":9,"subscribe":{`)
			require.Equal(t, 101, status)
			require.EqualValues(t, 2, r.exceeded(QuotaChannels))
			return
		}
		require.Equal(t, `{"id":9,"error":{"code":106,"message":"limit exceeded"}}`, c.message(wire.EventText))
		require.Equal(t, 503, status)
		require.Contains(t, body, "limits.channels ")
		require.NotEmpty(t, raw.header.Get("Retry-After"))
		require.EqualValues(t, 2, r.exceeded(QuotaChannels))

		c.send(ws.OpText, `{"id":10,"unsubscribe":{"channel":"b"}}`)
		c.message(wire.EventText)
		c.send(ws.OpText, `{"id":11,"subscribe":{"channel":"c"}}`)
		require.Contains(t, c.message(wire.EventText), `{"id":11,"subscribe":{`)
	})
}

// Beyond so many new channels in a second, another one gets a temporary error, until the next second.
func TestChannelsRate(t *testing.T) {
	dryOrNot(t, func(t *testing.T, dry bool) {
		t.Helper()
		r := newStepped(t, func(o *Options) { o.Quotas.Limits[QuotaChannelsRate] = QuotaLimit{2, dry} })
		var c *client
		r.during(func() { c = r.join("a", "b") })
		r.shard.opts.Quotas.created.began = r.shard.start.Add(time.Hour) // The second does not end by itself.
		r.shard.opts.Quotas.created.created = r.interest.Created() - 2
		reply := func(command string) (got string) {
			r.during(func() {
				c.send(ws.OpText, command)
				got = c.message(wire.EventText)
			})
			return got
		}
		got := reply(`{"id":9,"subscribe":{"channel":"c"}}`)
		var status int
		r.during(func() { _, status, _ = r.ask("/ws?channel=d") })
		require.EqualValues(t, 2, r.exceeded(QuotaChannelsRate))
		if dry {
			require.Contains(t, got, `{"id":9,"subscribe":{`)
			require.Equal(t, 101, status)
			return
		}
		require.Equal(t, `{"id":9,"error":{"code":111,"message":"too many requests","temporary":true}}`, got)
		require.Equal(t, 503, status)
		r.shard.opts.Quotas.created.began = time.Time{}
		require.Contains(t, reply(`{"id":10,"subscribe":{"channel":"c"}}`), `{"id":10,"subscribe":{`)
	})
}

// The first ones of a second are never too many, and a second ends.
func TestChannelWindow(t *testing.T) {
	var w channelWindow
	now := time.Now()
	require.False(t, w.over(now, 10, 8, 5), "a client that names many")
	require.True(t, w.over(now, 18, 1, 5))
	require.False(t, w.over(now.Add(time.Second), 18, 1, 5))
	require.False(t, w.over(now.Add(time.Second), 22, 1, 5))
	require.True(t, w.over(now.Add(time.Second), 23, 1, 5))
}

// Recoveries and history commands have a rate of their own. What the client did before the one too many is answered.
func TestRecoveriesRate(t *testing.T) {
	for name, command := range map[string]string{
		"recovery": `{"id":%d,"subscribe":{"channel":"c%d","recover":true,"epoch":"epoch"}}`,
		"history":  `{"id":%d,"history":{"channel":"c%d"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			dryOrNot(t, func(t *testing.T, dry bool) {
				t.Helper()
				r := newRig(t, func(o *Options) {
					o.Limits.Rates[RateRecoveries] = RateLimit{1, dry}
					o.Limits.ChannelsMax = 100
				})
				c := r.join()
				most := int(allowanceWindow / time.Second)
				for i := range 2 * most {
					c.send(ws.OpText, fmt.Sprintf(command, i+2, i))
					event, text, err := c.next()
					require.NoError(t, err)
					if event == wire.EventClose {
						require.False(t, dry)
						require.GreaterOrEqual(t, i, most-1)
						code, reason, _ := wire.CloseCode([]byte(text))
						require.EqualValues(t, 3013, code)
						require.Contains(t, reason, "limits.recoveries_rate")
						require.EqualValues(t, 1, r.shard.Stats().OverRate[RateRecoveries].Load())
						return
					}
					require.Contains(t, text, fmt.Sprintf(`{"id":%d,`, i+2))
				}
				require.True(t, dry)
				require.NotZero(t, r.shard.Stats().OverRate[RateRecoveries].Load())
			})
		})
	}
}

func mustAddr(text string) netip.Addr { return netip.MustParseAddr(text) }
