package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"wsd/internal/testutil"
)

const waitMax = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, waitMax, time.Millisecond, what)
}

// backend is a real HTTP server.
func backend(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

func newPool(t testing.TB, url string, change func(*Options)) *Pool {
	t.Helper()
	o := Options{
		Timeout: waitMax, Concurrency: 4, WaitingMax: 10, BytesMax: 1 << 20, AnswerBytesMax: 4 << 10, JSONDepthMax: 16,
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, k := range Kinds() {
		o.Endpoints = append(o.Endpoints, Endpoint{Kind: k, Pattern: "*", URL: url})
	}
	if change != nil {
		change(&o)
	}
	p := New(o)
	t.Cleanup(func() {
		p.Close()
		require.Zero(t, p.stats.Bytes.Load(), "bytes of no call")
		require.Zero(t, p.bytes.Load())
		for k := range p.queues {
			require.Zero(t, p.queues[k].running)
			require.Empty(t, p.queues[k].waiting)
			require.Zero(t, p.queues[k].bytes.Load())
		}
	})
	return p
}

// outcome is what Call gives.
type outcome struct {
	a *Answer
	f *Failure
}

func begin(p *Pool, r *Request) (result chan outcome, cancel func()) {
	result = make(chan outcome, 2) // A second answer would be seen by the next test that asks.
	return result, p.Call(r, func(a *Answer, f *Failure) { result <- outcome{a, f} })
}

func get(t testing.TB, result chan outcome) outcome {
	t.Helper()
	select {
	case got := <-result:
		return got
	case <-time.After(waitMax):
		require.Fail(t, "no answer")
		return outcome{}
	}
}

func ask(t testing.TB, p *Pool, r *Request) outcome {
	t.Helper()
	result, _ := begin(p, r)
	return get(t, result)
}

func give(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }
}

// The form of requests is that of Centrifugo's proxy, so that its backends work unchanged.
func TestRequestForm(t *testing.T) {
	bodies := make(chan string, 1)
	headers := make(chan http.Header, 1)
	url := backend(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		bodies <- r.Method + " " + string(text)
		headers <- r.Header
		_, _ = io.WriteString(w, `{"result":{}}`)
	})
	for _, test := range []struct {
		r      Request
		binary bool
		want   string
	}{
		{Request{Kind: KindConnect, Client: "c1", Name: "js", Version: "v5", Data: []byte(`{"a": 1}`), Channels: []string{"x"}}, false,
			`{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","data":{"a":1},"name":"js","version":"v5","channels":["x"]}`},
		{Request{Kind: KindRPC, Client: "c1", User: "42", Method: "sum", Data: []byte(`[1,2]`), Meta: []byte(`{"m":true}`)}, false,
			`{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"42","method":"sum","data":[1,2],"meta":{"m":true}}`},
		{Request{Kind: KindRPC, Client: "c1", Binary: true, Method: "sum", Data: []byte{0, 255}}, true,
			`{"client":"c1","transport":"websocket","protocol":"protobuf","encoding":"binary","user":"","method":"sum","b64data":"AP8="}`},
		{Request{Kind: KindSubscribe, Client: "c1", User: "42", Channel: "chat:1", Token: "t"}, false,
			`{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"42","channel":"chat:1","token":"t"}`},
		{Request{Kind: KindRefresh, Client: "c1", User: "42"}, false,
			`{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"42"}`},
		{Request{Kind: KindSubRefresh, Client: "c1", User: "42", Channel: "chat:1"}, false,
			`{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"42","channel":"chat:1"}`},
	} {
		p := newPool(t, url, func(o *Options) {
			o.Binary, o.Static = test.binary, [][2]string{{"X-Secret", "s"}, {"X-Both", "static"}}
		})
		test.r.Header = [][2]string{{"Cookie", "a=b"}, {"X-Both", "client"}}
		got := ask(t, p, &test.r)
		require.Nil(t, got.f)
		require.True(t, got.a.Given)
		require.Equal(t, "POST "+test.want, <-bodies)
		header := <-headers
		require.Equal(t, "application/json", header.Get("Content-Type"))
		require.Equal(t, "a=b", header.Get("Cookie"))
		require.Equal(t, "s", header.Get("X-Secret"))
		require.Equal(t, "client", header.Get("X-Both"))
	}
}

// What backends do wrong costs the call that it is done to, and nothing else.
func TestBadBackends(t *testing.T) {
	hijack := func(send string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, send)
				_ = conn.Close()
			}
		}
	}
	hang := func(before string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if before != "" {
				_, _ = io.WriteString(w, before)
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		timeout time.Duration
		want    Result
	}{
		"closes at once":    {hijack(""), waitMax, ResultBroken},
		"closes in between": {hijack("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), waitMax, ResultBroken},
		"not HTTP":          {hijack("SSH-2.0-OpenSSH_9.6\r\n"), waitMax, ResultBroken},
		"huge header":       {hijack("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*headerBytesMax) + "\r\n\r\n{}"), waitMax, ResultBroken},
		"hangs":             {hang(""), 20 * time.Millisecond, ResultTimeout},
		"hangs in between":  {hang(`{"result":`), 20 * time.Millisecond, ResultTimeout},
		"huge":              {give(`{"result":{"data":"` + strings.Repeat("x", 5<<10) + `"}}`), waitMax, ResultTooLarge},
		"huge, in chunks": {func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				_, _ = io.WriteString(w, strings.Repeat(" ", 1<<10))
				_ = http.NewResponseController(w).Flush()
			}
		}, waitMax, ResultTooLarge},
		"garbage":    {give("<html>"), waitMax, ResultMalformed},
		"empty":      {give(""), waitMax, ResultMalformed},
		"a list":     {give(`[]`), waitMax, ResultMalformed},
		"wrong type": {give(`{"result":{"b64data":42}}`), waitMax, ResultMalformed},
		"status":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, waitMax, ResultStatus},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, waitMax, ResultStatus},
		"no content":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, waitMax, ResultStatus},
		"deep":        {give(`{"result":{"data":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}}`), waitMax, ResultMalformed},
		"nothing":     {give(`null`), waitMax, ResultMalformed},
		"other keys":  {give(`{"ok":true}`), waitMax, ResultMalformed},
		"bytes":       {give(`{"result":{"b64data":"AP8="}}`), waitMax, ResultMalformed}, // The client speaks JSON.
		"not base64":  {give(`{"result":{"b64data":"!"}}`), waitMax, ResultMalformed},
		"close code":  {give(`{"disconnect":{"code":1000}}`), waitMax, ResultMalformed},
		"error code":  {give(`{"error":{"message":"x"}}`), waitMax, ResultMalformed},
		"not UTF-8":   {give("{\"result\":{\"data\":\"\xff\"}}"), waitMax, ResultMalformed},
		"other texts": {give(`{"result":{}} {}`), waitMax, ResultMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, backend(t, test.handler), func(o *Options) { o.Timeout = test.timeout })
			got := ask(t, p, &Request{Kind: KindRPC, Method: "m", Data: []byte(`{}`)})
			require.Nil(t, got.a)
			require.Equal(t, test.want, got.f.Result, got.f.Error())
			require.EqualValues(t, 1, p.stats.Results[KindRPC][test.want].Load())
			require.Zero(t, p.stats.Retries[KindRPC].Load(), "never a second time")
		})
	}
}

// A request is sent a second time only if nothing of it was sent, or if it is a question.
func TestRetries(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	free := "http://" + l.Addr().String()
	require.NoError(t, l.Close())
	for _, k := range Kinds() {
		p := newPool(t, free, nil)
		require.Equal(t, ResultUnreachable, ask(t, p, &Request{Kind: k}).f.Result)
		require.EqualValues(t, 1, p.stats.Retries[k].Load(), k)
	}
	for _, k := range Kinds() {
		var requests atomic.Int32
		p := newPool(t, backend(t, func(w http.ResponseWriter, _ *http.Request) {
			if requests.Add(1) == 1 { // A backend that restarts.
				conn, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					_ = conn.Close()
				}
				return
			}
			_, _ = io.WriteString(w, `{"result":{}}`)
		}), nil)
		got := ask(t, p, &Request{Kind: k})
		if k == KindRPC || k == KindSend {
			require.Equal(t, ResultBroken, got.f.Result)
			require.EqualValues(t, 1, requests.Load(), "it may have had its effect")
		} else {
			require.Nil(t, got.f)
			require.EqualValues(t, 2, requests.Load())
		}
	}
}

// A backend that comes while a call waits for its second try gets it.
func TestRetryReachesBackend(t *testing.T) {
	var tries atomic.Int32
	url := backend(t, give(`{"result":{"data":1}}`))
	p := newPool(t, url, nil)
	transport := p.client.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = nil
	transport.Dial = func(network, address string) (net.Conn, error) { //nolint:staticcheck // Simple.
		if tries.Add(1) == 1 {
			return nil, &dialError{&net.OpError{Op: "dial", Err: fmt.Errorf("connection refused")}}
		}
		return dial(t.Context(), network, address)
	}
	got := ask(t, p, &Request{Kind: KindRPC, Method: "m"})
	require.Nil(t, got.f)
	require.Equal(t, "1", string(got.a.Data))
}

// gate is a backend that answers when it is opened.
type gate struct {
	mu          sync.Mutex
	now, most   int
	open        chan struct{}
	ended, came atomic.Int32
}

func (g *gate) serve(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // From here on the server notices that its client has gone.
	g.mu.Lock()
	g.now++
	g.most = max(g.most, g.now)
	g.mu.Unlock()
	g.came.Add(1)
	select {
	case <-g.open:
	case <-r.Context().Done():
		g.ended.Add(1)
	}
	g.mu.Lock()
	g.now--
	g.mu.Unlock()
	_, _ = io.WriteString(w, `{"result":{}}`)
}

func TestConcurrencyIsBounded(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	p := newPool(t, backend(t, g.serve), nil)
	var results []chan outcome
	for range 14 {
		result, _ := begin(p, &Request{Kind: KindRPC, Method: "m"})
		results = append(results, result)
	}
	eventually(t, "four are under way", func() bool { return g.came.Load() == 4 })
	require.EqualValues(t, 10, p.stats.Waiting[KindRPC].Load())
	require.EqualValues(t, 4, p.stats.Running[KindRPC].Load())
	require.Equal(t, ResultBusy, ask(t, p, &Request{Kind: KindRPC}).f.Result, "no more may wait")
	other, _ := begin(p, &Request{Kind: KindConnect})
	eventually(t, "other kinds have places of their own", func() bool { return g.came.Load() == 5 })
	close(g.open)
	for _, result := range append(results, other) {
		require.Nil(t, get(t, result).f)
	}
	require.LessOrEqual(t, g.most, 5)
	require.Zero(t, p.stats.Waiting[KindRPC].Load())
	eventually(t, "nothing runs", func() bool { return p.stats.Running[KindRPC].Load() == 0 })
}

// A call that is canceled ends at once, whether it waits or is under way, and the backend notices.
func TestCancel(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	p := newPool(t, backend(t, g.serve), func(o *Options) { o.Concurrency = 1 })
	first, cancelFirst := begin(p, &Request{Kind: KindRPC, Method: "m"})
	eventually(t, "it is under way", func() bool { return g.came.Load() == 1 })
	second, cancelSecond := begin(p, &Request{Kind: KindRPC, Method: "m"})
	third, _ := begin(p, &Request{Kind: KindRPC, Method: "m"})
	cancelSecond()
	cancelSecond()
	require.Equal(t, ResultCanceled, get(t, second).f.Result)
	cancelFirst()
	require.Equal(t, ResultCanceled, get(t, first).f.Result)
	eventually(t, "the backend has noticed", func() bool { return g.ended.Load() == 1 })
	eventually(t, "the third has its place", func() bool { return g.came.Load() == 2 })
	close(g.open)
	require.Nil(t, get(t, third).f)
	cancelFirst()
	require.EqualValues(t, 2, p.stats.Results[KindRPC][ResultCanceled].Load())
}

// The deadline counts from the beginning: a call that waits ends when others take too long.
func TestWaitingTimesOut(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	p := newPool(t, backend(t, g.serve), func(o *Options) { o.Concurrency, o.Timeout = 1, 30*time.Millisecond })
	var results []chan outcome
	for range 5 {
		result, _ := begin(p, &Request{Kind: KindSubscribe, Channel: "a"})
		results = append(results, result)
	}
	for _, result := range results {
		require.Equal(t, ResultTimeout, get(t, result).f.Result)
	}
}

func TestBytesAreBounded(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	p := newPool(t, backend(t, g.serve), func(o *Options) { o.BytesMax = 80 << 10 })
	data := []byte(`"` + strings.Repeat("x", 18<<10) + `"`)
	first, _ := begin(p, &Request{Kind: KindRPC, Data: data})
	second, _ := begin(p, &Request{Kind: KindRPC, Data: data})
	require.Equal(t, ResultBusy, ask(t, p, &Request{Kind: KindRPC, Data: data}).f.Result)
	other, _ := begin(p, &Request{Kind: KindConnect})
	eventually(t, "there is room for other kinds", func() bool { return g.came.Load() == 3 })
	close(g.open)
	require.Nil(t, get(t, other).f)
	require.Equal(t, ResultOK, func() Result {
		for _, result := range []chan outcome{first, second} {
			if f := get(t, result).f; f != nil && f.Result != ResultBusy { // There may be no room for its answer.
				return f.Result
			}
		}
		return ResultOK
	}())
	eventually(t, "nothing is left", func() bool { return p.stats.Bytes.Load() == 0 })
	require.Equal(t, ResultBusy, ask(t, newPool(t, backend(t, give(`{"result":{"data":"`+strings.Repeat("x", 3<<10)+`"}}`)),
		func(o *Options) { o.BytesMax = 1 << 10 }), &Request{Kind: KindRPC}).f.Result, "the answer counts as well")
}

func TestEndpoints(t *testing.T) {
	url := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"result":{"data":%q}}`, r.URL.Path) })
	p := newPool(t, url, func(o *Options) {
		o.Endpoints = []Endpoint{{KindRPC, "orders.list", url + "/list"}, {KindRPC, "orders.*", url + "/orders"}, {KindConnect, "", url + "/c"}}
	})
	for method, want := range map[string]string{"orders.list": `"/list"`, "orders.new": `"/orders"`, "orders.": `"/orders"`} {
		require.Equal(t, want, string(ask(t, p, &Request{Kind: KindRPC, Method: method}).a.Data))
	}
	for _, r := range []Request{{Kind: KindRPC, Method: "orders"}, {Kind: KindRPC}, {Kind: KindSend}} {
		require.Equal(t, ResultNoEndpoint, ask(t, p, &r).f.Result)
	}
	require.Equal(t, ResultBadData, ask(t, p, &Request{Kind: KindRPC, Method: "orders.x", Data: []byte{1}}).f.Result)
	require.True(t, p.Serves(KindConnect))
	require.False(t, p.Serves(KindRefresh))
}

func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(give(`{"result":{}}`))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	require.Equal(t, ResultUnreachable, ask(t, newPool(t, s.URL, nil), &Request{Kind: KindRPC}).f.Result)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	p := newPool(t, s.URL, func(o *Options) {
		o.TLS = func() *tls.Config { return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12} }
	})
	require.Nil(t, ask(t, p, &Request{Kind: KindRPC}).f)
	require.Equal(t, ResultUnreachable, ask(t, newPool(t, strings.Replace(s.URL, "127.0.0.1", "localhost", 1), func(o *Options) {
		o.TLS = p.o.TLS
	}), &Request{Kind: KindRPC}).f.Result, "the certificate is another host's")
}

// Failures are logged at their edges, without what clients sent and without an endpoint's query.
func TestLog(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	url := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, `{"result":{}}`)
	})
	log := &testutil.Buffer{}
	p := newPool(t, url+"/rpc?key=hush", func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	for range 5 {
		ask(t, p, &Request{Kind: KindRPC, Data: []byte(`"private"`), User: "somebody"})
	}
	require.Equal(t, 1, strings.Count(log.String(), "failed\""), log.String())
	require.Contains(t, log.String(), "status 503")
	down.Store(false)
	ask(t, p, &Request{Kind: KindRPC})
	ask(t, p, &Request{Kind: KindRPC})
	require.Equal(t, 1, strings.Count(log.String(), "answers again"))
	require.Contains(t, log.String(), "failed_since=4")
	require.Contains(t, log.String(), "kind=rpc")
	for _, secret := range []string{"hush", "private", "somebody"} {
		require.NotContains(t, log.String(), secret)
	}
}

// Close ends what is under way and what waits, and answers all of it.
func TestClose(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	p := newPool(t, backend(t, g.serve), func(o *Options) { o.Concurrency = 2 })
	var results []chan outcome
	for range 8 {
		result, _ := begin(p, &Request{Kind: KindRPC, Method: "m"})
		results = append(results, result)
	}
	eventually(t, "two are under way", func() bool { return g.came.Load() == 2 })
	p.Close()
	for _, result := range results {
		require.Len(t, result, 1, "all are answered when Close returns")
		require.Equal(t, ResultCanceled, get(t, result).f.Result)
	}
	require.Equal(t, ResultCanceled, ask(t, p, &Request{Kind: KindRPC}).f.Result)
}

// Each call is answered once, whatever ends it.
func TestCallsEndOnce(t *testing.T) {
	url := backend(t, func(w http.ResponseWriter, r *http.Request) {
		var got struct{ Method string }
		_ = json.NewDecoder(r.Body).Decode(&got)
		if got.Method == "slow" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"result":{}}`)
	})
	p := newPool(t, url, func(o *Options) { o.Timeout, o.WaitingMax = 15*time.Millisecond, 1000 })
	var answered [300]atomic.Int32
	var all sync.WaitGroup
	for i := range answered {
		all.Add(1)
		r := &Request{Kind: Kinds()[i%6], Method: []string{"slow", "fast"}[i%2]}
		cancel := p.Call(r, func(*Answer, *Failure) {
			if answered[i].Add(1) == 1 {
				all.Done()
			}
		})
		if i%7 == 0 {
			go cancel()
		}
	}
	all.Wait()
	p.Close()
	for i := range answered {
		require.EqualValues(t, 1, answered[i].Load(), i)
	}
}
