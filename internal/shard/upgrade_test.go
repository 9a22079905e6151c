package shard

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
	"wsd/internal/wire"
)

// refused returns the counts of refused upgrade requests, without those that are zero.
func (r *rig) refused() map[wire.Cause]uint64 {
	counts := make(map[wire.Cause]uint64)
	for i, cause := range Causes() {
		if n := r.shard.Stats().Refused[i].Load(); n > 0 {
			counts[cause] = n
		}
	}
	return counts
}

// upgrade sends an upgrade request and returns the client and the response.
func (r *rig) upgrade(path string, lines ...string) (c *client, status int, body string) {
	r.t.Helper()
	c = r.open()
	c.write([]byte("GET " + path + upgradeLines + strings.Join(append(lines, "\r\n"), "\r\n")))
	status, body = c.response()
	return c, status, body
}

// Whatever is offered, a 101 names one of the offers, or none if there are none.
func TestSubprotocols(t *testing.T) {
	r := newRig(t, nil)
	known := map[string][]string{
		pathProtocol:      {"centrifuge-json", "centrifuge-protobuf"},
		"/ws?channel=abc": {"wsd.raw"},
	}
	offers := []string{"centrifuge-json", "centrifuge-protobuf", "wsd.raw", "wsd.token.abc.DEF-_~", "chat", "Wsd.raw"}
	refused := uint64(0)
	for path, names := range known {
		for mask := range 1 << len(offers) {
			var offered []string
			want := ""
			for i, o := range offers {
				if mask>>i&1 == 0 {
					continue
				}
				offered = append(offered, o)
				for _, name := range names {
					if name == o && want == "" {
						want = name
					}
				}
			}
			var lines []string
			if len(offered) > 0 {
				lines = []string{"Sec-WebSocket-Protocol: " + strings.Join(offered, ", ")}
			}
			c, status, body := r.upgrade(path, lines...)
			if len(offered) > 0 && want == "" {
				refused++
				require.Equal(t, http.StatusBadRequest, status, offered)
				require.Contains(t, body, names[0])
				require.NotContains(t, body, "abc.DEF")
			} else {
				require.Equal(t, http.StatusSwitchingProtocols, status, "%s %v: %s", path, offered, body)
				require.Equal(t, want, c.header.Get("Sec-WebSocket-Protocol"))
			}
			_ = c.conn.Close()
		}
	}
	require.Equal(t, map[wire.Cause]uint64{wire.CauseSubprotocol: refused}, r.refused())
}

func TestRawToken(t *testing.T) {
	for _, test := range []struct {
		offered            []string
		subprotocol, token string
		fault              string
	}{
		{nil, "", "", ""},
		{[]string{"wsd.raw"}, "wsd.raw", "", ""},
		{[]string{"wsd.raw", "wsd.token.a.b.c"}, "wsd.raw", "a.b.c", ""},
		{[]string{"wsd.token.a.b.c", "other", "wsd.raw"}, "wsd.raw", "a.b.c", ""},
		{[]string{"wsd.token.a"}, "", "", "offer wsd.raw, and wsd.token.TOKEN beside it"},
		{[]string{"wsd.raw", "wsd.token."}, "", "", "lacks its token"},
		{[]string{"wsd.raw", "wsd.token.a", "wsd.token.b"}, "", "", "More than one token"},
	} {
		subprotocol, token, err := rawSubprotocol(test.offered)
		if test.fault != "" {
			require.ErrorContains(t, err, test.fault)
			require.Empty(t, token)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, test.subprotocol, subprotocol)
		require.Equal(t, test.token, token)
	}
}

// What is not ours is not looked at.
func TestUnknownParameters(t *testing.T) {
	r := newRig(t, nil)
	for _, query := range []string{"x=1;2", "x=100%", "100%", "%zz=%", ";", "=", "&&", "cf_protocol=%", "x=?/#"[:4], "é=\xff"} {
		for _, path := range []string{"/ws?channel=a&" + query, "/ws?" + query + "&channel=a"} {
			c, status, body := r.upgrade(path, "Cookie: a=%;;=\x01", "X-Other: \x7f")
			require.Equal(t, http.StatusSwitchingProtocols, status, "%s: %s", path, body)
			_ = c.conn.Close()
		}
	}
	c, status, _ := r.upgrade(pathProtocol+"?x=%&cf_protocol=protobuf&channel=%", "Sec-WebSocket-Protocol: centrifuge-json")
	require.Equal(t, http.StatusSwitchingProtocols, status)
	_ = c.conn.Close()
	require.Empty(t, r.refused())
	for _, path := range []string{"/ws?channel=%", "/ws?channel=a;b", "/ws?chann%65l=%", pathProtocol + "?cf_protocol=%", pathProtocol + "?format=x;y", pathProtocol + "?cf_ws_frame_ping_pong=%zz"} {
		c, status, body := r.upgrade(path)
		require.Equal(t, http.StatusBadRequest, status, path)
		require.Contains(t, body, "is malformed: percent-encode")
		_ = c.conn.Close()
	}
	require.Equal(t, map[wire.Cause]uint64{causeQuery: 6}, r.refused())
}

func TestPaths(t *testing.T) {
	r := newRig(t, func(o *Options) { o.PathPrefix = "/live/v1" })
	for _, prefix := range []string{"", "/live/v1"} {
		for _, slash := range []string{"", "/"} {
			for _, path := range []string{"/ws" + slash + "?channel=a", pathProtocol + slash} {
				c, status, _ := r.upgrade(prefix + path)
				require.Equal(t, http.StatusSwitchingProtocols, status, prefix+path)
				_ = c.conn.Close()
			}
			c := r.open()
			c.write([]byte("GET " + prefix + pathHealth + slash + " HTTP/1.1\r\nHost: x\r\n\r\n"))
			status, _ := c.response()
			require.Equal(t, http.StatusOK, status)
			_ = c.conn.Close()
		}
	}
	for _, path := range []string{"/live/v1ws?channel=a", "/live/v1", "/live/v1/", "/live/ws?channel=a", "/live/v1/live/v1/ws", "/ws//?channel=a", "//ws?channel=a", "/"} {
		c, status, _ := r.upgrade(path)
		require.Equal(t, http.StatusNotFound, status, path)
		_ = c.conn.Close()
	}
}

func TestUnknownChannelRefused(t *testing.T) {
	r := newRig(t, func(o *Options) { o.CanFeed = func(channel string) bool { return channel == "a" } })
	c, status, _ := r.upgrade("/ws?channel=a")
	require.Equal(t, http.StatusSwitchingProtocols, status)
	_ = c.conn.Close()
	c, status, body := r.upgrade("/ws?channel=a&channel=b")
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "A channel is named that no topic and no route can feed.", body)
	_ = c.conn.Close()
	require.Equal(t, map[wire.Cause]uint64{causeUnknownChannel: 1}, r.refused())
}

// A refusal is logged at level debug, with the client's address and without anything that the client sent.
func TestRefusalLogged(t *testing.T) {
	log := &testutil.Buffer{}
	r := newRig(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	const secret = "c2VjcmV0LXRva2Vu"
	for _, test := range []struct{ path, line, cause string }{
		{"/nowhere?" + secret, "X: y", "path"},
		{"/ws?channel=a", "Sec-WebSocket-Protocol: wsd.token." + secret, "subprotocol"},
		{"/ws?channel=a", "Sec-WebSocket-Protocol: wsd.raw, wsd.token." + secret + " x", "malformed"},
		{"/ws?channel=%&x=" + secret, "Cookie: " + secret, "query"},
	} {
		c, status, body := r.upgrade(test.path, test.line)
		require.GreaterOrEqual(t, status, 400)
		require.NotContains(t, body, secret)
		address := c.conn.LocalAddr().String()
		_ = c.conn.Close()
		eventually(t, "logged", func() bool { return strings.Contains(log.String(), "client="+address) })
		require.Contains(t, log.String(), "reason="+test.cause)
	}
	require.NotContains(t, log.String(), secret)
}
