package proxy

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

// listener accepts connections and gives each to serve, in a goroutine of its own.
func listener(t testing.TB, serve func(conn net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { _ = l.Close() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	return l.Addr().String()
}

// A backend that takes connections and never answers the TLS handshake does not collect them.
func TestConnectionsAreBounded(t *testing.T) {
	var open, came, most atomic.Int32
	address := listener(t, func(conn net.Conn) {
		came.Add(1)
		n := open.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		_, _ = io.Copy(io.Discard, conn)
		open.Add(-1)
	})
	p := newPool(t, "https://"+address, func(o *Options) { o.Timeout = 20 * time.Millisecond })
	for range 5 {
		require.Equal(t, ResultTimeout, ask(t, p, &Request{Kind: KindConnect}).f.Result)
	}
	require.Positive(t, came.Load())
	eventually(t, "no connection is left", func() bool { return open.Load() == 0 })

	// Clients come and go faster than connections end.
	most.Store(0)
	slow := newPool(t, "https://"+address, func(o *Options) { o.Concurrency = 1 })
	for range 30 {
		before := came.Load()
		result, cancel := begin(slow, &Request{Kind: KindConnect})
		if before := open.Load(); before < int32(kindCount) {
			eventually(t, "it is connected", func() bool { return open.Load() > before })
		}
		cancel()
		require.Equal(t, ResultCanceled, get(t, result).f.Result)
		require.LessOrEqual(t, came.Load()-before, int32(1))
	}
	require.EqualValues(t, kindCount, most.Load())
	slow.Close()
	eventually(t, "no connection is left", func() bool { return open.Load() == 0 })
}

// Of calls that wait, those of clients with fewer calls go first.
func TestClientsHaveAShare(t *testing.T) {
	var mu sync.Mutex
	var order []string
	g := &gate{open: make(chan struct{})}
	url := backend(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, name, _ := strings.Cut(string(body), `"method":"`)
		name, _, _ = strings.Cut(name, `"`)
		mu.Lock()
		order = append(order, name)
		mu.Unlock()
		g.serve(w, r)
	})
	p := newPool(t, url, func(o *Options) { o.Concurrency = 1 })
	var results []chan outcome
	call := func(method string, ahead int) (cancel func()) {
		result, cancel := begin(p, &Request{Kind: KindRPC, Method: method, Ahead: ahead})
		results = append(results, result)
		return cancel
	}
	call("greedy0", 0)
	eventually(t, "it is under way", func() bool { return g.came.Load() == 1 })
	call("greedy1", 1)
	call("greedy2", 2)
	gone := call("gone", 0)
	call("greedy3", 3)
	call("modest", 0)
	call("other", 0)
	call("greedy1b", 1)
	gone()
	require.Equal(t, ResultCanceled, get(t, results[3]).f.Result)
	close(g.open)
	for i, result := range results {
		if i != 3 {
			require.Nil(t, get(t, result).f)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"greedy0", "modest", "other", "greedy1", "greedy1b", "greedy2", "greedy3"}, order)
}

// A field that came in several lines is passed on like that, as the last one alone may be another than the backend
// would choose. Fields of the client replace static ones, all of them.
func TestRepeatedFields(t *testing.T) {
	headers := make(chan http.Header, 1)
	url := backend(t, func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header
		_, _ = io.WriteString(w, `{"result":{}}`)
	})
	p := newPool(t, url, func(o *Options) { o.Static = [][2]string{{"X-Forwarded-For", "static"}, {"X-Key", "k"}} })
	require.Nil(t, ask(t, p, &Request{Kind: KindRPC, Header: [][2]string{
		{"x-forwarded-for", "1.1.1.1"}, {"cookie", "a=b"}, {"x-forwarded-for", "2.2.2.2"}, {"content-type", "text/html"},
	}}).f)
	h := <-headers
	require.Equal(t, []string{"1.1.1.1", "2.2.2.2"}, h.Values("X-Forwarded-For"))
	require.Equal(t, []string{"a=b"}, h.Values("Cookie"))
	require.Equal(t, []string{"k"}, h.Values("X-Key"))
	require.Equal(t, []string{"application/json"}, h.Values("Content-Type"))
}

// What a backend sends that is not HTTP may repeat what a client sent: the log has none of it.
func TestLogHasNoAnswers(t *testing.T) {
	for _, answer := range []string{
		"secret HTTP\r\n\r\n", "HTTP/1.1 secret\r\n\r\n", "HTTP/1.1 200 OK\r\nsecret\r\n\r\n", "HTTP/1.1 200 OK\r\n secret: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: secret\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\"secret\"", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
		"HTTP/1.1 302 secret\r\nLocation: secret\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n{\"result\":{\"b64data\":\"secret\"}}",
		strings.Repeat("secret", 3000) + "\r\n\r\n",
	} {
		address := listener(t, func(conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, answer)
			}
		})
		log := &testutil.Buffer{}
		p := newPool(t, "http://"+address, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
		require.NotNil(t, ask(t, p, &Request{Kind: KindRPC}).f, answer)
		require.NotContains(t, log.String(), "secret", answer)
		require.Less(t, len(log.String()), 600)
	}
}

// Errors do not cost a connection each.
func TestErrorsKeepTheConnection(t *testing.T) {
	var connections atomic.Int32
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusBadGateway) }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	p := newPool(t, "http://"+l.Addr().String(), nil)
	for range 20 {
		require.Equal(t, ResultStatus, ask(t, p, &Request{Kind: KindConnect}).f.Result)
	}
	require.EqualValues(t, 1, connections.Load())
}

// A backend that answers every other call, or one of two, does not fill the log.
func TestLogOfEveryOtherCall(t *testing.T) {
	var calls atomic.Int32
	good := backend(t, give(`{"result":{}}`))
	url := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, `{"result":{}}`)
	})
	log := &testutil.Buffer{}
	p := newPool(t, url, func(o *Options) {
		o.Endpoints = []Endpoint{{KindRPC, "good", good}, {KindRPC, "*", url}}
		o.Logger = slog.New(slog.NewJSONHandler(log, nil))
	})
	for range 50 {
		require.Nil(t, ask(t, p, &Request{Kind: KindRPC, Method: "good"}).f)
		ask(t, p, &Request{Kind: KindRPC, Method: "bad"})
	}
	require.Equal(t, 2, strings.Count(log.String(), "\n"), log.String())
	require.Equal(t, 2, strings.Count(log.String(), `"kind":"rpc"`), log.String())
	require.NotContains(t, log.String(), good)
}
