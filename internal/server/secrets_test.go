package server

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"wsd/internal/config"
)

// secrets are what must be found in no text.
type secrets struct {
	t    *testing.T
	list []string
}

// add adds a token, and its parts.
func (s *secrets) add(token string) string {
	s.list = append(s.list, token)
	for part := range strings.SplitSeq(token, ".") {
		if len(part) >= 12 {
			s.list = append(s.list, part[:12])
		}
	}
	return token
}

// absent checks that none is in a text.
func (s *secrets) absent(where, text string) {
	s.t.Helper()
	for _, one := range s.list {
		require.NotContains(s.t, text, one, where)
	}
}

// A whole run at debug, with tokens at every place where one may come, good and bad, and with everything that can be
// wrong with keys: neither the log nor health or metrics have a token, a part of one, a secret or a payload.
func TestNothingSecretIsShown(t *testing.T) {
	const payload, query, password, user = "payload-7c1f", "query-secret-5e0a", "password-93bd", "user-of-a-token"
	s := &secrets{t: t, list: []string{tokenSecret, payload, query, password, user}}
	issuer := httptest.NewTLSServer(http.NotFoundHandler()) // Its certificate is not trusted.
	t.Cleanup(issuer.Close)
	flags := tokenFlags(map[string]any{
		"log.level": "debug", "shutdown.drain": "100ms", "auth.expiry_grace": "0s", "auth.issuer": "me",
		"auth.jwks_url": issuer.URL + "/keys?secret=" + query, "overrides.enabled": true,
		"limits.address_token_failures": "0",
	})
	r, _ := newTLSRig(t, flags)
	token := func(claims ...any) string { return s.add(tokenFor(t, append([]any{"iss", "me"}, claims...)...)) }
	good := token("sub", user)
	parts := strings.Split(good, ".")
	encode := base64.RawURLEncoding.EncodeToString
	key, _ := ecKey(t, "other")
	bad := []string{
		good + "x", parts[0] + "." + parts[1] + ".", parts[0] + "." + parts[1], good + "." + good,
		encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		encode([]byte(`{"alg":"HS256","kid":"../../etc/passwd"}`)) + "." + parts[1] + "." + parts[2],
		signed(t, jwt.SigningMethodES256, key, "kid", "sub", user), token("sub", user, "exp", 1), token("sub", 1),
		token("sub", user, "nbf", 1<<33), token("sub", user, "iss", "other"), token("sub", user, "channel", "$x"),
		token("sub", user, "info", strings.Repeat(payload, 1000)), token("sub", user, "channels", []int{1}),
	}
	for _, one := range bad {
		s.add(one)
	}
	address := r.server.Addresses()[0].String()
	for _, one := range append([]string{good}, bad...) {
		for _, path := range []string{"/ws?channel=a", "/ws?channel=user.bob", "/connection/websocket", "/none"} {
			for _, d := range []ws.Dialer{
				{Header: ws.HandshakeHeaderHTTP{"Authorization": {"Bearer " + one}}},
				{Header: ws.HandshakeHeaderHTTP{"Authorization": {one}, "Cookie": {"token=" + one}}},
				{Protocols: []string{"wsd.raw", "wsd.token." + one}}, {Protocols: []string{"wsd.token." + one}},
				{Protocols: []string{"wsd.raw"}},
			} {
				for _, query := range []string{"", "&token=" + one, "&token=" + one + "%zz", "&channel=" + one} {
					full := "ws://" + address + path + query
					if !strings.Contains(path, "?") {
						full = "ws://" + address + path + strings.Replace(query, "&", "?", 1)
					}
					if conn, _, _, err := d.Dial(t.Context(), full); err == nil {
						_ = conn.Close()
					}
				}
			}
		}
		for _, first := range []string{
			`{"id":1,"connect":{"token":%q}}`, `{"id":1,"connect":{"token":%q}`, `{"id":1,"connect":%q}`,
			`{"id":1,"refresh":{"token":%q}}`, `{"id":1,"rpc":{"method":%q}}`, `%s`,
		} {
			c := r.dial("/connection/websocket")
			c.send(fmt.Sprintf(first, one))
			_, _ = c.raw()
		}
		// Where a client is connected already.
		for _, next := range []string{
			`{"id":2,"refresh":{"token":%q}}`, `{"id":2,"subscribe":{"channel":"$x","token":%q}}`,
			`{"id":2,"sub_refresh":{"channel":"$x","token":%q}}`, `{"id":2,"sub_refresh":{"token":%q}}`,
			`{"id":2,"connect":{"token":%q}}`, `{"id":2,"subscribe":{"channel":%q}}`, `{"id":2,"publish":{"data":%q}}`,
		} {
			c, reply := r.login(good)
			require.Contains(t, reply, `"connect":{`)
			c.send(fmt.Sprintf(`{"id":9,"subscribe":{"channel":"$x","token":%q}}`, token("sub", user, "channel", "$x")))
			c.send(fmt.Sprintf(next, one))
			_, _ = c.raw()
			_, _ = c.raw()
		}
	}
	for _, value := range []string{`{"` + payload + `"}`, payload, `{"x":"` + payload + `"}`} {
		r.produce("a", payload, value)
	}
	if c, err := tls.Dial("tcp", r.tlsAddress(), &tls.Config{ServerName: "localhost"}); err == nil {
		_ = c.Close() // It does not trust the certificate.
	}
	r.eventually("the key set cannot be fetched", func() bool {
		return strings.Contains(r.log.String(), "cannot fetch the keys")
	})
	for _, path := range []string{"/health", "/metrics", "/api/channels"} {
		_, body := r.get(path)
		for _, one := range s.list[:1] {
			require.NotContains(t, body, one, path)
		}
		require.NotContains(t, body, parts[2][:12], path)
	}
	require.NoError(t, r.stop())
	text := r.log.String()
	require.Contains(t, text, "token refused")
	require.Contains(t, text, "upgrade request refused")
	s.absent("the log", text)

	// What is wrong with the configuration is said without what is secret in it.
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("short-"+password[:8]), 0o600))
	for _, wrong := range []map[string]any{
		{"auth.hmac_secret": password}, {"auth.hmac_secret_file": file, "auth.hmac_secret": nil},
		{"auth.hmac_secret_previous": password[:9]}, {"auth.jwks_url": "https://u:" + password + "@i.example/?k=" + query},
		{"auth.jwks_url": "http://i.example/?k=" + query}, {"auth.jwks_url": "https://[?k=" + query},
		{"auth.public_key_files": []string{file}}, {"kafka.sasl.mechanism": "plain", "kafka.sasl.password": password},
	} {
		all := tokenFlags(map[string]any{"kafka.brokers": []string{"127.0.0.1:1"}, "kafka.topics": []string{"a"}})
		for name, value := range wrong {
			if all[name] = value; value == nil {
				delete(all, name)
			}
		}
		_, err := config.Load(config.Input{Flags: all})
		require.Error(t, err, "%v", wrong)
		for e := err; e != nil; e = errors.Unwrap(e) {
			for _, one := range []string{tokenSecret, password, password[:8], query} {
				require.NotContains(t, e.Error(), one, "%v", wrong)
			}
		}
	}
}
