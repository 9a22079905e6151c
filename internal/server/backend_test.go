package server

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/testutil"
)

// fake is an application's backend on a real HTTP server. Handlers are by path.
type fake struct {
	*httptest.Server
	mu       sync.Mutex
	handlers map[string]func(w http.ResponseWriter, r *http.Request, body map[string]any)
	requests map[string][]map[string]any
}

func newFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{handlers: map[string]func(http.ResponseWriter, *http.Request, map[string]any){}, requests: map[string][]map[string]any{}}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		f.mu.Lock()
		f.requests[r.URL.Path] = append(f.requests[r.URL.Path], body)
		handler := f.handlers[r.URL.Path]
		f.mu.Unlock()
		if handler == nil {
			_, _ = io.WriteString(w, `{"result":{}}`)
			return
		}
		handler(w, r, body)
	}))
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

// on has a path answered.
func (f *fake) on(path string, handler func(w http.ResponseWriter, r *http.Request, body map[string]any)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers[path] = handler
}

// says has a path answered with a text.
func (f *fake) says(path, answer string) {
	f.on(path, func(w http.ResponseWriter, _ *http.Request, _ map[string]any) { _, _ = io.WriteString(w, answer) })
}

// last returns the last request of a path.
func (f *fake) last(path string) map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.requests[path]); n > 0 {
		return f.requests[path][n-1]
	}
	return nil
}

func (f *fake) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests[path])
}

func proxyFlags(f *fake, more map[string]any) map[string]any {
	flags := map[string]any{
		"auth.mode": "proxy", "proxy.connect_endpoint": f.URL + "/connect", "proxy.subscribe_endpoint": f.URL + "/subscribe",
		"rpc.endpoint":  []string{"sum=" + f.URL + "/sum", "slow.*=" + f.URL + "/slow"},
		"send.endpoint": f.URL + "/send", "proxy.timeout": "10s", "proxy.include_meta": "true",
		"proxy.headers": []string{"X-Real-Ip"}, "proxy.static_headers": []string{"X-Key=hush"},
		"auth.rules": []string{"a=user", "ask.*=proxy"},
	}
	maps.Copy(flags, more)
	return flags
}

// A backend in the form of Centrifugo's proxy says who clients are and what they may have, and answers their calls.
func TestBackend(t *testing.T) {
	f := newFake(t)
	f.Start()
	f.says("/connect", `{"result":{"user":"ada","meta":{"tier": "gold"},"data":{"motd":"hi"},"channels":["a"]}}`)
	f.on("/sum", func(w http.ResponseWriter, r *http.Request, body map[string]any) {
		n := 0.0
		for _, v := range body["data"].([]any) {
			n += v.(float64)
		}
		fmt.Fprintf(w, "{\"result\": {\"data\": {\n\"sum\": %v, \"key\": %q}}}", n, r.Header.Get("X-Key"))
	})
	f.says("/subscribe", `{"result":{"data":{"topic":"math"}}}`)
	r := newRig(t, proxyFlags(f, nil))
	r.ready()
	c := r.dial("/connection/websocket")
	reply := c.ask(`{"id":1,"connect":{"name":"js","data":{"cookie":"c"}}}`)
	require.Contains(t, reply, `"data":{"motd":"hi"}`)
	require.Contains(t, reply, `"subs":{"a":{`)
	connect := f.last("/connect")
	client := connect["client"]
	require.Len(t, client, 32)
	require.Contains(t, reply, client)
	require.Equal(t, map[string]any{"client": client, "transport": "websocket", "protocol": "json", "encoding": "json",
		"name": "js", "data": map[string]any{"cookie": "c"}}, connect)

	require.Equal(t, `{"id":2,"rpc":{"data":{"sum":6,"key":"hush"}}}`, c.ask(`{"id":2,"rpc":{"method":"sum","data":[1,2,3]}}`))
	require.Equal(t, map[string]any{"client": client, "transport": "websocket", "protocol": "json", "encoding": "json",
		"user": "ada", "method": "sum", "data": []any{1.0, 2.0, 3.0}, "meta": map[string]any{"tier": "gold"}}, f.last("/sum"))
	require.Equal(t, `{"id":3,"error":{"code":104,"message":"method not found"}}`, c.ask(`{"id":3,"rpc":{"method":"other"}}`))

	require.Contains(t, c.ask(`{"id":4,"subscribe":{"channel":"ask.math","data":{"p":1}}}`), `"data":{"topic":"math"}`)
	require.Equal(t, "ask.math", f.last("/subscribe")["channel"])
	require.Equal(t, "ada", f.last("/subscribe")["user"])
	f.says("/subscribe", `{"error":{"code":1042,"message":"members only"}}`)
	require.Equal(t, `{"id":5,"error":{"code":1042,"message":"members only"}}`, c.ask(`{"id":5,"subscribe":{"channel":"ask.art"}}`))
	require.Contains(t, c.ask(`{"id":6,"subscribe":{"channel":"other"}}`), `"code":103`)

	c.send(`{"send":{"data":{"typing":true}}}`)
	r.eventually("it is sent", func() bool { return f.last("/send") != nil })
	require.Equal(t, map[string]any{"typing": true}, f.last("/send")["data"])
	r.eventually("it is counted", func() bool {
		return r.metric(`wsd_sends_total{result="taken",shard="0"}`)+r.metric(`wsd_sends_total{result="taken",shard="1"}`)+
			r.metric(`wsd_sends_total{result="taken",shard="2"}`) == 1
	})
	r.produce("a", "", `{"n":1}`)
	require.JSONEq(t, `{"n":1}`, string(c.publication().Push.Pub.Data))

	f.says("/sum", `{"disconnect":{"code":4444,"reason":"bye"}}`)
	c.send(`{"id":7,"rpc":{"method":"sum","data":[]}}`)
	_, err := c.raw()
	require.Equal(t, 4444, closeCode(err))
	require.Equal(t, 1, r.metric(`wsd_proxy_calls_total{kind="rpc",result="ok"}`))
	require.Equal(t, 1, r.metric(`wsd_proxy_calls_total{kind="rpc",result="disconnect"}`))
	require.Equal(t, 1, r.metric(`wsd_proxy_calls_total{kind="rpc",result="no_endpoint"}`))
	require.Equal(t, 1, r.metric(`wsd_proxy_calls_total{kind="subscribe",result="error"}`))
	require.Equal(t, 3, r.metric(`wsd_proxy_call_seconds_count{kind="rpc"}`))
	require.NotContains(t, r.log.String(), "hush")
}

// A backend that is away gives clients errors after which they try again, and that is all.
func TestBackendAway(t *testing.T) {
	f := newFake(t)
	f.Start()
	f.says("/connect", `{"result":{"user":"ada"}}`)
	r := newRig(t, proxyFlags(f, map[string]any{"proxy.timeout": "500ms"}))
	c := r.dial("/connection/websocket")
	require.Contains(t, c.ask(`{"id":1,"connect":{}}`), `"connect":{`)
	const again = `"error":{"code":100,"message":"internal server error","temporary":true}}`
	f.on("/slow", func(_ http.ResponseWriter, r *http.Request, _ map[string]any) { <-r.Context().Done() })
	require.Equal(t, `{"id":2,`+again, c.ask(`{"id":2,"rpc":{"method":"slow.a","data":1}}`), "a timeout")
	for i, answer := range []string{"<html>", `{"result":5}`, strings.Repeat("x", 2<<20), `{"ok":true}`} {
		f.says("/sum", answer)
		require.Equal(t, `{"id":3,`+again, c.ask(`{"id":3,"rpc":{"method":"sum","data":1}}`), i)
	}
	f.CloseClientConnections()
	f.Close()
	unreachable := func() int { return r.metric(`wsd_proxy_calls_total{kind="rpc",result="unreachable"}`) }
	for unreachable() == 0 { // The first ones may find connections from before.
		require.Equal(t, `{"id":4,`+again, c.ask(`{"id":4,"rpc":{"method":"sum","data":1}}`))
	}
	require.Equal(t, `{"id":5,`+again, c.ask(`{"id":5,"subscribe":{"channel":"ask.x"}}`))
	other := r.dial("/connection/websocket")
	require.Equal(t, `{"id":1,`+again, other.ask(`{"id":1,"connect":{}}`))
	require.Contains(t, c.ask(`{"id":6,"subscribe":{"channel":"a"}}`), `"subscribe":{`, "what needs no backend goes on")
	require.Contains(t, r.log.String(), "a call of the backend failed")
	require.Equal(t, 1, r.metric(`wsd_proxy_calls_total{kind="rpc",result="timeout"}`))
	require.Equal(t, 3, r.metric(`wsd_proxy_calls_total{kind="rpc",result="malformed"}`))
	require.Equal(t, 1, r.metric(`wsd_proxy_calls_total{kind="rpc",result="too_large"}`))
	require.Equal(t, unreachable(), r.metric(`wsd_proxy_retries_total{kind="rpc"}`), "only what was refused before anything was sent")
}

// A client that goes cancels its calls, and so does a server that stops.
func TestBackendCallsEnd(t *testing.T) {
	f := newFake(t)
	f.Start()
	f.says("/connect", `{"result":{"user":"ada"}}`)
	ended := make(chan struct{}, 10)
	f.on("/slow", func(_ http.ResponseWriter, r *http.Request, _ map[string]any) {
		<-r.Context().Done()
		ended <- struct{}{}
	})
	r := newRig(t, proxyFlags(f, nil))
	wait := func() {
		select {
		case <-ended:
		case <-time.After(waitMax):
			require.Fail(t, "the call goes on")
		}
	}
	for i := range 2 {
		c := r.dial("/connection/websocket")
		require.Contains(t, c.ask(`{"id":1,"connect":{}}`), `"connect":{`)
		c.send(`{"id":2,"rpc":{"method":"slow.a"}}`)
		r.eventually("it is under way", func() bool { return f.count("/slow") == i+1 })
		if i == 0 {
			require.NoError(t, c.conn.Close())
			wait()
			r.eventually("it is counted", func() bool { return r.metric(`wsd_proxy_calls_total{kind="rpc",result="canceled"}`) == 1 })
			continue
		}
		require.NoError(t, r.stop())
		wait()
	}
}

// Beside tokens, the backend is asked about clients without one, over TLS.
func TestBackendBesideTokens(t *testing.T) {
	f := newFake(t)
	f.StartTLS()
	f.says("/connect", `{"result":{"user":"ada"}}`)
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	require.NoError(t, os.WriteFile(file, block, 0o600))
	flags := proxyFlags(f, map[string]any{"auth.mode": "token", "auth.hmac_secret": tokenSecret, "proxy.ca_file": file})
	r := newRig(t, flags)
	c, reply := r.login(tokenFor(t, "sub", "bob", "meta", map[string]any{"m": 1}))
	require.Contains(t, reply, `"expires":true`)
	require.Zero(t, f.count("/connect"))
	c.ask(`{"id":2,"rpc":{"method":"sum"}}`)
	require.Equal(t, "bob", f.last("/sum")["user"])
	require.Equal(t, map[string]any{"m": 1.0}, f.last("/sum")["meta"])
	c, reply = r.login("")
	require.Contains(t, reply, `"connect":{`)
	c.ask(`{"id":2,"rpc":{"method":"sum"}}`)
	require.Equal(t, "ada", f.last("/sum")["user"])
	bad := r.dial("/connection/websocket")
	bad.send(`{"id":1,"connect":{"token":"x.y.z"}}`)
	_, err := bad.raw()
	require.Equal(t, 3500, closeCode(err))
	require.Equal(t, 1, f.count("/connect"))
	raw := r.dial("/ws?channel=a")
	_ = raw
	require.Equal(t, 2, f.count("/connect"), "raw clients are asked about, too")
}

// What clients send goes to a topic, in order, with who sent it.
func TestSendToTopic(t *testing.T) {
	r := newRig(t, tokenFlags(map[string]any{"send.topic": "sent"}), kfake.SeedTopics(3, "sent"))
	r.ready()
	c, reply := r.login(tokenFor(t, "sub", "alice"))
	require.Contains(t, reply, `"connect":{`)
	for i := range 10 {
		c.send(fmt.Sprintf(`{"send":{"data":{"n":%d}}}`, i))
	}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.ListenAddrs()...), kgo.ConsumeTopics("sent"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer consumer.Close()
	var got []*kgo.Record
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	for len(got) < 10 {
		fetches := consumer.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		got = append(got, fetches.Records()...)
	}
	for i, record := range got {
		require.Equal(t, fmt.Sprintf(`{"n":%d}`, i), string(record.Value))
		require.Equal(t, got[0].Partition, record.Partition)
		require.Contains(t, reply, `"client":"`+string(record.Key)+`"`)
		require.Equal(t, []kgo.RecordHeader{{Key: "wsd-client", Value: record.Key}, {Key: "wsd-user", Value: []byte("alice")}}, record.Headers)
	}
	r.eventually("they are counted", func() bool {
		n := 0
		for i := range 3 {
			n += r.metric(fmt.Sprintf(`wsd_sends_total{result="taken",shard="%d"}`, i))
		}
		return n == 10
	})
	r.kafka.Close()
	c.send(`{"send":{"data":"late"}}`)
	r.eventually("Kafka is away", func() bool {
		n := 0
		for i := range 3 {
			n += r.metric(fmt.Sprintf(`wsd_sends_total{result="failed",shard="%d"}`, i))
		}
		return n == 1
	})
}

// Protobuf clients send and get any bytes with proxy.binary_encoding; it is refused where they cannot be sent.
func TestBackendBinary(t *testing.T) {
	f := newFake(t)
	f.Start()
	f.on("/sum", func(w http.ResponseWriter, _ *http.Request, body map[string]any) {
		fmt.Fprintf(w, `{"result":{"b64data":%q}}`, body["b64data"])
	})
	rpc := []byte{13, 8, 2, 0x6a, 9, 10, 2, 0, 255, 18, 3, 's', 'u', 'm'} // id 2, rpc{data: 00 ff, method: sum}
	for binary, want := range map[string]string{"true": "\x00\xff", "false": "bad request"} {
		r := newRig(t, map[string]any{"rpc.endpoint": []string{"*=" + f.URL + "/sum"}, "proxy.binary_encoding": binary})
		c := r.dial("/connection/websocket?cf_protocol=protobuf")
		require.NoError(t, wsutil.WriteClientBinary(c.conn, []byte{4, 8, 1, 0x22, 0}))
		_, err := c.raw()
		require.NoError(t, err)
		require.NoError(t, wsutil.WriteClientBinary(c.conn, rpc))
		got, err := c.raw()
		require.NoError(t, err)
		require.Contains(t, got, want)
	}
}

// A file of authorities that has changed is in use with the next connection.
func TestBackendAuthorities(t *testing.T) {
	f := newFake(t)
	f.StartTLS()
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	f.says("/connect", `{"result":{"user":"ada"}}`)
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(der []byte) {
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	}
	write(testutil.Certificate("other.example").Leaf.Raw)
	r := newRig(t, proxyFlags(f, map[string]any{"proxy.ca_file": file}))
	require.Contains(t, r.dial("/connection/websocket").ask(`{"id":1,"connect":{}}`), `"code":100`)
	require.Equal(t, 1, r.metric(`wsd_proxy_calls_total{kind="connect",result="unreachable"}`))
	write(f.Certificate().Raw)
	require.Contains(t, r.dial("/connection/websocket").ask(`{"id":1,"connect":{}}`), `"connect":{`)
}

// Clients leave open files for calls of the backend.
func TestBackendHasFiles(t *testing.T) {
	f := newFake(t)
	f.Start()
	r := newRig(t, proxyFlags(f, map[string]any{"proxy.concurrency": "4096"}))
	require.EqualValues(t, 4*4096, r.server.backend.connections(), "connect, subscribe, rpc and send")
	require.InDelta(t, connectionsMax(4*4096), r.server.descriptors.Max, 500)
	require.Zero(t, (*backend)(nil).connections())
}
