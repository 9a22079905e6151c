package shard

import (
	"fmt"
	"net"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A peer that resets or half-closes its connection costs the shard that connection alone, whatever state it is in.
func TestPeerEndsInEveryState(t *testing.T) {
	notByTLS(t, handshakeWaits)
	states := map[string]func(r *rig, c *client){
		"silent": func(*rig, *client) {},
		"head":   func(_ *rig, c *client) { c.write([]byte("GET /ws HTTP/1.1\r\n")) },
		"joining": func(r *rig, c *client) {
			c.write(wire.AppendClientHandshake(nil, r.address, pathProtocol, "", testKey))
		},
		"in a frame": func(r *rig, c *client) {
			c.write(wire.AppendClientHandshake(nil, r.address, pathProtocol, "", testKey))
			c.write([]byte{0x81, 0xfe})
		},
		"joined": func(r *rig, c *client) { joinBytes(r, c) },
		"blocked": func(r *rig, c *client) {
			joinBytes(r, c)
			r.step()
			for n := 0; r.shard.sender.pacing.blocked == 0; n++ {
				require.Less(r.t, n, 10000)
				r.publish("a", fmt.Sprintf(`{"n":%d,"pad":%q}`, n, make([]byte, 4<<10)))
				r.step()
			}
		},
		"closing": func(r *rig, c *client) {
			joinBytes(r, c)
			c.send(ws.OpClose, "\x03\xe8")
		},
	}
	ends := map[string]func(c *net.TCPConn) error{
		"reset": func(c *net.TCPConn) error {
			if err := c.SetLinger(0); err != nil {
				return err
			}
			return c.Close()
		},
		"half-close": func(c *net.TCPConn) error { return c.CloseWrite() },
		"close":      func(c *net.TCPConn) error { return c.Close() },
	}
	for state, enter := range states {
		for end, do := range ends {
			t.Run(state+" "+end, func(t *testing.T) {
				r := newStepped(t, nil)
				r.place.set("a", 5)
				c := r.open()
				stepUntil(r, "accepted", func() bool { return r.shard.connections == 1 })
				enter(r, c)
				r.step()
				r.step()
				require.NoError(t, do(tcp(c.conn)))
				stepUntil(r, "gone", func() bool { return r.shard.connections == 0 })
				r.during(func() { r.join("b") })
			})
		}
	}
}

func joinBytes(r *rig, c *client) {
	c.write(wire.AppendClientHandshake(nil, r.address, pathProtocol, "", testKey))
	c.send(ws.OpText, `{"id":1,"connect":{}}`+"\n"+`{"id":2,"subscribe":{"channel":"a"}}`)
	stepUntil(r, "subscribed", func() bool { return r.shard.Stats().Subscriptions.Load() == 1 })
}

func stepUntil(r *rig, what string, cond func() bool) {
	r.t.Helper()
	eventually(r.t, what, func() bool {
		r.step()
		return cond()
	})
}
