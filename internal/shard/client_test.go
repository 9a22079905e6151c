package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

func TestConnect(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial(pathProtocol)
	c.send(ws.OpText, `{"id":1,"connect":{"name":"js","version":"5"}}`)
	require.Regexp(t, `^\{"id":1,"connect":\{"client":"[0-9a-f]{32}","version":"test","ping":25,"pong":true\}\}$`, c.message(wire.EventText))

	c = r.dial(pathProtocol + "?cf_ws_frame_ping_pong=true")
	c.send(ws.OpText, `{"id":1,"connect":{}}`)
	require.Regexp(t, `^\{"id":1,"connect":\{"client":"[0-9a-f]{32}","version":"test"\}\}$`, c.message(wire.EventText))
}

// Commands that are answered.
func TestCommandReplies(t *testing.T) {
	r := newRig(t, nil)
	r.place.set("known", 41)
	const notAvailable = `"error":{"code":108,"message":"not available"}`
	for _, test := range []struct{ command, expect string }{
		{`{"id":2,"subscribe":{"channel":"a"}}`, `{"id":2,"subscribe":{}}`},
		{`{"id":2,"subscribe":{"channel":"known"}}`, `{"id":2,"subscribe":{"epoch":"epoch","offset":41,"positioned":true}}`},
		{`{"id":2,"subscribe":{"channel":"known","recover":true,"offset":3,"epoch":"epoch"}}`, `{"id":2,"subscribe":{"epoch":"epoch","offset":41,"positioned":true,"was_recovering":true}}`},
		{`{"id":2,"subscribe":{"channel":"known","recover":true,"flag":2}}`, `{"id":2,"error":{"code":112,"message":"unrecoverable position"}}`},
		{`{"id":2,"subscribe":{"channel":"` + strings.Repeat("x", 65) + `"}}`, `{"id":2,"error":{"code":107,"message":"bad request"}}`},
		{`{"id":2,"unsubscribe":{"channel":"never"}}`, `{"id":2,"unsubscribe":{}}`},
		{`{"id":2,"publish":{"channel":"a","data":{}}}`, `{"id":2,` + notAvailable + `}`},
		{`{"id":2,"presence":{"channel":"a"}}`, `{"id":2,` + notAvailable + `}`},
		{`{"id":2,"presence_stats":{"channel":"a"}}`, `{"id":2,` + notAvailable + `}`},
		{`{"id":2,"history":{"channel":"a"}}`, `{"id":2,"error":{"code":108,"message":"not available"}}`}, // Without a Recoverer.
		{`{"id":2,"rpc":{"method":"m"}}`, `{"id":2,` + notAvailable + `}`},
		{`{"id":2,"refresh":{"token":"t"}}`, `{"id":2,` + notAvailable + `}`},
		{`{"id":2,"sub_refresh":{"channel":"a","token":"t"}}`, `{"id":2,` + notAvailable + `}`},
		{
			`{"id":2,"subscribe":{"channel":"a"}}` + "\n" + `{"id":3,"subscribe":{"channel":"a"}}` + "\n" + `{"id":4,"unsubscribe":{"channel":"a"}}` + "\n" + `{"id":5,"subscribe":{"channel":"a"}}`,
			`{"id":2,"subscribe":{}}` + "\n" + `{"id":3,"error":{"code":105,"message":"already subscribed"}}` + "\n" + `{"id":4,"unsubscribe":{}}` + "\n" + `{"id":5,"subscribe":{}}`,
		},
	} {
		c := r.join()
		c.send(ws.OpText, test.command)
		require.Equal(t, test.expect, c.message(wire.EventText), test.command)
		_ = c.conn.Close()
	}
}

func TestChannelLimit(t *testing.T) {
	r := newRig(t, nil)
	c := r.join("1", "2", "3", "4", "5", "6", "7", "8")
	c.send(ws.OpText, `{"id":20,"subscribe":{"channel":"9"}}`)
	require.Equal(t, `{"id":20,"error":{"code":106,"message":"limit exceeded"}}`, c.message(wire.EventText))
	c.send(ws.OpText, `{"id":21,"unsubscribe":{"channel":"4"}}`+"\n"+`{"id":22,"subscribe":{"channel":"9"}}`)
	require.Equal(t, `{"id":21,"unsubscribe":{}}`+"\n"+`{"id":22,"subscribe":{}}`, c.message(wire.EventText))
	r.publish("9", `{"n":1}`)
	require.Contains(t, c.message(wire.EventText), `"channel":"9"`)
}

// Commands that end the connection.
func TestCommandDisconnects(t *testing.T) {
	r := newRig(t, nil)
	for _, test := range []struct {
		name, first string
		frame       string
		code        uint16
		reason      Reason
	}{
		{"not connect first", "", `{"id":1,"subscribe":{"channel":"a"}}`, 3501, ReasonBadRequest},
		{"pong first", "", `{}`, 3501, ReasonBadRequest},
		{"empty frame", "", ``, 3501, ReasonBadRequest},
		{"garbage", "", "\x01\x02", 3501, ReasonBadRequest},
		{"array", "", `[{"id":1,"connect":{}}]`, 3501, ReasonBadRequest},
		{"no id", "", `{"connect":{}}`, 3501, ReasonBadRequest},
		{"second connect", `{"id":1,"connect":{}}`, `{"id":2,"connect":{}}`, 3501, ReasonBadRequest},
		{"pong without ping", `{"id":1,"connect":{}}`, `{}`, 3501, ReasonBadRequest},
		{"send", `{"id":1,"connect":{}}`, `{"send":{"data":{}}}`, 3508, ReasonNotAvailable},
		{"deep", `{"id":1,"connect":{}}`, `{"id":2,"rpc":{"data":` + strings.Repeat("[", 60000), 3501, ReasonBadRequest},
	} {
		before := r.reason(test.reason)
		c := r.dial(pathProtocol)
		if test.first != "" {
			c.send(ws.OpText, test.first)
			c.message(wire.EventText)
		}
		c.send(ws.OpText, test.frame)
		code, _ := c.closed()
		require.Equal(t, test.code, code, test.name)
		_ = c.conn.Close()
		eventually(t, test.name, func() bool { return r.reason(test.reason) == before+1 })
	}
}

// What was asked before the fault is still answered.
func TestRepliesBeforeDisconnect(t *testing.T) {
	r := newRig(t, nil)
	c := r.join()
	c.send(ws.OpText, `{"id":2,"subscribe":{"channel":"a"}}`+"\nx")
	require.Equal(t, `{"id":2,"subscribe":{}}`, c.message(wire.EventText))
	code, reason := c.closed()
	require.Equal(t, uint16(3501), code)
	require.Equal(t, "bad request: decode command: not a command of the client protocol", reason)
}

func TestStale(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.StaleCloseDelay = 100 * time.Millisecond })
	c := r.dial(pathProtocol)
	code, _ := c.closed()
	require.Equal(t, uint16(3502), code)
	_ = c.conn.Close()
	eventually(t, "counted", func() bool { return r.reason(ReasonStale) == 1 })
}

func TestPings(t *testing.T) {
	quick := func(o *Options) {
		o.Limits.PingInterval, o.Limits.PongTimeout = 200*time.Millisecond, 200*time.Millisecond
	}
	t.Run("in band", func(t *testing.T) {
		r := newRig(t, quick)
		c := r.join()
		for range 3 {
			require.Equal(t, "{}", c.message(wire.EventText))
			c.send(ws.OpText, "{}")
		}
		require.Equal(t, "{}", c.message(wire.EventText))
		code, _ := c.closed() // This one was not answered.
		require.Equal(t, uint16(3012), code)
		_ = c.conn.Close()
		eventually(t, "counted", func() bool { return r.reason(ReasonNoPong) == 1 })
	})
	for _, path := range []string{"/ws?channel=a", pathProtocol + "?cf_ws_frame_ping_pong=true"} {
		t.Run("native "+path, func(t *testing.T) {
			r := newRig(t, quick)
			c := r.dial(path)
			if strings.HasPrefix(path, pathProtocol) {
				c.send(ws.OpText, `{"id":1,"connect":{}}`)
				c.message(wire.EventText)
			}
			for range 3 {
				c.send(ws.OpPong, c.message(wire.EventPing))
			}
			c.message(wire.EventPing)
			code, _ := c.closed()
			require.Contains(t, []uint16{1008, 3012}, code)
		})
	}
}

// A client's own pings are answered with what they carry.
func TestClientPing(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{"/ws?channel=a", pathProtocol} {
		c := r.dial(path)
		c.send(ws.OpPing, "hello")
		require.Equal(t, "hello", c.message(wire.EventPong))
	}
}

// Subscribing and unsubscribing in any order leaves exactly the right subscribers.
func TestSubscriberLists(t *testing.T) {
	r := newRig(t, nil)
	const clients, channels = 12, 5
	subscribed := [clients][channels]bool{}
	var all [clients]*client
	for i := range all {
		all[i] = r.join()
	}
	random := uint32(1)
	for step := range 400 {
		random = random*1664525 + 1013904223
		i, k := int(random>>8)%clients, int(random>>20)%channels
		verb := "subscribe"
		if subscribed[i][k] {
			verb = "unsubscribe"
		}
		all[i].send(ws.OpText, fmt.Sprintf(`{"id":%d,"%s":{"channel":"c%d"}}`, step+2, verb, k))
		require.Equal(t, fmt.Sprintf(`{"id":%d,"%s":{}}`, step+2, verb), all[i].message(wire.EventText))
		subscribed[i][k] = !subscribed[i][k]
		if step%20 != 0 {
			continue
		}
		for k := range channels {
			r.publish(fmt.Sprintf("c%d", k), fmt.Sprintf("%d", step))
			for i := range all {
				if subscribed[i][k] {
					require.Contains(t, all[i].message(wire.EventText), fmt.Sprintf(`{"push":{"channel":"c%d","pub":{"data":%d,`, k, step))
				}
			}
		}
	}
}

// A channel that nothing can feed is refused where the option says so.
func TestUnknownChannelError(t *testing.T) {
	r := newRig(t, func(o *Options) { o.CanFeed = func(channel string) bool { return channel == "known" } })
	c := r.join("known")
	c.send(ws.OpText, `{"id":9,"subscribe":{"channel":"mistyped"}}`)
	require.Equal(t, `{"id":9,"error":{"code":102,"message":"unknown channel"}}`, c.message(wire.EventText))
}
