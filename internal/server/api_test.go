package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"wsd/internal/testutil"
)

const apiKey = "0123456789abcdef0123456789abcdef"

// apiFlags are flags of a server whose clients have tokens, and whose API has a key; keys of records are channels.
func apiFlags(more map[string]any) map[string]any {
	flags := tokenFlags(map[string]any{
		"api.keys": []string{apiKey}, "routes": []string{"a={key}"}, "auth.rules": []string{"public*=all"},
		"publish.rules": []string{"public*=all"}, // So that subscribers get tags of the topic's records.

		"kafka.partitioner": "murmur2",
	})
	for k, v := range more {
		flags[k] = v
	}
	return flags
}

// api makes a request of the server API, on the admin port.
func (r *rig) api(method, params string) string {
	r.t.Helper()
	status, body := post(r.t, new(http.Transport), "http://"+r.server.AdminAddress()+"/api/"+method, apiKey, params)
	require.Equal(r.t, http.StatusOK, status, body)
	return body
}

func post(t testing.TB, by http.RoundTripper, url, key, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("X-API-Key", key)
	res, err := by.RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(text)
}

// resultOf is what a response has as its result.
func resultOf[T any](t testing.TB, body string) (result T) {
	t.Helper()
	var r struct {
		Error  json.RawMessage
		Result T
	}
	require.NoError(t, json.Unmarshal([]byte(body), &r), body)
	require.Empty(t, r.Error, body)
	return r.Result
}

// A backend publishes, reads what it published, and acts on a user's clients.
func TestAPI(t *testing.T) {
	r := newRig(t, apiFlags(map[string]any{"auth.user_channel": "#{sub}"}))
	r.ready()
	c, reply := r.login(tokenFor(t, "sub", "alice"))
	require.Contains(t, reply, `"#alice":{"recoverable":true`)

	at := resultOf[struct {
		Offset uint64
		Epoch  string
	}](t, r.api("publish", `{"channel":"#alice","data":{"n":1},"tags":{"k":"v"},"idempotency_key":"1"}`))
	require.EqualValues(t, 1, at.Offset)
	require.NotEmpty(t, at.Epoch)
	require.JSONEq(t, `{"push":{"channel":"#alice","pub":{"data":{"n":1},"offset":1,"tags":{"k":"v"}}}}`, c.message())
	require.JSONEq(t, fmt.Sprintf(`{"result":{"offset":1,"epoch":%q}}`, at.Epoch),
		r.api("publish", `{"channel":"#alice","data":{"n":1},"idempotency_key":"1"}`), "the same key")
	broadcast := r.api("broadcast", `{"channels":["#alice","public.x"],"data":{"n":2}}`)
	require.Equal(t, 2, strings.Count(broadcast, `"result":{"offset"`), broadcast)
	require.Contains(t, c.message(), `"data":{"n":2}`)
	history := r.api("history", `{"channel":"#alice","limit":10}`)
	require.Contains(t, history, `"publications":[{"data":{"n":1},"offset":1,"tags":{"k":"v"}},{"data":{"n":2},"offset":`)
	require.Contains(t, r.api("history", `{"channel":"#alice","limit":1,"reverse":true}`), `"publications":[{"data":{"n":2}`)
	require.Contains(t, r.api("history", `{"channel":"#alice","since":{"offset":1,"epoch":"`+at.Epoch+`"},"limit":10}`), `"publications":[{"data":{"n":2}`)
	require.Contains(t, r.api("history", `{"channel":"#alice"}`), `"publications":[]`)
	require.Contains(t, r.api("history", `{"channel":"#alice","since":{"offset":1,"epoch":"other"},"limit":10}`), `"code":112`)

	require.JSONEq(t, `{"result":{"scope":"node"}}`, r.api("subscribe", `{"user":"alice","channel":"secret","data":{"hello":1}}`))
	require.Contains(t, c.message(), `"subscribe":{`)
	r.produce("a", "secret", `{"n":3}`)
	require.Contains(t, c.message(), `"data":{"n":3}`)
	require.Contains(t, r.api("channels", `{"pattern":"secr*"}`), `{"channels":{"secret":{"num_clients":1}},"scope":"node"}`)
	info := r.api("info", `{}`)
	require.Contains(t, info, `"num_clients":1,"num_users":1,"num_subs":2,"num_channels":2`)
	require.JSONEq(t, `{"result":{"scope":"node"}}`, r.api("unsubscribe", `{"user":"alice","channel":"secret"}`))
	require.Contains(t, c.message(), `"unsubscribe":{"code":2000`)
	require.JSONEq(t, `{"result":{"scope":"node"}}`, r.api("disconnect", `{"user":"alice","disconnect":{"code":4001,"reason":"bye"}}`))
	_, err := c.raw()
	require.Equal(t, 4001, closeCode(err))

	code, document := r.get("/api/openapi.json")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, document, `"openapi": "3`)
	_, text := r.get("/metrics")
	for _, line := range []string{
		`wsd_api_commands_total{method="disconnect"} 1`, `wsd_api_errors_total{code="112"} 1`,
		`wsd_order_changes_total{order="subscribe"} 1`, `wsd_api_unauthorized_total 0`,
	} {
		require.Contains(t, text, line)
	}
}

// Without a key there is no server API, also for those who guess.
func TestNoAPI(t *testing.T) {
	r := newRig(t, nil)
	status, _ := post(t, new(http.Transport), "http://"+r.server.AdminAddress()+"/api/publish", "", `{}`)
	require.Equal(t, http.StatusNotFound, status)
}

// certificate returns a certificate for localhost and its key, in PEM form.
func certificate(t testing.TB) (cert, key []byte) {
	t.Helper()
	made := testutil.Certificate("localhost")
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// The API has a listener of its own, with TLS; keys and certificates are read again when their files change.
func TestAPIListener(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t)
	pair, keys := filepath.Join(dir, "pair.pem"), filepath.Join(dir, "keys")
	require.NoError(t, os.WriteFile(pair, slices.Concat(cert, key), 0o600))
	require.NoError(t, os.WriteFile(keys, []byte("first-key-first-key\n"), 0o600))
	r := newRig(t, map[string]any{"api.keys_file": keys, "api.listen": "127.0.0.1:0", "api.tls.certificates": []string{pair}})
	ask := func(cert []byte, key string) (status int, err error) {
		pool := x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(cert))
		by := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
		defer by.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+r.server.APIAddress()+"/api/info", http.NoBody)
		require.NoError(t, err)
		req.Header.Set("Authorization", "apikey "+key)
		res, err := by.RoundTrip(req)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	status, err := ask(cert, "first-key-first-key")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	status, err = ask(cert, "second-key-second-key")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)
	code, _ := post(t, new(http.Transport), "http://"+r.server.AdminAddress()+"/api/info", "first-key-first-key", "")
	require.Equal(t, http.StatusNotFound, code, "the admin port does not serve it")

	require.NoError(t, os.WriteFile(keys, []byte("second-key-second-key methods=info\n"), 0o600))
	r.eventually("the new key is accepted", func() bool { status, _ := ask(cert, "second-key-second-key"); return status == 200 })
	status, err = ask(cert, "first-key-first-key")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)
	other, otherKey := certificate(t)
	require.NoError(t, os.WriteFile(pair, slices.Concat(other, otherKey), 0o600))
	r.eventually("the new certificate is used", func() bool { _, err := ask(other, "second-key-second-key"); return err == nil })
	_, err = ask(cert, "second-key-second-key")
	require.Error(t, err)
}

// beside starts another wsd on the same Kafka.
func (r *rig) beside(flags map[string]any) *rig {
	r.t.Helper()
	flags["kafka.brokers"] = r.kafka.ListenAddrs()
	other := &rig{t: r.t, kafka: r.kafka, producer: r.producer, log: &testutil.Buffer{}}
	other.start(configure(r.t, flags))
	return other
}

// With a topic of commands, a command that one machine gets reaches clients of all machines.
func TestCommandsReachOtherMachines(t *testing.T) {
	flags := func() map[string]any { return apiFlags(map[string]any{"commands.topic": "commands"}) }
	one := newRig(t, flags(), kfake.SeedTopics(3, "commands"))
	two := one.beside(flags())
	one.ready()
	two.ready()
	here, hereReply := one.login(tokenFor(t, "sub", "alice"))
	there, _ := two.login(tokenFor(t, "sub", "alice"))
	other, _ := two.login(tokenFor(t, "sub", "bob"))

	require.JSONEq(t, `{"result":{"scope":"cluster"}}`, one.api("subscribe", `{"user":"alice","channel":"c"}`))
	for _, c := range []*client{here, there} {
		require.Contains(t, c.message(), `"subscribe":{`)
	}
	require.Contains(t, two.api("publish", `{"channel":"c","data":1}`), `"offset":1`)
	for _, c := range []*client{here, there} {
		require.Contains(t, c.message(), `"pub":{"data":1,"offset":1}`)
	}
	var reply struct{ Connect struct{ Client string } }
	require.NoError(t, json.Unmarshal([]byte(hereReply), &reply))
	require.JSONEq(t, `{"result":{"scope":"node"}}`, one.api("refresh", `{"client":"`+reply.Connect.Client+`","expire_at":4000000000}`),
		"it is known to be of this machine")
	require.Contains(t, here.message(), `"refresh":{"expires":true`)
	require.JSONEq(t, `{"result":{"scope":"cluster"}}`, two.api("disconnect", `{"client":"`+reply.Connect.Client+`"}`))
	_, err := here.raw()
	require.Equal(t, 3503, closeCode(err))
	require.JSONEq(t, `{"result":{"scope":"cluster"}}`, one.api("disconnect", `{"user":"alice"}`))
	_, err = there.raw()
	require.Equal(t, 3503, closeCode(err))
	require.Contains(t, other.ask(`{"id":9,"subscribe":{"channel":"public"}}`), `"id":9`, "another user is not concerned")

	one.eventually("every command is applied once", func() bool {
		_, text := one.get("/metrics")
		return strings.Contains(text, `wsd_cluster_commands_total{result="applied"} 3`) &&
			strings.Contains(text, "wsd_cluster_commands_sent_total 2") && strings.Contains(text, "wsd_cluster_commands_late 0")
	})
}

// A node that cannot read the topic of commands says so, and what it cannot write is an error.
func TestCommandsTopicIsMissing(t *testing.T) {
	r := newRig(t, apiFlags(map[string]any{"commands.topic": "nowhere", "commands.timeout": "500ms", "publish.timeout": "1s"}))
	r.eventually("the health says that commands are late", func() bool {
		h := r.server.Health()
		return h.Status == "degraded" && slices.ContainsFunc(h.Reasons, func(why string) bool {
			return strings.Contains(why, "commands of other machines are late: topic nowhere")
		})
	})
	require.Contains(t, r.api("disconnect", `{"user":"alice"}`), `{"error":{"code":100,"message":"internal server error: `)
	_, text := r.get("/metrics")
	require.Contains(t, text, "wsd_cluster_commands_late 1")
}
