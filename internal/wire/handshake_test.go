package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	// The example of RFC 6455 §1.3.
	sampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// head makes a request head: a request line, then header lines.
func head(lines ...string) []byte { return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n") }

// upgradeHead is a good request with lines added.
func upgradeHead(target string, more ...string) []byte {
	return head(append([]string{
		"GET " + target + " HTTP/1.1", "Host: example.com:8000", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: " + sampleKey, "Sec-WebSocket-Version: 13",
	}, more...)...)
}

// answer runs Handshake and parses what it answers as net/http does. It checks
// what every answer must have.
func answer(tb testing.TB, head []byte, decide func(*Request) (Accept, error)) (*http.Response, string, bool) {
	tb.Helper()
	before := bytes.Clone(head)
	out, rejected := Handshake([]byte("before"), head, decide)
	upgraded := rejected == nil
	require.Equal(tb, before, head, "the head was changed")
	require.Equal(tb, "before", string(out[:6]))
	r := bufio.NewReader(bytes.NewReader(out[6:]))
	method := http.MethodGet
	if bytes.HasPrefix(head, []byte("HEAD ")) {
		method = http.MethodHead
	}
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	require.NoError(tb, err, "%q", out)
	body, err := io.ReadAll(res.Body)
	require.NoError(tb, err)
	require.NoError(tb, res.Body.Close())
	rest, err := io.ReadAll(r)
	require.NoError(tb, err)
	require.Equal(tb, upgraded, res.StatusCode == http.StatusSwitchingProtocols)
	require.Empty(tb, rest)
	if rejected != nil {
		require.Equal(tb, rejected.Status, res.StatusCode)
	}
	if !upgraded {
		require.True(tb, res.Close, "Connection: close is missing")
		require.Contains(tb, string(out), "\r\nConnection: close")
		require.Equal(tb, "text/plain; charset=utf-8", res.Header.Get("Content-Type"))
		require.Positive(tb, res.ContentLength)
		if method != http.MethodHead {
			require.Equal(tb, 1, strings.Count(string(body), "\n"), "%q", body)
			require.Greater(tb, len(body), 1)
		}
	}
	return res, string(body), upgraded
}

func accept(*Request) (Accept, error) { return Accept{}, nil }

func TestUpgrade(t *testing.T) {
	tests := map[string][]byte{
		"plain":                  upgradeHead("/ws"),
		"names in capitals":      head("GET /ws HTTP/1.1", "HOST: x", "UPGRADE: WEBSOCKET", "CONNECTION: UPGRADE", "SEC-WEBSOCKET-KEY: "+sampleKey, "SEC-WEBSOCKET-VERSION: 13"),
		"names in small":         head("GET /ws HTTP/1.1", "host:x", "upgrade:websocket", "connection:upgrade", "sec-websocket-key:"+sampleKey, "sec-websocket-version:13"),
		"token list":             head("GET /ws HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Key: "+sampleKey, "Sec-WebSocket-Version: 13"),
		"list in two fields":     head("GET /ws HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: keep-alive", "Connection: Upgrade", "Sec-WebSocket-Key: "+sampleKey, "Sec-WebSocket-Version: 13"),
		"other protocols too":    head("GET /ws HTTP/1.1", "Host: x", "Upgrade: h2c, websocket", "Connection: Upgrade, HTTP2-Settings", "Sec-WebSocket-Key: "+sampleKey, "Sec-WebSocket-Version: 13"),
		"spaces and tabs":        head("GET /ws HTTP/1.1", "Host: \t x \t", "Upgrade:\twebsocket ", "Connection: ,\tUpgrade\t,", "Sec-WebSocket-Key: \t"+sampleKey+" ", "Sec-WebSocket-Version:  13\t"),
		"extensions are ignored": upgradeHead("/ws", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
		"must not have a body":   upgradeHead("/ws", "Content-Length: 0"),
		"empty host":             head("GET /ws HTTP/1.1", "Host:", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: "+sampleKey, "Sec-WebSocket-Version: 13"),
		"HTTP/1.2":               head("GET /ws HTTP/1.2", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: "+sampleKey, "Sec-WebSocket-Version: 13"),
		"a long cookie":          upgradeHead("/ws", "Cookie: "+strings.Repeat("c", 7000)),
		"text beyond ASCII":      upgradeHead("/ws", "X-Name: J\xc3\xbcrgen"),
		"unknown field":          upgradeHead("/ws", "X-Name: \x01\x7f\xff;=,\"", "X-Name:"),
		"odd cookie":             upgradeHead("/ws", "Cookie: a=b; ; =; \"x\x02%zz", "Cookie: c"),
		"unknown extension":      upgradeHead("/ws", "Sec-WebSocket-Extensions: x-webkit-deflate-frame, ;;=\"", "Sec-WebSocket-Extensions:"),
		"empty line first":       append([]byte("\r\n"), upgradeHead("/ws")...),
		"four empty lines first": append([]byte("\r\n\r\n\r\n\r\n"), upgradeHead("/ws")...),
		"empty subprotocols":     upgradeHead("/ws", "Sec-WebSocket-Protocol: ,", "Sec-WebSocket-Protocol:"),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			res, _, upgraded := answer(t, b, func(r *Request) (Accept, error) {
				require.True(t, r.Upgrade)
				require.Equal(t, "GET", r.Method)
				require.Equal(t, "/ws", r.Path)
				return Accept{}, nil
			})
			require.True(t, upgraded)
			require.Equal(t, sampleAccept, res.Header.Get("Sec-WebSocket-Accept"))
			require.Equal(t, "websocket", res.Header.Get("Upgrade"))
			require.Equal(t, "Upgrade", res.Header.Get("Connection"))
			require.Empty(t, res.Header.Values("Sec-WebSocket-Protocol"))
			require.Empty(t, res.Header.Values("Sec-WebSocket-Extensions"))
			_, _, err := ParseClientResponse(responseHead(b), sampleKey, false)
			require.NoError(t, err)
		})
	}
}

func responseHead(request []byte) []byte {
	out, _ := Handshake(nil, request, accept)
	return out[:HeadLen(out, 0)]
}

func TestAcceptHeader(t *testing.T) {
	b := upgradeHead("/", "Sec-WebSocket-Protocol: centrifuge-json, other", "Sec-WebSocket-Protocol: ,third")
	res, _, upgraded := answer(t, b, func(r *Request) (Accept, error) {
		require.Equal(t, []string{"centrifuge-json", "other", "third"}, r.Protocols)
		return Accept{Protocol: "centrifuge-json", Header: [][2]string{{"X-Wsd-Shard", "3"}, {"X-Other", "yes"}}}, nil
	})
	require.True(t, upgraded)
	require.Equal(t, []string{"centrifuge-json"}, res.Header.Values("Sec-WebSocket-Protocol"))
	require.Equal(t, "3", res.Header.Get("X-Wsd-Shard"))
	require.Equal(t, "yes", res.Header.Get("X-Other"))
}

func TestRequestFields(t *testing.T) {
	tests := []struct {
		target, path, query, host string
	}{
		{"/ws?channel=a&channel=b", "/ws", "channel=a&channel=b", "example.com:8000"},
		{"/", "/", "", "example.com:8000"},
		{"/?", "/", "", "example.com:8000"},
		{"/a?b?c", "/a", "b?c", "example.com:8000"},
		{"/a%20b/%2e?x=%zz", "/a%20b/%2e", "x=%zz", "example.com:8000"},
		{"//evil.example/ws", "//evil.example/ws", "", "example.com:8000"},
		{"/ws?u=http://x/", "/ws", "u=http://x/", "example.com:8000"},
		{"/\xc3\xa9", "/\xc3\xa9", "", "example.com:8000"},
		{"http://other.example:81/ws?x=1", "/ws", "x=1", "other.example:81"},
		{"WSS://[::1]:8000/ws", "/ws", "", "[::1]:8000"},
		{"ws://other.example", "/", "", "other.example"},
		{"https://other.example?x=1", "/", "x=1", "other.example"},
		{"*", "*", "", "example.com:8000"},
		{"/" + strings.Repeat("p", 3000) + "?" + strings.Repeat("q", 4000), "/" + strings.Repeat("p", 3000), strings.Repeat("q", 4000), "example.com:8000"},
	}
	for _, test := range tests {
		t.Run(test.target[:min(len(test.target), 40)], func(t *testing.T) {
			called := false
			answer(t, upgradeHead(test.target, "Origin: https://page.example"), func(r *Request) (Accept, error) {
				called = true
				require.Equal(t, Request{Method: "GET", Path: test.path, RawQuery: test.query, Host: test.host, Origin: "https://page.example", Upgrade: true}, *r)
				return Accept{}, nil
			})
			require.True(t, called)
		})
	}
}

// The strings may be kept while the buffer they came from is used again.
func TestRequestIsACopy(t *testing.T) {
	b := upgradeHead("/ws?channel=a", "Origin: https://page.example", "Sec-WebSocket-Protocol: one")
	var kept *Request
	_, _ = Handshake(nil, b, func(r *Request) (Accept, error) { kept = r; return Accept{Protocol: "one"}, nil })
	clear(b)
	require.Equal(t, Request{Method: "GET", Path: "/ws", RawQuery: "channel=a", Host: "example.com:8000", Origin: "https://page.example", Upgrade: true, Protocols: []string{"one"}}, *kept)
}

func TestPlainHTTP(t *testing.T) {
	tests := map[string][]byte{
		"GET":                head("GET /healthz HTTP/1.1", "Host: x"),
		"HTTP/1.0":           head("GET /healthz HTTP/1.0"),
		"HEAD":               head("HEAD /healthz HTTP/1.1", "Host: x"),
		"POST":               head("POST /healthz HTTP/1.1", "Host: x", "Content-Length: 5"),
		"h2c":                head("GET /healthz HTTP/1.1", "Host: x", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
		"Connection alone":   head("GET /healthz HTTP/1.1", "Host: x", "Connection: Upgrade"),
		"not quite":          head("GET /healthz HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket/13"),
		"HTTP/1.0 with host": head("GET http://x/healthz HTTP/1.0", "Host: y"),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			method, _, _ := strings.Cut(string(b), " ")
			res, body, upgraded := answer(t, b, func(r *Request) (Accept, error) {
				require.False(t, r.Upgrade)
				require.Equal(t, "/healthz", r.Path)
				require.Equal(t, method, r.Method)
				return Accept{}, &Reject{Status: 200, Body: "ok"}
			})
			require.False(t, upgraded)
			require.Equal(t, 200, res.StatusCode)
			require.Equal(t, int64(3), res.ContentLength)
			if method == "HEAD" {
				require.Empty(t, body)
			} else {
				require.Equal(t, "ok\n", body)
			}
			// Accepting what is no upgrade is refused.
			res, _, upgraded = answer(t, b, accept)
			require.False(t, upgraded)
			require.Equal(t, 426, res.StatusCode)
			require.Equal(t, "websocket", res.Header.Get("Upgrade"))
		})
	}
}

func TestDecideErrors(t *testing.T) {
	res, body, _ := answer(t, upgradeHead("/ws"), func(*Request) (Accept, error) {
		return Accept{Protocol: "x"}, &Reject{Status: 400, Body: "Name a channel.", Header: [][2]string{{"Retry-After", "3"}}}
	})
	require.Equal(t, 400, res.StatusCode)
	require.Equal(t, "Name a channel.\n", body)
	require.Equal(t, "3", res.Header.Get("Retry-After"))
	res, body, _ = answer(t, upgradeHead("/ws"), func(*Request) (Accept, error) { return Accept{}, errors.New("secret") })
	require.Equal(t, 500, res.StatusCode)
	require.NotContains(t, body, "secret")
}

func TestRejected(t *testing.T) {
	good := upgradeHead("/ws")
	without := func(name string, more ...string) []byte {
		var lines []string
		for line := range strings.SplitSeq(strings.TrimSuffix(string(good), "\r\n\r\n"), "\r\n") {
			if !strings.HasPrefix(line, name) {
				lines = append(lines, line)
			}
		}
		return head(append(lines, more...)...)
	}
	tests := []struct {
		name   string
		head   []byte
		status int
		why    string // In the answer's text.
	}{
		{"TLS hello", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400, "does not use TLS"},
		{"empty lines only", []byte(strings.Repeat("\r\n", 5)), 400, "first line is not"},
		{"HTTP/2 preface", head("PRI * HTTP/2.0"), 505, "HTTP/1.1"},
		{"HTTP/2 upgrade", bytes.Replace(good, []byte("HTTP/1.1"), []byte("HTTP/2.0"), 1), 505, "HTTP/1.1"},
		{"HTTP/0.9", head("GET /ws HTTP/0.9", "Host: x"), 505, "HTTP/1.1"},
		{"HTTP/1.0 upgrade", bytes.Replace(good, []byte("HTTP/1.1"), []byte("HTTP/1.0"), 1), 505, "uses HTTP/1.0"},
		{"no version", head("GET /ws"), 400, "a method, a target and a version"},
		{"version HTTP/1", head("GET /ws HTTP/1", "Host: x"), 400, "end with HTTP/1.1"},
		{"version HTTP/11.1", head("GET /ws HTTP/11.1", "Host: x"), 400, "end with HTTP/1.1"},
		{"version http/1.1", head("GET /ws http/1.1", "Host: x"), 400, "end with HTTP/1.1"},
		{"space behind version", head("GET /ws HTTP/1.1 ", "Host: x"), 400, "end with HTTP/1.1"},
		{"two spaces", head("GET  /ws HTTP/1.1", "Host: x"), 400, "end with HTTP/1.1"},
		{"tab", head("GET\t/ws\tHTTP/1.1", "Host: x"), 400, "a method, a target and a version"},
		{"space in target", head("GET /w s HTTP/1.1", "Host: x"), 400, "end with HTTP/1.1"},
		{"tab in target", head("GET /w\ts HTTP/1.1", "Host: x"), 400, "bad target"},
		{"fragment in target", head("GET /ws#x HTTP/1.1", "Host: x"), 400, "percent-encode it as %23"},
		{"NUL in target", head("GET /w\x00s HTTP/1.1", "Host: x"), 400, "first line is not"},
		{"no slash", head("GET ws HTTP/1.1", "Host: x"), 400, "begins with /"},
		{"CONNECT", head("CONNECT example.com:80 HTTP/1.1", "Host: x"), 400, "begins with /"},
		{"other scheme", head("GET ftp://x/ws HTTP/1.1", "Host: x"), 400, "begins with /"},
		{"user in target", head("GET http://user@x/ws HTTP/1.1", "Host: x"), 400, "bad host"},
		{"no host in target", head("GET http:///ws HTTP/1.1", "Host: x"), 400, "bad host"},
		{"method with colon", head("GE:T /ws HTTP/1.1", "Host: x"), 400, "a method, a target"},
		{"bare LF", bytes.ReplaceAll(good, []byte("\r\n"), []byte("\n")), 400, "first line is not"},
		{"one bare LF", bytes.Replace(good, []byte("\r\nUpgrade"), []byte("\nUpgrade"), 1), 400, "does not end with CR LF"},
		{"bare LF at the end", append(bytes.Clone(good[:len(good)-2]), '\n'), 400, "does not end with CR LF"},
		{"bare CR", bytes.Replace(good, []byte("Host: "), []byte("Host: x\rX: "), 1), 400, "contains a CR or a NUL"},
		{"NUL", bytes.Replace(good, []byte("Host: "), []byte("Host: \x00"), 1), 400, "contains a CR or a NUL"},
		{"DEL", bytes.Replace(good, []byte("Host: "), []byte("Host: \x7f"), 1), 400, "field Host"},
		{"CR in an unknown field", without("x", "X-Long: a\rb"), 400, "contains a CR or a NUL"},
		{"NUL in a cookie", without("x", "Cookie: a=\x00"), 400, "contains a CR or a NUL"},
		{"control character in a key", without("Sec-WebSocket-Key", "Sec-WebSocket-Key: "+sampleKey[:23]+"\x01"), 400, "field Sec-WebSocket-Key"},
		{"control character in Connection", without("Connection", "Connection: Upgrade, \x01"), 400, "field Connection"},
		{"control character in target", head("GET /ws?x=\x01 HTTP/1.1", "Host: x"), 400, "first line is not"},
		{"no end", bytes.TrimSuffix(good, []byte("\r\n")), 400, "does not end with CR LF"},
		{"bytes behind the end", append(bytes.Clone(good), 'x'), 400, "after the end"},
		{"obsolete folding", without("x", "X-Long: a\r\n b"), 400, "a name, a colon"},
		{"folding by tab", without("x", "X-Long: a\r\n\tb: c"), 400, "a name, a colon"},
		{"first line folded", without("Host", " Host: x"), 400, "a name, a colon"},
		{"space before colon", without("Host", "Host : x"), 400, "a name, a colon"},
		{"no colon", without("x", "nonsense"), 400, "a name, a colon"},
		{"no name", without("x", ": x"), 400, "a name, a colon"},
		{"name beyond ASCII", without("x", "X\xc3\xa9: x"), 400, "a name, a colon"},
		{"no host", without("Host"), 400, "exactly one Host"},
		{"two hosts", without("x", "host: example.com:8000"), 400, "exactly one Host"},
		{"two hosts in one", without("Host", "Host: a, b"), 400, "field Host"},
		{"path in host", without("Host", "Host: a/b"), 400, "field Host"},
		{"user in host", without("Host", "Host: a@b"), 400, "field Host"},
		{"two hosts beside absolute target", head("GET http://x/ws HTTP/1.1", "Host: x", "Host: y"), 400, "exactly one Host"},
		{"no host beside absolute target", head("GET http://x/ws HTTP/1.1"), 400, "exactly one Host"},
		{"two origins", without("x", "Origin: a", "Origin: b"), 400, "more than one Origin"},
		{"POST", bytes.Replace(good, []byte("GET"), []byte("POST"), 1), 405, "must use GET"},
		{"small get", bytes.Replace(good, []byte("GET"), []byte("get"), 1), 405, "must use GET"},
		{"no key", without("Sec-WebSocket-Key"), 400, "one Sec-WebSocket-Key"},
		{"two keys", without("x", "Sec-Websocket-Key: "+sampleKey), 400, "one Sec-WebSocket-Key"},
		{"empty key", without("Sec-WebSocket-Key", "Sec-WebSocket-Key:"), 400, "one Sec-WebSocket-Key"},
		{"short key", without("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), 400, "one Sec-WebSocket-Key"},
		{"long key", without("Sec-WebSocket-Key", "Sec-WebSocket-Key: "+sampleKey+"AAAA"), 400, "one Sec-WebSocket-Key"},
		{"17 bytes in the key", without("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE="), 400, "one Sec-WebSocket-Key"},
		{"18 bytes in the key", without("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy"), 400, "one Sec-WebSocket-Key"},
		{"key not base64", without("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25*ZQ=="), 400, "one Sec-WebSocket-Key"},
		{"no version field", without("Sec-WebSocket-Version"), 400, "one Sec-WebSocket-Version"},
		{"empty version field", without("Sec-WebSocket-Version", "Sec-WebSocket-Version:"), 400, "one Sec-WebSocket-Version"},
		{"two versions", without("x", "Sec-WebSocket-Version: 13"), 400, "one Sec-WebSocket-Version"},
		{"version 8", without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 426, "Only WebSocket version 13"},
		{"version 13, 8", without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8"), 426, "Only WebSocket version 13"},
		{"no Upgrade", without("Upgrade"), 426, "lacks Upgrade"},
		{"no Connection", without("Connection"), 400, "lacks Connection"},
		{"Connection: close", without("Connection", "Connection: close"), 400, "lacks Connection"},
		{"long s", bytes.Replace(good, []byte("websocket\r\n"), []byte("web\u017focket\r\n"), 1), 426, "lacks Upgrade"},
		{"body", without("x", "Content-Length: 5"), 400, "must not have a body"},
		{"odd length", without("x", "Content-Length: +0"), 400, "must not have a body"},
		{"chunked", without("x", "Transfer-Encoding: chunked"), 400, "must not have a body"},
		{"bad subprotocol", without("x", "Sec-WebSocket-Protocol: a b"), 400, "field Sec-WebSocket-Protocol"},
		{"subprotocol in quotes", without("x", `Sec-WebSocket-Protocol: "a"`), 400, "field Sec-WebSocket-Protocol"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			res, body, upgraded := answer(t, test.head, func(*Request) (Accept, error) {
				t.Error("decide was asked")
				return Accept{}, nil
			})
			require.False(t, upgraded)
			require.Equal(t, test.status, res.StatusCode, body)
			require.Contains(t, body, test.why)
			switch test.status {
			case 405:
				require.Equal(t, "GET", res.Header.Get("Allow"))
			case 426:
				require.Equal(t, "websocket", res.Header.Get("Upgrade"))
			}
		})
	}
	_, _, upgraded := answer(t, good, accept)
	require.True(t, upgraded, "the request that the others are made of")
	res, _, _ := answer(t, without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), accept)
	require.Equal(t, "13", res.Header.Get("Sec-WebSocket-Version"))
}
