package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

const tokenSecret = "hush-hush-0123456789-0123456789-x"

// tokenFor makes a token by the secret, with claims as pairs of name and value.
func tokenFor(t testing.TB, claims ...any) string {
	t.Helper()
	return signed(t, jwt.SigningMethodHS256, []byte(tokenSecret), "", claims...)
}

func signed(t testing.TB, method jwt.SigningMethod, key any, kid string, claims ...any) string {
	t.Helper()
	c := jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix()}
	for i := 0; i < len(claims); i += 2 {
		c[claims[i].(string)] = claims[i+1]
	}
	token := jwt.NewWithClaims(method, c)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

func tokenFlags(more map[string]any) map[string]any {
	flags := map[string]any{
		"auth.mode": "token", "auth.hmac_secret": tokenSecret,
		"auth.rules": []string{"a=user", "public.*=all", "user.{sub}=user", "team.*=claim:teams", "$*=token"},
	}
	maps.Copy(flags, more)
	return flags
}

// login connects with a token and returns the reply.
func (r *rig) login(token string) (*client, string) {
	r.t.Helper()
	c := r.dial("/connection/websocket")
	c.send(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, token))
	return c, c.reply()
}

func (c *client) ask(command string) string {
	c.t.Helper()
	c.send(command)
	return c.reply()
}

func closeCode(err error) int {
	if e, ok := errors.AsType[wsutil.ClosedError](err); ok {
		return int(e.Code)
	}
	return 0
}

func TestTokens(t *testing.T) {
	r := newRig(t, tokenFlags(map[string]any{"overrides.enabled": true, "log.level": "debug"}))
	r.ready()
	alice := tokenFor(t, "sub", "alice", "teams", []string{"team.red"})
	c, reply := r.login(alice)
	require.Regexp(t, `"expires":true,"ttl":3\d{3}`, reply)
	for channel, allowed := range map[string]bool{
		"a": true, "public.x": true, "user.alice": true, "user.bob": false, "team.red": true, "team.blue": false, "$x": false, "other": false,
	} {
		reply := c.ask(fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, channel))
		require.Equal(t, allowed, strings.Contains(reply, `"subscribe":{`), "%s: %s", channel, reply)
		reply = c.ask(fmt.Sprintf(`{"id":2,"history":{"channel":%q,"limit":1}}`, channel))
		require.Equal(t, allowed, !strings.Contains(reply, `"code":103`), "%s: %s", channel, reply)
	}
	token := tokenFor(t, "sub", "alice", "channel", "$x")
	require.Contains(t, c.ask(fmt.Sprintf(`{"id":3,"subscribe":{"channel":"$x","token":%q}}`, token)), `"expires":true`)
	require.NoError(t, r.producer.ProduceSync(t.Context(), &kgo.Record{
		Topic: "a", Value: []byte(`{"to":"alice"}`), Headers: []kgo.RecordHeader{{Key: "wsd-user", Value: []byte("alice")}},
	}).FirstErr())
	require.Equal(t, `{"push":{"message":{"data":{"to":"alice"}}}}`, c.reply())

	_, reply = r.login(tokenFor(t, "sub", "alice", "exp", 1))
	require.Contains(t, reply, `"code":109`)
	_, reply = r.login("")
	require.Contains(t, reply, `"code":101`)
	bad := r.dial("/connection/websocket")
	bad.send(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, alice+"x"))
	_, err := bad.raw()
	require.Equal(t, 3500, closeCode(err), err)
	for path, status := range map[string]int{
		"/ws?channel=a&token=" + alice: 0, "/ws?channel=a": 401, "/ws?channel=user.bob&token=" + alice: 403, "/ws?channel=a&token=" + alice + "x": 401,
		"/ws?channel=a&token=" + alice + "%zz": 400,
	} {
		conn, _, _, err := ws.Dialer{}.Dial(t.Context(), "ws://"+r.server.Addresses()[0].String()+path)
		if status == 0 {
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			continue
		}
		require.Equal(t, ws.StatusError(status), err, path)
	}
	for _, broken := range []string{`{"id":1,"connect":{"token":"` + alice, `{"id":1,"connect":{"token":` + alice + `}}`, `{"id":1,"connect":"` + alice + `"}`} {
		c := r.dial("/connection/websocket")
		c.send(broken)
		_, err := c.raw()
		require.Equal(t, 3501, closeCode(err), err)
		require.NotContains(t, err.Error(), alice[:20])
	}
	require.Equal(t, "token", r.server.Health().Auth)
	require.Equal(t, 1, r.metric(`wsd_tokens_total{result="expired"}`))
	require.GreaterOrEqual(t, r.metric(`wsd_tokens_total{result="signature"}`), 2)
	require.NoError(t, r.stop())

	// No token, no part of one, no secret, no user and no payload is in the log of the whole run, at debug.
	text := r.log.String()
	require.Contains(t, text, "level=DEBUG")
	require.Contains(t, text, "token refused")
	require.NotContains(t, text, tokenSecret)
	require.NotContains(t, text, `to":"alice`)
	for _, secret := range []string{alice, token} {
		for _, part := range strings.Split(secret, ".") {
			require.NotContains(t, text, part)
		}
	}
	require.NotContains(t, text, "token=e")
}

// The secret is replaced while wsd runs: tokens by the previous one are accepted as long as that is configured.
func TestSecretRotates(t *testing.T) {
	dir := t.TempDir()
	now, previous := filepath.Join(dir, "now"), filepath.Join(dir, "previous")
	write := func(path, text string) {
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	const second, third = "second-secret-0123456789-0123456", "third-secret-0123456789-01234567"
	write(now, tokenSecret+"\n")
	write(previous, second)
	r := newRig(t, map[string]any{
		"auth.mode": "token", "auth.hmac_secret_file": now, "auth.hmac_secret_previous_file": previous, "auth.rules": []string{"*=user"},
	})
	by := func(secret string) string { return signed(t, jwt.SigningMethodHS256, []byte(secret), "", "sub", "u") }
	works := func(secret string) bool {
		c := r.dial("/connection/websocket")
		c.send(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, by(secret)))
		m, err := c.raw()
		return err == nil && strings.Contains(m, `"connect":{`)
	}
	require.True(t, works(tokenSecret))
	require.True(t, works(second))
	require.False(t, works(third))
	write(now, third)
	write(previous, tokenSecret)
	r.eventually("the new secret is in use", func() bool { return works(third) })
	require.True(t, works(tokenSecret))
	require.False(t, works(second))
	write(now, "short")
	r.eventually("a bad one is in the log", func() bool { return strings.Contains(r.log.String(), "last good ones") })
	require.NotContains(t, r.log.String(), "short\"")
	require.True(t, works(third))
}

// issuer serves a key set, and can be down.
type issuer struct {
	*httptest.Server
	mu      sync.Mutex
	body    string
	down    bool
	fetches atomic.Int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.fetches.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.down {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(i.body))
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) set(body string, down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.body, i.down = body, down
}

func ecKey(t *testing.T, kid string) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	public, err := key.PublicKey.Bytes()
	require.NoError(t, err)
	enc := base64.RawURLEncoding.EncodeToString
	return key, fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":%q,"x":"%s","y":"%s"}`, kid, enc(public[1:33]), enc(public[33:]))
}

// A key set is fetched in the background. What it had stays in use while it cannot be fetched, a key that it gets is in
// use soon, and no token causes a fetch.
func TestKeySet(t *testing.T) {
	i := newIssuer(t)
	first, firstJWK := ecKey(t, "one")
	second, secondJWK := ecKey(t, "two")
	i.set("", true)
	r := newRig(t, map[string]any{
		"auth.mode": "token", "auth.jwks_url": i.URL + "/keys?secret=query", "auth.issuer": "https://i.example", "auth.jwks_interval": "1s",
		"auth.rules": []string{"*=user"},
	})
	connect := func(key *ecdsa.PrivateKey, kid, iss string) string {
		c := r.dial("/connection/websocket")
		c.send(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, signed(t, jwt.SigningMethodES256, key, kid, "sub", "u", "iss", iss)))
		m, err := c.raw()
		if err != nil {
			return fmt.Sprint(closeCode(err))
		}
		return m
	}
	const iss, later = "https://i.example", `"code":111`
	require.Contains(t, connect(first, "one", iss), later, "there are no keys yet")
	r.eventually("the failure is in the log", func() bool { return strings.Contains(r.log.String(), "cannot fetch the keys") })
	i.set(`{"keys":[`+firstJWK+`]}`, false)
	r.eventually("the key is in use", func() bool { return strings.Contains(connect(first, "one", iss), `"connect":{`) })
	require.Equal(t, "3500", connect(first, "one", "https://other.example"), "the set is that of its issuer")
	require.Contains(t, connect(second, "two", iss), later)
	require.Contains(t, connect(second, "../../etc/passwd", iss), later)
	i.set("", true)
	failures := strings.Count(r.log.String(), "cannot fetch the keys")
	r.eventually("it is down", func() bool { return strings.Count(r.log.String(), "cannot fetch the keys") > failures })
	require.Contains(t, connect(first, "one", iss), `"connect":{`, "keys stay in use")
	i.set(`{"keys":[`+firstJWK+`,`+secondJWK+`]}`, false)
	r.eventually("the second key is in use", func() bool { return strings.Contains(connect(second, "two", iss), `"connect":{`) })
	require.NotContains(t, r.log.String(), "secret=query")

	before := i.fetches.Load()
	began := time.Now()
	for range 50 {
		connect(second, "unknown", iss)
	}
	most := int64(time.Since(began)/(900*time.Millisecond)) + 1 // What the interval asks for.
	require.LessOrEqual(t, i.fetches.Load()-before, most)
}

// Subscription tokens have keys of their own if these are configured: those of connections do not count for them.
func TestSubscriptionKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	r := newRig(t, tokenFlags(map[string]any{"auth.subscription.public_key_files": []string{file}, "auth.subscription.audience": "sub"}))
	c, _ := r.login(tokenFor(t, "sub", "u"))
	subscribe := func(token string) string {
		return c.ask(fmt.Sprintf(`{"id":2,"subscribe":{"channel":"$x","token":%q}}`, token))
	}
	require.Contains(t, subscribe(tokenFor(t, "sub", "u", "channel", "$x", "aud", "sub")), `"code":103`)
	require.Contains(t, subscribe(signed(t, jwt.SigningMethodES256, key, "", "sub", "u", "channel", "$x")), `"code":103`)
	require.Contains(t, subscribe(signed(t, jwt.SigningMethodES256, key, "", "sub", "u", "channel", "$x", "aud", "sub")), `"subscribe":{`)
}
