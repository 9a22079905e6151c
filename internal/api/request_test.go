package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// account is a Memory of a fixed size.
type account struct {
	mu                  sync.Mutex
	most, used, highest int64
}

func (a *account) Reserve(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used+n > a.most {
		return false
	}
	a.used += n
	a.highest = max(a.highest, a.used)
	return true
}

func (a *account) Release(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= n
}

func (a *account) figures() (used, highest int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used, a.highest
}

// batchOf is a batch of n times the same command.
func batchOf(command string, n int) string {
	return `{"commands":[` + strings.TrimSuffix(strings.Repeat(command+",", n), ",") + `],"parallel":true}`
}

// A batch multiplies neither what a broadcast may publish nor what a history may read.
func TestLimitsOfARequest(t *testing.T) {
	b := &backend{large: 2 << 10}
	h, url := start(t, b, func(o *Options) { o.Timeout = time.Minute })
	require.EqualValues(t, foundMax, h.foundMax)
	h.foundMax = 64 << 10
	channels, err := json.Marshal(make([]string, publicationsMax/2))
	require.NoError(t, err)
	some := strings.ReplaceAll(string(channels), `""`, `"a"`)
	_, got := ask(t, url+"/batch", testKey, batchOf(`{"broadcast":{"channels":`+some+`,"data":1}}`, 5))
	require.Equal(t, publicationsMax, strings.Count(got, `"offset":`))
	require.Equal(t, 3, strings.Count(got, `"code":106,"message":"limit exceeded: a request publishes to at most 10000 channels`), "%.500s", got)
	require.Equal(t, publicationsMax, b.asked)

	_, got = ask(t, url+"/batch", testKey, batchOf(`{"history":{"channel":"large","limit":1}}`, 50))
	require.Equal(t, 31, strings.Count(got, `"publications":`), "each takes a bit more than 2 KiB")
	require.Equal(t, 19, strings.Count(got, `"code":106,"message":"limit exceeded: a response has at most 64 KiB`))
	var lines []string
	_, got = ask(t, url, testKey, strings.Repeat(`{"method":"history","params":{"channel":"large","limit":1}}`, 50))
	for line := range strings.Lines(got) {
		lines = append(lines, line)
	}
	require.Len(t, lines, 50)
	require.Equal(t, 31, strings.Count(got, `"publications":`))
}

// Bodies and what is read are counted in the account of memory, which refuses what is too much; afterwards nothing is
// left in it.
func TestMemoryOfRequests(t *testing.T) {
	b := &backend{large: 100_000}
	memory := &account{most: 500_000}
	_, url := start(t, b, func(o *Options) { o.Memory = memory })
	free := func() {
		t.Helper()
		require.Eventually(t, func() bool { used, _ := memory.figures(); return used == 0 }, 10*time.Second, time.Millisecond)
	}
	body := `{"channel":"a","data":"` + strings.Repeat("x", 100_000) + `"}`
	status, _ := ask(t, url+"/publish", testKey, body)
	require.Equal(t, http.StatusOK, status)
	free()
	_, highest := memory.figures()
	require.EqualValues(t, bodyFactor*len(body), highest)
	body = strings.Replace(body, "xxx", strings.Repeat("x", 30_000), 1)
	status, got := ask(t, url+"/publish", testKey, body)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, got, "limits.memory")
	status, got = ask(t, url+"/batch", testKey, batchOf(`{"history":{"channel":"large","limit":1}}`, 10))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, 4, strings.Count(got, `"publications":`))
	require.Equal(t, 6, strings.Count(got, `"code":100,"message":"internal server error: there is no memory`))
	free()
	chunked := func(body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/publish", io.MultiReader(strings.NewReader(body)))
		require.NoError(t, err)
		r.Header.Set("X-API-Key", testKey)
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	require.Equal(t, http.StatusOK, chunked(`{"channel":"a","data":1}`), "it counts as what it is, not as what it might be")
	require.Equal(t, http.StatusServiceUnavailable, chunked(body))
	free()
	status, _ = ask(t, url+"/publish", "wrong", body)
	require.Equal(t, http.StatusUnauthorized, status, "before anything is read")
}

// When the time of a request is over, none of its other commands is begun.
func TestNotBegun(t *testing.T) {
	for _, parallel := range []string{"", `,"parallel":true`} {
		b := &backend{hold: true}
		_, url := start(t, b, func(o *Options) { o.Timeout = time.Second })
		commands := strings.Repeat(`{"publish":{"channel":"a","data":1}},`, 100)
		_, got := ask(t, url+"/batch", testKey, `{"commands":[`+commands+`{"disconnect":{"user":"u"}}]`+parallel+`}`)
		require.LessOrEqual(t, b.asked, parallelMax)
		require.NotZero(t, b.asked)
		require.Equal(t, b.asked, strings.Count(got, "not done within api.timeout"))
		require.Equal(t, 101-b.asked, strings.Count(got, "not begun within api.timeout"), got)
		require.Empty(t, b.commands)
	}
}

// A broadcast stops when the backend waits for room until the time is over.
func TestBroadcastNotBegun(t *testing.T) {
	b := &backend{}
	_, url := start(t, b, func(o *Options) {
		o.Timeout = time.Second
		o.Backend.Publish = func(ctx context.Context, _ Publish, done func(Position, error)) {
			b.mu.Lock()
			b.asked++
			b.mu.Unlock()
			<-ctx.Done()
			done(Position{}, ctx.Err())
		}
	})
	_, got := ask(t, url+"/broadcast", testKey, `{"channels":["a","b","c"],"data":1}`)
	require.Equal(t, 1, b.asked)
	require.Equal(t, 1, strings.Count(got, "not done within api.timeout"))
	require.Equal(t, 2, strings.Count(got, "not begun within api.timeout"))
}

// Bodies that nobody sends in earnest get an error that says what is wrong, and publish nothing.
func TestHostileBodies(t *testing.T) {
	b := &backend{}
	_, url := start(t, b, func(o *Options) { o.BytesMax = 8 << 20 })
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/publish", "{\"channel\":\"a\xff\",\"data\":1}", 400, "not UTF-8"},
		{"/publish", "{\"channel\":\"a\",\"data\":\"\xff\"}", 400, "not UTF-8"},
		{"/batch", "{\"commands\":[{\"publish\":{\"channel\":\"a\xc0\",\"data\":1}}]}", 400, "not UTF-8"},
		{"/publish", `{"channel":"a","data":` + deep(129) + `}`, 200, `"code":107,"message":"bad request: clients do not get such data: at most 128 levels`},
		{"/publish", `{"channel":"a","data":` + deep(20_000) + `}`, 200, `"code":107`},
		{"/broadcast", `{"channels":["a"],"data":` + strings.Repeat("9", 1001) + `}`, 200, `"code":107`},
		{"/batch", `{"commands":` + deep(20_000) + `}`, 400, "not a batch"},
		{"/batch", `{"commands":[` + strings.Repeat("1,", 1<<21) + `1]}`, 200, `"code":106,"message":"limit exceeded: more than 1000 commands`},
		{"/broadcast", `{"channels":[` + strings.Repeat("null,", 1<<20) + `1],"data":1}`, 200, `"code":106,"message":"limit exceeded: more than 10000 channels`},
		{"/disconnect", `{"user":"u","whitelist":[` + strings.Repeat(`"",`, 1<<20) + `""]}`, 200, `"code":106,"message":"limit exceeded: more than 1000 clients in whitelist`},
		{"/broadcast", `{"channels":{},"data":1}`, 200, `"code":107,"message":"bad request: channels must be a list"`},
		{"/broadcast", `{"channels":null,"data":1}`, 200, `"code":107,"message":"bad request: name channels"`},
		{"/broadcast", `{"channels":[1],"data":1}`, 200, `"code":107`},
		{"/history", `{"channel":"a","limit":1e400}`, 200, `"code":107`},
		{"/history", `{"channel":"a","since":{"offset":-1}}`, 200, `"code":107`},
		{"/history", `{"channel":"a","since":{"offset":99999999999999999999}}`, 200, `"code":107`},
		{"/batch", `{"commands":[{"batch":{"commands":[]}},{"batch":{},"info":{}}]}`, 200, `{"replies":[{"error":{"code":104,`},
		{"", `{"method":"batch","params":{"commands":[{"info":{}}]}}`, 200, `"code":104`},
		{"", `{"method":"info","params":[]}`, 200, `"result":{"nodes"`},
		{"/publish", `[]`, 200, `"code":107`},
		{"/publish", `"x"`, 200, `"code":107`},
		{"/publish", `{"channel":"a","data":1}{"channel":"b","data":1}`, 200, `"code":107`},
	} {
		status, got := ask(t, url+c.path, testKey, c.body)
		require.Equal(t, c.status, status, "%s %.60s: %.200s", c.path, c.body, got)
		require.Contains(t, got, c.want, "%s %.60s", c.path, c.body)
	}
	require.Empty(t, b.published)
	require.Empty(t, b.commands)
	_, got := ask(t, url+"/publish", testKey, `{"channel":"a","b64data":"/w==","data":`+deep(500)+`}`)
	require.Contains(t, got, `"offset"`, "of data that is not used nothing is asked")
}

// A name that is there twice is decided by the last one, which is also the one that the key must be for.
func TestNamesTwice(t *testing.T) {
	b := &backend{}
	_, url := start(t, b, nil)
	key := strings.Fields(newsKey)[0]
	for _, body := range []string{
		`{"channel":"news.a","channel":"chat","data":1}`, `{"channel":"news.a","CHANNEL":"chat","data":1}`,
		`{"channel":"news.a","\u0063hannel":"chat","data":1}`,
	} {
		_, got := ask(t, url+"/publish", key, body)
		require.Contains(t, got, `"code":103`, body)
	}
	require.Empty(t, b.published)
	_, got := ask(t, url+"/batch", key, `{"commands":[{"history":{"channel":"chat"},"publish":{"channel":"news.a","data":1}}]}`)
	require.Contains(t, got, `"code":103`, "one command has one method")
	require.Empty(t, b.published)
}

// Bodies without an end and those that come slowly are bounded, requests one after another on a connection are answered
// in order.
func TestWire(t *testing.T) {
	b := &backend{}
	_, url := start(t, b, func(o *Options) { o.BytesMax = 10_000 })
	address := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/api")
	dial := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		return conn, bufio.NewReader(conn)
	}
	head := "POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: " + testKey + "\r\n"
	conn, r := dial()
	go func(conn net.Conn) { // It may fail: the server has enough.
		if _, err := fmt.Fprint(conn, head+"Transfer-Encoding: chunked\r\n\r\n"); err != nil {
			return
		}
		for {
			if _, err := fmt.Fprintf(conn, "400\r\n%s\r\n", strings.Repeat(" ", 1024)); err != nil {
				return
			}
		}
	}(conn)
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)

	conn, r = dial()
	_, err = fmt.Fprint(conn, head+"Content-Length: 9999999999999\r\n\r\n")
	require.NoError(t, err)
	res, err = http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode, "nothing of the body is awaited")

	conn, r = dial()
	for i := range 3 {
		body := fmt.Sprintf(`{"channel":"c%d","data":1}`, i)
		_, err = fmt.Fprintf(conn, "%sContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
		require.NoError(t, err)
	}
	for i := range 3 {
		res, err = http.ReadResponse(r, nil)
		require.NoError(t, err)
		var got struct{ Result Position }
		require.NoError(t, json.NewDecoder(res.Body).Decode(&got))
		require.EqualValues(t, i+1, got.Result.Offset)
	}
	require.Len(t, b.published, 3)
}

// A port that serves other things, too, may allow less time for a response than a request may take.
func TestOwnWriteDeadline(t *testing.T) {
	b := &backend{hold: true}
	h, _ := start(t, b, func(o *Options) { o.Timeout = time.Second })
	s := httptest.NewUnstartedServer(h)
	s.Config.WriteTimeout = 100 * time.Millisecond
	s.Start()
	t.Cleanup(s.Close)
	status, got := ask(t, s.URL+"/api/publish", testKey, `{"channel":"a","data":1}`)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, got, "not done within api.timeout")
}
