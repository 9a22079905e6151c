package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/gocent/v3"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"wsd/internal/apikey"
	"wsd/internal/commands"
	"wsd/internal/proto"
)

// backend is a Backend that notes what it is asked.
type backend struct {
	mu        sync.Mutex
	published []Publish
	commands  []commands.Command
	fail      error
	hold      bool // Publish answers nothing.
	asked     int  // How often it was called.
	large     int  // Bytes of a history.
}

func (b *backend) options() Backend {
	return Backend{
		Publish: func(_ context.Context, p Publish, done func(Position, error)) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.asked++
			if b.hold {
				return
			}
			b.published = append(b.published, p)
			go done(Position{Offset: uint64(len(b.published)), Epoch: "e"}, b.fail)
		},
		Command: func(_ context.Context, c *commands.Command) (string, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.commands = append(b.commands, *c)
			return ScopeCluster, b.fail
		},
		History: func(_ context.Context, r HistoryRequest) (HistoryResult, error) {
			switch r.Channel {
			case "none":
				return HistoryResult{}, NewError(proto.ErrNotAvailable, "no stream")
			case "large":
				return HistoryResult{Publications: []Publication{{Data: json.RawMessage(`"` + strings.Repeat("x", b.large) + `"`)}}}, nil
			}
			return HistoryResult{
				Publications: []Publication{{Data: json.RawMessage(`{"a":1}`), Offset: 7, Info: &ClientInfo{User: "u"}, Tags: map[string]string{"t": "v"}}},
				Position:     Position{Offset: 9, Epoch: "e"},
			}, b.fail
		},
		Channels: func(_ context.Context, match func(string) bool) (map[string]ChannelInfo, error) {
			list := map[string]ChannelInfo{}
			for i, name := range []string{"news.a", "news.b.c", "chat"} {
				if match(name) {
					list[name] = ChannelInfo{NumClients: i + 1}
				}
			}
			return list, b.fail
		},
		Info: func() Node {
			return Node{UID: "uid", Name: "name", Version: "v", NumClients: 1, NumUsers: 2, NumSubs: 3, NumChannels: 4, Uptime: 5, Process: &Process{CPU: 1.5, RSS: 6}}
		},
	}
}

const (
	testKey  = "0123456789abcdef0123456789abcdef"
	newsKey  = "news-key-news-key methods=publish|history|channels|unsubscribe channels=news.*"
	shortKey = "short"
	// channelKey names no methods: those that are about no channel are not among them.
	channelKey = "channel-key-channel-key channels=news.*"
)

func start(t *testing.T, b *backend, change func(*Options)) (*Handler, string) {
	t.Helper()
	keys, err := apikey.Parse([]string{testKey, newsKey, shortKey, channelKey, "", "# a comment"})
	require.NoError(t, err)
	require.Len(t, keys, 4)
	o := Options{
		Keys: func() []apikey.Key { return keys }, Backend: b.options(), BytesMax: 1 << 20, JSONDepth: 128, Timeout: 10 * time.Second,
		Memory: &account{most: 1 << 30}, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	h := NewHandler(o)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return h, s.URL + "/api"
}

// ask makes a request, and returns the status and the body.
func ask(t *testing.T, url, key, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	if key != "" {
		r.Header.Set("X-API-Key", key)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, strings.TrimSpace(string(text))
}

func TestKeys(t *testing.T) {
	h, url := start(t, &backend{}, nil)
	for _, key := range []string{"", "wrong", testKey + "x", testKey[1:], "news-key-news-key methods=publish"} {
		status, body := ask(t, url+"/info", key, "{}")
		require.Equal(t, http.StatusUnauthorized, status, key)
		require.Contains(t, body, "X-API-Key")
	}
	status, _ := ask(t, url+"/info?api_key="+testKey, "", "{}")
	require.Equal(t, http.StatusUnauthorized, status, "an address ends up in logs")
	require.EqualValues(t, 6, h.Stats().Unauthorized.Load())
	for _, scheme := range []string{"apikey ", "ApiKey  "} {
		status, _ = ask(t, url+"/info", "", "{}", "Authorization", scheme+testKey)
		require.Equal(t, http.StatusOK, status)
	}
	status, _ = ask(t, url+"/info", "", "{}", "Authorization", "Bearer "+testKey)
	require.Equal(t, http.StatusUnauthorized, status)
}

// A key may be limited to methods and channels, in a batch, in a broadcast and by the old form too.
func TestScopes(t *testing.T) {
	b := &backend{}
	_, url := start(t, b, nil)
	key := strings.Fields(newsKey)[0]
	for body, want := range map[string]string{
		`publish {"channel":"news.a","data":{}}`:      `"offset":`,
		`publish {"channel":"chat","data":{}}`:        `"code":103`,
		`broadcast {"channels":["news.a"],"data":{}}`: `"code":103`,
		`history {"channel":"chat"}`:                  `"code":103`,
		`disconnect {"user":"x"}`:                     `"code":103`,
		`unsubscribe {"user":"x"}`:                    `"code":103`,
		`unsubscribe {"user":"x","channel":"news.a"}`: `"scope":"cluster"`,
		`channels {}`: `{"news.a":{"num_clients":1},"news.b.c":{"num_clients":2}}`,
		`batch {"commands":[{"disconnect":{"user":"x"}},{"history":{"channel":"news.x"}}]}`: `{"replies":[{"error":{"code":103,`,
	} {
		name, params, _ := strings.Cut(body, " ")
		status, got := ask(t, url+"/"+name, key, params)
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, got, want, body)
	}
	_, got := ask(t, url, key, `{"method":"info"}`)
	require.Contains(t, got, `"code":103`)
	for body, want := range map[string]string{
		`disconnect {"user":"x"}`:      "disconnect is not about one: name it in methods=",
		`refresh {"user":"x"}`:         "refresh is not about one",
		`info {}`:                      "info is not about one",
		`history {"channel":"news.a"}`: `"result":`,
		`channels {}`:                  `"news.a"`,
	} {
		name, params, _ := strings.Cut(body, " ")
		_, got := ask(t, url+"/"+name, strings.Fields(channelKey)[0], params)
		require.Contains(t, got, want, body)
	}
	require.Len(t, b.commands, 1)
	require.Len(t, b.published, 1)
}

func TestMethods(t *testing.T) {
	b := &backend{}
	h, url := start(t, b, nil)
	for _, c := range []struct{ method, params, want string }{
		{"publish", `{"channel":"a","data":{"x":[1]},"tags":{"k":"v"},"idempotency_key":"i"}`, `{"result":{"offset":1,"epoch":"e"}}`},
		{"publish", `{"channel":"a","b64data":"AP8="}`, `{"result":{"offset":2,"epoch":"e"}}`},
		{"publish", `{"channel":"a","b64data":"%"}`, `{"error":{"code":107,"message":"bad request: b64data is not base64"}}`},
		{"publish", `{"channel":"a"}`, `{"error":{"code":107,"message":"bad request: there is no data"}}`},
		{"publish", `{"data":1}`, `{"error":{"code":107,"message":"bad request: name a channel"}}`},
		{"publish", ``, `{"error":{"code":107,"message":"bad request: name a channel"}}`},
		{"broadcast", `{"channels":["a",""],"data":1}`, `{"result":{"responses":[{"result":{"offset":3,"epoch":"e"}},{"error":{"code":107,"message":"bad request: name a channel"}}]}}`},
		{"broadcast", `{"data":1}`, `{"error":{"code":107,"message":"bad request: name channels"}}`},
		{"subscribe", `{"user":"u","channel":"a","data":{"x":1},"recover_since":{"offset":7,"epoch":"e"},"expire_at":4000000000,"info":{},"override":{"presence":{"value":true}}}`, `{"result":{"scope":"cluster"}}`},
		{"subscribe", `{"user":"u"}`, `{"error":{"code":107,"message":"bad request: name a channel"}}`},
		{"subscribe", `{"channel":"a"}`, `{"error":{"code":107,"message":"bad request: name a user or a client"}}`},
		{"subscribe", `{"user":"u","channel":"a","session":"s"}`, `{"error":{"code":108,"message":"not available: clients of wsd have no session: name a user or a client"}}`},
		{"unsubscribe", `{"user":"u","client":"c","channel":"a"}`, `{"result":{"scope":"cluster"}}`},
		{"disconnect", `{"user":"u","whitelist":["c"],"disconnect":{"code":4000,"reason":"r","reconnect":true}}`, `{"result":{"scope":"cluster"}}`},
		{"disconnect", `{"user":"u","disconnect":{"code":1000}}`, `{"error":{"code":107,"message":"bad request: code is 1000, must be from 3000 to 4999"}}`},
		{"refresh", `{"user":"u","expired":true}`, `{"result":{"scope":"cluster"}}`},
		{"history", `{"channel":"a","limit":1}`, `{"result":{"publications":[{"data":{"a":1},"offset":7,"info":{"user":"u","client":""},"tags":{"t":"v"}}],"offset":9,"epoch":"e"}}`},
		{"history", `{"channel":"none"}`, `{"error":{"code":108,"message":"not available: no stream"}}`},
		{"channels", `{"pattern":"news.*"}`, `{"result":{"channels":{"news.a":{"num_clients":1}},"scope":"node"}}`},
		{"info", `{}`, `{"result":{"nodes":[{"uid":"uid","name":"name","version":"v","num_clients":1,"num_users":2,"num_subs":3,"num_channels":4,"uptime":5,"process":{"cpu":1.5,"rss":6}}],"scope":"node"}}`},
		{"presence", `{"channel":"a"}`, `{"error":{"code":108,"message":"not available"}}`},
		{"presence_stats", `{"channel":"a"}`, `{"error":{"code":108,"message":"not available"}}`},
		{"history_remove", `{"channel":"a"}`, `{"error":{"code":108,"message":"not available"}}`},
	} {
		status, got := ask(t, url+"/"+c.method, testKey, c.params)
		require.Equal(t, http.StatusOK, status, c.method)
		require.Equal(t, c.want, got, "%s %s", c.method, c.params)
	}
	require.Equal(t, Publish{Channel: "a", Data: []byte(`{"x":[1]}`), Tags: map[string]string{"k": "v"}, Key: "i"}, b.published[0])
	require.Equal(t, []byte{0, 255}, b.published[1].Data)
	require.Equal(t, commands.Command{Do: "subscribe", User: "u", Channel: "a", Data: []byte(`{"x":1}`), Since: &commands.Position{Offset: 7, Epoch: "e"}, ExpireAt: 4e9}, b.commands[0])
	require.Equal(t, commands.Command{Do: "disconnect", User: "u", Keep: []string{"c"}, Code: 4000, Reason: "r"}, b.commands[2])
	var total uint64
	h.Stats().EachMethod(func(_ string, n uint64) { total += n })
	require.EqualValues(t, 23, total)
}

// What is not a request of the API gets a status of its own and says what to do.
func TestBadRequests(t *testing.T) {
	_, url := start(t, &backend{}, func(o *Options) { o.BytesMax = 1000 })
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/fly", "{}", 404, "no such method"},
		{"/publish/x", "{}", 404, "no such method"},
		{"/publish", strings.Repeat(" ", 1001), 413, "api.body_max"},
		{"/publish", "{", 200, `"code":107`},
		{"/batch", "{", 400, "not a batch"},
		{"", "", 400, "no command"},
		{"", "x", 400, "not commands"},
		{"", `{"method":"fly"}`, 200, `{"error":{"code":104,"message":"method not found"}}`},
		{"/batch", `{"commands":[1,{},{"fly":{}}]}`, 200, `{"replies":[{"error":{"code":107,"message":"bad request: the command is not an object"}},{"error":{"code":104,"message":"method not found"}},{"error":{"code":104,"message":"method not found"}}]}`},
	} {
		status, got := ask(t, url+c.path, testKey, c.body)
		require.Equal(t, c.status, status, "%s %.20s", c.path, c.body)
		require.Contains(t, got, c.want)
	}
	res, err := http.Get(url + "/info")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, res.StatusCode)
	status, _ := ask(t, url+"/publish", testKey, `{}`, "X-Centrifugo-Error-Mode", "transport")
	require.Equal(t, http.StatusBadRequest, status)
	status, _ = ask(t, url+"/presence", testKey, `{}`, "X-Centrifugo-Error-Mode", "transport")
	require.Equal(t, http.StatusBadRequest, status, "as Centrifugo has it for 108")
}

func TestBatchLimits(t *testing.T) {
	_, url := start(t, &backend{}, nil)
	many := strings.TrimSuffix(strings.Repeat(`{"info":{}},`, commandsMax+1), ",")
	_, got := ask(t, url+"/batch", testKey, `{"commands":[`+many+`]}`)
	require.Contains(t, got, "at most 1000 are allowed")
	status, _ := ask(t, url, testKey, strings.Repeat(`{"method":"info"}`, commandsMax+1))
	require.Equal(t, http.StatusBadRequest, status)
	list, err := json.Marshal(map[string]any{"channels": make([]string, publicationsMax+1), "data": 1})
	require.NoError(t, err)
	_, got = ask(t, url+"/broadcast", testKey, string(list))
	require.Contains(t, got, `"code":106`)
}

// A request ends in time, whatever the backend does; errors of the backend are not shown.
func TestTimeout(t *testing.T) {
	b := &backend{hold: true}
	_, url := start(t, b, func(o *Options) { o.Timeout = time.Second })
	_, got := ask(t, url+"/broadcast", testKey, `{"channels":["a",""],"data":1}`)
	require.Contains(t, got, `{"error":{"code":100,"message":"internal server error: not done within api.timeout`)
	require.Contains(t, got, `name a channel`)
	b.hold, b.fail = false, errors.New("secret detail")
	_, url = start(t, b, nil)
	_, got = ask(t, url+"/info", testKey, `{}`)
	require.Contains(t, got, "uid")
	_, got = ask(t, url+"/publish", testKey, `{"channel":"a","data":1}`)
	require.Equal(t, `{"error":{"code":100,"message":"internal server error"}}`, got)
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		fits          bool
	}{
		{"", "x", true}, {"a", "a", true}, {"a", "ab", false}, {"a*", "ab", true}, {"a*", "a.b", false}, {"a**", "a.b", true},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"*.b", "a.b", true}, {"[a]", "a", false}, {"[a]", "[a]", true}, {"**", "a\nb", true},
	} {
		fits, err := globOf(c.pattern)
		require.NoError(t, err)
		require.Equal(t, c.fits, fits(c.name), "%s %s", c.pattern, c.name)
	}
	_, err := globOf(strings.Repeat("*", 256))
	require.Error(t, err)
	_, err = globOf("\xff")
	require.Error(t, err)
}

// The document describes exactly the methods and fields that there are.
func TestDocument(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context(), openapi3.EnableExamplesValidation()))
	var paths []string
	for path := range doc.Paths.Map() {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	want := []string{"/api"}
	for _, m := range apikey.Methods() {
		want = append(want, "/api/"+m)
	}
	slices.Sort(want)
	require.Equal(t, want, paths)
	require.Len(t, methods, len(apikey.Methods())-1)
	for _, v := range []any{
		PublishRequest{}, BroadcastRequest{}, BroadcastResult{}, SubscribeRequest{}, UnsubscribeRequest{}, DisconnectRequest{},
		Disconnect{}, RefreshRequest{}, CommandResult{}, ChannelRequest{}, HistoryRequest{}, HistoryResult{}, Publication{},
		ClientInfo{}, ChannelsRequest{}, ChannelInfo{}, ChannelsResult{}, Process{}, Node{}, InfoResult{}, Position{}, Error{},
	} {
		name := reflect.TypeOf(v).Name()
		schema := doc.Components.Schemas[name]
		require.NotNil(t, schema, name)
		var documented []string
		for property := range schema.Value.Properties {
			documented = append(documented, property)
		}
		require.ElementsMatch(t, fields(reflect.TypeOf(v)), documented, name)
	}
	// And responses are as it says.
	_, url := start(t, &backend{}, nil)
	for method, params := range map[string]string{
		"publish": `{"channel":"a","data":1}`, "broadcast": `{"channels":["a",""],"data":1}`, "subscribe": `{"user":"u","channel":"a"}`,
		"unsubscribe": `{"user":"u"}`, "disconnect": `{"user":"u"}`, "refresh": `{"user":"u"}`, "history": `{"channel":"a"}`,
		"channels": `{}`, "info": `{}`, "rpc": `{}`, "presence": `{}`, "presence_stats": `{}`, "history_remove": `{}`,
		"batch": `{"commands":[{"info":{}},{"history":{"channel":"a"}},{"x":{}}],"parallel":true}`,
	} {
		op := doc.Paths.Find("/api/" + method).Post
		var value any
		require.NoError(t, json.Unmarshal([]byte(params), &value))
		if !strings.Contains("rpc presence presence_stats history_remove", method) {
			require.NoError(t, op.RequestBody.Value.Content["application/json"].Schema.Value.VisitJSON(value), method)
		}
		_, got := ask(t, url+"/"+method, testKey, params)
		require.NoError(t, json.Unmarshal([]byte(got), &value))
		require.NoError(t, op.Responses.Value("200").Value.Content["application/json"].Schema.Value.VisitJSON(value), "%s: %s", method, got)
	}
	res, err := http.Get(url + "/openapi.json")
	require.NoError(t, err)
	defer res.Body.Close()
	served, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, document, served)
}

// fields returns the names that a struct's fields have in JSON.
func fields(typ reflect.Type) (names []string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Anonymous {
			names = append(names, fields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// The published Go library works unchanged.
func TestGocent(t *testing.T) {
	b := &backend{}
	_, url := start(t, b, nil)
	c := gocent.New(gocent.Config{Addr: url, Key: testKey})
	ctx := t.Context()
	published, err := c.Publish(ctx, "a", []byte(`{"x":1}`))
	require.NoError(t, err)
	require.Equal(t, gocent.PublishResult{Offset: 1, Epoch: "e"}, published)
	broadcast, err := c.Broadcast(ctx, []string{"a", "b"}, []byte(`1`))
	require.NoError(t, err)
	require.Len(t, broadcast.Responses, 2)
	require.NoError(t, c.Subscribe(ctx, "a", "u"))
	require.NoError(t, c.Unsubscribe(ctx, "a", "u"))
	require.NoError(t, c.Disconnect(ctx, "u"))
	history, err := c.History(ctx, "a", gocent.WithLimit(10))
	require.NoError(t, err)
	require.Equal(t, gocent.HistoryResult{Offset: 9, Epoch: "e", Publications: []gocent.Publication{{Offset: 7, Data: []byte(`{"a":1}`), Info: &gocent.ClientInfo{User: "u"}}}}, history)
	channels, err := c.Channels(ctx, gocent.WithPattern("**"))
	require.NoError(t, err)
	require.Len(t, channels.Channels, 3)
	info, err := c.Info(ctx)
	require.NoError(t, err)
	require.Equal(t, "uid", info.Nodes[0].UID)
	_, err = c.Presence(ctx, "a")
	require.ErrorContains(t, err, "108")
	require.ErrorContains(t, c.HistoryRemove(ctx, "a"), "108")
	pipe := c.Pipe()
	require.NoError(t, pipe.AddPublish("a", []byte(`2`)))
	require.NoError(t, pipe.AddInfo())
	replies, err := c.SendPipe(ctx, pipe)
	require.NoError(t, err)
	require.Len(t, replies, 2)
	_, err = gocent.New(gocent.Config{Addr: url, Key: "wrong"}).Info(ctx)
	require.ErrorContains(t, err, "401")
}

// The published Python library works unchanged. WSD_CENT names a Python that has it (make test-cent); a test target that
// sets it must not skip.
func TestCent(t *testing.T) {
	python := os.Getenv("WSD_CENT")
	if python == "" {
		t.Skip("WSD_CENT names no Python with the package cent: use make test-cent")
	}
	b := &backend{}
	_, url := start(t, b, nil)
	script, err := filepath.Abs("testdata/cent_test.py")
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), python, script, url, testKey).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "ok", strings.TrimSpace(string(out)))
	require.Equal(t, "disconnect", b.commands[2].Do)
	require.Equal(t, 4000, b.commands[2].Code)
	require.Equal(t, []byte(`{"input": "x"}`), b.published[0].Data)
}

// What comes as a body never panics, and gets a response.
func FuzzBody(f *testing.F) {
	f.Add("publish", `{"channel":"a","data":{}}`)
	f.Add("batch", `{"commands":[{"info":{}}],"parallel":true}`)
	f.Add("", `{"method":"info"}{"method":"publish","params":{"channel":"x"}}`)
	f.Add("channels", `{"pattern":"a*?**"}`)
	keys, err := apikey.Parse([]string{testKey})
	require.NoError(f, err)
	b := &backend{}
	h := NewHandler(Options{Keys: func() []apikey.Key { return keys }, Backend: b.options(), BytesMax: 1 << 20, JSONDepth: 128, Timeout: 10 * time.Second, Memory: &account{most: 1 << 30}, Logger: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, method, body string) {
		r := httptest.NewRequest(http.MethodPost, "/api", strings.NewReader(body))
		r.URL.Path = "/api/" + method
		r.Header.Set("X-API-Key", testKey)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Contains(t, []int{200, 400, 404}, w.Code)
	})
}
