package shard

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
	"wsd/internal/wire"
)

// authority takes tokens such as "user=alice,channel=$a,ttl=60,server=x+y,list=team.a": what they say is what they are.
// "bad", "old" and "busy" are what they say, too.
type authority struct {
	mu    sync.Mutex
	held  []func() // Answers that wait for release, if hold is set.
	hold  bool
	asked int

	address netip.Addr // That the last token was verified for.
}

func (a *authority) lastAddress() netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.address
}

func (a *authority) Verify(purpose TokenPurpose, token string, address netip.Addr, answer func(TokenAnswer)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	a.address = address
	give := func() { answer(answerOf(purpose, token)) }
	if a.hold {
		a.held = append(a.held, give)
		return
	}
	go give()
}

func answerOf(purpose TokenPurpose, token string) TokenAnswer {
	switch token {
	case "bad":
		return TokenAnswer{Result: TokenInvalid}
	case "old":
		return TokenAnswer{Result: TokenExpired}
	case "busy":
		return TokenAnswer{Result: TokenLater}
	}
	who := &Identity{Bytes: len(token)}
	for part := range strings.SplitSeq(token, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "user":
			who.User = value
		case "channel":
			who.Channel = value
		case "ttl":
			d, err := time.ParseDuration(value)
			if err != nil {
				panic(err)
			}
			who.ExpireAt = time.Now().Add(d)
		case "server":
			who.Channels = strings.Split(value, "+")
		case "list":
			who.Lists = map[string][]string{"list": strings.Split(value, "+")}
		}
	}
	if (who.Channel != "") != (purpose == TokenForSubscription) {
		return TokenAnswer{Result: TokenInvalid}
	}
	return TokenAnswer{Result: TokenOK, Identity: who}
}

// Allows has public channels for all, those of users for them, those of the list, and private ones by token.
func (*authority) Allows(who *Identity, channel string, token bool) bool {
	for _, name := range who.Lists["list"] {
		if name == channel {
			return true
		}
	}
	return strings.HasPrefix(channel, "public") || channel == "user."+who.User && who.User != "" ||
		token && strings.HasPrefix(channel, "$")
}

func (a *authority) waiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.held)
}

// release gives the answers that wait, and all others from now on at once.
func (a *authority) release() {
	a.mu.Lock()
	held := a.held
	a.held, a.hold = nil, false
	a.mu.Unlock()
	for _, give := range held {
		give()
	}
}

func withAuthority(a *authority, change func(*Options)) func(*Options) {
	return func(o *Options) {
		o.Auth = AuthOptions{Authority: a, Grace: 25 * time.Second}
		if change != nil {
			change(o)
		}
	}
}

// login connects by the client protocol with a token.
func (r *rig) login(token string) (*client, string) {
	r.t.Helper()
	c := r.dial(pathProtocol)
	c.send(ws.OpText, fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, token))
	return c, c.message(wire.EventText)
}

// ask sends a command and returns the reply.
func (c *client) ask(command string) string {
	c.t.Helper()
	c.send(ws.OpText, command)
	return c.message(wire.EventText)
}

const (
	denied       = `"error":{"code":103,"message":"permission denied"}`
	tokenExpired = `"error":{"code":109,"message":"token expired"}`
	tooMany      = `"error":{"code":111,"message":"too many requests","temporary":true}`
)

func TestConnectWithToken(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	_, reply := r.login("user=alice")
	require.Regexp(t, `^\{"id":1,"connect":\{"client":"[0-9a-f]{32}","version":"test","ping":25,"pong":true\}\}$`, reply)
	_, reply = r.login("user=alice,ttl=100s")
	require.Regexp(t, `"expires":true,"ttl":(89|9\d),`, reply, "up to a tenth earlier")
	for token, want := range map[string]string{"old": tokenExpired, "busy": tooMany, "": `"error":{"code":101,"message":"unauthorized"}`} {
		c, reply := r.login(token)
		require.Equal(t, `{"id":1,`+want+`}`, reply)
		c.send(ws.OpText, `{"id":2,"connect":{"token":"user=alice"}}`)
		code, reason := c.closed()
		require.EqualValues(t, 3501, code)
		require.Contains(t, reason, "was refused")
	}
	for _, token := range []string{"bad", "user=alice,channel=$a"} {
		c := r.dial(pathProtocol)
		c.send(ws.OpText, fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, token))
		code, reason := c.closed()
		require.EqualValues(t, 3500, code)
		require.Equal(t, "invalid token", reason)
	}
	eventually(t, "they are counted", func() bool { return r.reason(ReasonInvalidToken) == 2 })
}

func TestAnonymous(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, func(o *Options) { o.Auth.Anonymous = true }))
	c := r.join("public.a")
	require.Equal(t, `{"id":9,`+denied+`}`, c.ask(`{"id":9,"subscribe":{"channel":"user."}}`))
	r.publish("public.a", "1")
	require.Contains(t, c.message(wire.EventText), `"data":1`)
	raw := r.dial("/ws?channel=public.a")
	r.publish("public.a", "2")
	require.Equal(t, "2", raw.message(wire.EventText))
}

// Whatever comes before the answer to the token waits for it, in order, also what is in the same frame and what comes
// later.
func TestCommandsWaitForToken(t *testing.T) {
	a := &authority{hold: true}
	r := newRig(t, withAuthority(a, nil))
	c := r.dial(pathProtocol)
	c.send(ws.OpText, `{"id":1,"connect":{"token":"user=alice"}}`+"\n"+`{"id":2,"subscribe":{"channel":"public.a"}}`)
	c.send(ws.OpText, `{"id":3,"subscribe":{"channel":"user.alice"}}`)
	eventually(t, "the token is being verified", func() bool { return a.waiting() == 1 })
	c.send(ws.OpText, `{"id":4,"subscribe":{"channel":"user.bob"}}`)
	a.release()
	require.Contains(t, c.message(wire.EventText), `{"id":1,"connect":{`)
	require.Equal(t, `{"id":2,"subscribe":{}}`, c.message(wire.EventText))
	require.Equal(t, `{"id":3,"subscribe":{}}`, c.message(wire.EventText))
	require.Equal(t, `{"id":4,`+denied+`}`, c.message(wire.EventText))
}

// The loop does not spin for what comes while a token is being verified, and reads it afterwards.
func TestHeldIsNotWatched(t *testing.T) {
	a := &authority{hold: true}
	r := newStepped(t, withAuthority(a, nil))
	var c *client
	r.during(func() { c = r.dial(pathProtocol) })
	c.send(ws.OpText, `{"id":1,"connect":{"token":"user=alice"}}`)
	for a.waiting() == 0 {
		r.step()
	}
	c.send(ws.OpText, `{"id":2,"subscribe":{"channel":"public.a"}}`)
	r.step()
	events, _, err := r.shard.poller.Wait(false)
	require.NoError(t, err)
	require.Empty(t, events, "the client's input is not looked at")
	a.release()
	r.during(func() {
		require.Contains(t, c.message(wire.EventText), `"connect":{`)
		require.Equal(t, `{"id":2,"subscribe":{}}`, c.message(wire.EventText))
	})
}

// A connection that goes while its token is being verified leaves nothing behind, whichever way it goes.
func TestGoneWhileVerifying(t *testing.T) {
	for _, how := range []string{"close", "reset", "shutdown"} {
		t.Run(how, func(t *testing.T) {
			a := &authority{hold: true}
			r := newRig(t, withAuthority(a, func(o *Options) { o.Limits.CloseGrace = 50 * time.Millisecond }))
			clients := []*client{r.dial(pathProtocol), r.open()}
			clients[0].send(ws.OpText, `{"id":1,"connect":{"token":"user=alice"}}`)
			clients[1].write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=public.a&token=user=alice", "", testKey))
			eventually(t, "the tokens are being verified", func() bool { return a.waiting() == 2 })
			switch how {
			case "reset":
				for _, c := range clients {
					require.NoError(t, tcp(c.conn).SetLinger(0))
					require.NoError(t, tcp(c.conn).Close())
				}
				eventually(t, "they are gone", func() bool { return r.shard.Stats().Connections.Load() == 0 })
			case "close":
				for _, c := range clients {
					require.NoError(t, c.conn.Close())
				}
			default:
				r.shard.PostShutdown(time.Now().Add(waitMax))
				eventually(t, "they are gone", func() bool { return r.shard.Stats().Connections.Load() == 0 })
				r.stopped = true
			}
			a.release()
			eventually(t, "they are gone", func() bool { return r.shard.Stats().Connections.Load() == 0 })
		})
	}
}

// Authorisation is asked before a subscription, its recovery, and history.
func TestChannelRules(t *testing.T) {
	a := &authority{}
	r := newRig(t, withAuthority(a, nil))
	c, _ := r.login("user=alice,list=team.a")
	for command, want := range map[string]string{
		`{"id":2,"subscribe":{"channel":"public.a"}}`:                                           `{"id":2,"subscribe":{}}`,
		`{"id":2,"subscribe":{"channel":"user.alice"}}`:                                         `{"id":2,"subscribe":{}}`,
		`{"id":2,"subscribe":{"channel":"team.a"}}`:                                             `{"id":2,"subscribe":{}}`,
		`{"id":2,"subscribe":{"channel":"user.bob"}}`:                                           `{"id":2,` + denied + `}`,
		`{"id":2,"subscribe":{"channel":"user.bob","recover":true,"offset":3,"epoch":"epoch"}}`: `{"id":2,` + denied + `}`,
		`{"id":2,"subscribe":{"channel":"user.bob","type":1}}`:                                  `{"id":2,` + denied + `}`,
		`{"id":2,"subscribe":{"channel":"user.bob","token":"user=alice,channel=user.bob"}}`:     `{"id":2,` + denied + `}`,
		`{"id":2,"subscribe":{"channel":"$a"}}`:                                                 `{"id":2,` + denied + `}`,
		`{"id":2,"subscribe":{"channel":"$a","token":"bad"}}`:                                   `{"id":2,` + denied + `}`,
		`{"id":2,"subscribe":{"channel":"$a","token":"user=alice"}}`:                            `{"id":2,` + denied + `}`,
		`{"id":2,"subscribe":{"channel":"$a","token":"user=bob,channel=$a"}}`:                   `{"id":2,` + denied + `}`,
		`{"id":2,"subscribe":{"channel":"$a","token":"user=alice,channel=$b"}}`:                 `{"id":2,` + denied + `}`,
		`{"id":2,"subscribe":{"channel":"$a","token":"old"}}`:                                   `{"id":2,` + tokenExpired + `}`,
		`{"id":2,"subscribe":{"channel":"$a","token":"busy"}}`:                                  `{"id":2,` + tooMany + `}`,
		`{"id":2,"subscribe":{"channel":"$c","token":"user=alice,channel=$c"}}`:                 `{"id":2,"subscribe":{}}`,
		`{"id":2,"history":{"channel":"user.bob"}}`:                                             `{"id":2,` + denied + `}`,
		`{"id":2,"history":{"channel":"$a"}}`:                                                   `{"id":2,` + denied + `}`,
		`{"id":2,"history":{"channel":"public.b"}}`:                                             `{"id":2,"error":{"code":108,"message":"not available"}}`,
		`{"id":2,"sub_refresh":{"channel":"public.a","token":"user=alice,channel=public.a"}}`:   `{"id":2,` + denied + `}`,
		`{"id":2,"sub_refresh":{"channel":"$a","token":"user=alice,channel=$a"}}`:               `{"id":2,` + denied + `}`,
	} {
		require.Equal(t, want, c.ask(command), command)
	}
	require.Equal(t, `{"id":3,"error":{"code":105,"message":"already subscribed"}}`, c.ask(`{"id":3,"subscribe":{"channel":"$c"}}`))
	require.Equal(t, `{"id":3,"error":{"code":108,"message":"not available"}}`, c.ask(`{"id":3,"history":{"channel":"$c"}}`))
	const reserved = `{"id":3,"subscribe":{"channel":"\ud800user:bob"}}` // The nearest to the name of a user's entry.
	require.Equal(t, `{"id":3,"error":{"code":107,"message":"bad request"}}`, c.ask(reserved))
}

// What a header sends to a user reaches each of its connections, and nobody else's.
func TestMessagesToTokensUser(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	alice, _ := r.login("user=alice")
	bob, _ := r.login("user=bob")
	raw := r.dial("/ws?channel=public.a&token=user=alice")
	require.True(t, r.tell(string(routing.AppendUser(nil, []byte("alice"))), `{"n":1}`))
	r.seal()
	require.Equal(t, fmt.Sprintf(data, `{"n":1}`), alice.message(wire.EventText))
	require.Equal(t, `{"n":1}`, raw.message(wire.EventText))
	require.True(t, r.tell(routing.Everybody, `{"n":2}`))
	r.seal()
	require.Equal(t, fmt.Sprintf(data, `{"n":2}`), bob.message(wire.EventText))
}

func TestRawWithToken(t *testing.T) {
	r := newRig(t, withAuthority(&authority{}, nil))
	try := func(query, field string) (int, string) {
		c := r.open()
		head := string(wire.AppendClientHandshake(nil, r.address, "/ws"+query, "", testKey))
		if field != "" {
			head = strings.TrimSuffix(head, "\r\n") + field + "\r\n\r\n"
		}
		c.write([]byte(head))
		status, body := c.response()
		if status == 401 {
			require.Equal(t, "Bearer", c.header.Get("WWW-Authenticate"))
		}
		return status, body
	}
	for _, test := range []struct {
		query, field string
		status       int
		body         string
	}{
		{"?channel=public.a", "Authorization: Bearer user=alice", 101, ""},
		{"?channel=public.a", "authorization: bearer  user=alice", 101, ""},
		{"?channel=public.a&token=user%3Dalice", "", 101, ""},
		{"?channel=public.a&token=user%3Dalice", "Authorization: Bearer user=alice", 101, ""},
		{"?channel=user.alice&channel=team.a&token=user=alice,list=team.a", "", 101, ""},
		{"?token=user=alice,server=x", "", 101, ""},
		{"?channel=public.a", "", 401, "A token is needed"},
		{"?channel=public.a", "Authorization: Basic YTpi", 401, "A token is needed"},
		{"?channel=public.a&token=bad", "", 401, "The token is not valid."},
		{"?channel=public.a&token=old", "", 401, "The token has expired."},
		{"?channel=public.a&token=busy", "", 503, "Too many tokens"},
		{"?channel=public.a&token=user=alice,channel=$a", "", 401, "The token is not valid."},
		{"?channel=user.bob&token=user=alice", "", 403, "may not have"},
		{"?channel=$a&token=user=alice", "", 403, "may not have"},
		{"?token=user=alice", "", 400, "at least one channel"},
		{"?channel=public.a&token=user=alice", "Authorization: Bearer user=bob", 400, "More than one token"},
		{"?channel=public.a&token=%zz", "", 400, "parameter token is malformed"},
		{"?channel=public.a", "Authorization: Bearer a\r\nAuthorization: Bearer b", 400, "more than one Authorization"},
	} {
		status, body := try(test.query, test.field)
		require.Equal(t, test.status, status, "%s %s: %s", test.query, test.field, body)
		require.Contains(t, body, test.body)
		require.NotContains(t, body, "alice")
	}
}

// A raw client's request and what follows it are acted on when its token was verified.
func TestRawWaitsForToken(t *testing.T) {
	a := &authority{hold: true}
	r := newRig(t, withAuthority(a, nil))
	c := r.open()
	c.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=public.a", "wsd.raw, wsd.token.user~alice", testKey))
	c.send(ws.OpPing, "early")
	eventually(t, "the token is being verified", func() bool { return a.waiting() == 1 })
	require.EqualValues(t, 1, r.shard.opts.Quotas.Handshakes(), "it counts as under way")
	a.release()
	status, body := c.response()
	require.Equal(t, 101, status, body)
	require.Equal(t, "early", c.message(wire.EventPong))
	r.publish("public.a", "1")
	require.Equal(t, "1", c.message(wire.EventText))
	require.Equal(t, 1, a.asked)
}

func TestUserConnections(t *testing.T) {
	for _, dryRun := range []bool{false, true} {
		r := newRig(t, withAuthority(&authority{}, func(o *Options) {
			o.Quotas.Limits[QuotaUserConnections] = QuotaLimit{Max: 2, DryRun: dryRun}
		}))
		first, _ := r.login("user=alice")
		r.dial("/ws?channel=public.a&token=user=alice")
		r.login("user=bob")
		c := r.dial(pathProtocol)
		c.send(ws.OpText, `{"id":1,"connect":{"token":"user=alice"}}`)
		if dryRun {
			require.Contains(t, c.message(wire.EventText), `"connect":{`)
			require.EqualValues(t, 1, r.shard.Stats().Exceeded[QuotaUserConnections].Load())
			continue
		}
		code, _ := c.closed()
		require.EqualValues(t, 3504, code)
		raw := r.open()
		raw.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=public.a&token=user=alice", "", testKey))
		status, body := raw.response()
		require.Equal(t, 429, status, body)
		require.NoError(t, first.conn.Close())
		eventually(t, "the first has gone", func() bool { return r.shard.Stats().Clients.Load() == 2 })
		r.login("user=alice")
		require.EqualValues(t, 2, r.shard.Stats().Exceeded[QuotaUserConnections].Load())
	}
}
