package wire

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzRequest makes a request of parts that the input gives, so that most are nearly good ones, and expects net/http to
// read the same from it as Handshake does: what a proxy before wsd takes for one request must not be another one here.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/ws?channel=a", "example.com:8000", "websocket", "Upgrade", "centrifuge-json, x", "permessage-deflate", "X: y")
	f.Add("GET", "http://a:1/x?y=%20", "b", "h2c, WebSocket", "keep-alive,Upgrade", "", `permessage-deflate; client_max_window_bits="10", x`, "Content-Length: 0")
	f.Add("HEAD", "*", "[::1]:80", "", "close", "a,,b", "permessage-deflate;server_max_window_bits=9,permessage-deflate", "Origin: null\r\nhost: other")
	f.Add("POST", "//x/../y", "", "websocket", "upgrade", "a b", "x=\"\\\",permessage-deflate\"", "Transfer-Encoding: chunked\r\n z: folded")
	f.Fuzz(func(t *testing.T, method, target, host, upgrade, connection, protocols, extensions, more string) {
		b := head(method+" "+target+" HTTP/1.1", "Host: "+host, "Upgrade: "+upgrade, "Connection: "+connection,
			"Sec-WebSocket-Key: "+sampleKey, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: "+protocols,
			"Sec-WebSocket-Extensions: "+extensions, more)
		n := HeadLen(b, 0)
		if n == 0 {
			return
		}
		var seen *Request
		res, _, upgraded := answer(t, b[:n], func(r *Request) (Accept, error) {
			seen = r
			return Accept{Deflate: true}, nil
		})
		if seen == nil {
			return
		}
		if upgraded && !strings.ContainsAny(more+extensions+protocols+connection+upgrade+host+target+method, "\r\n") &&
			!strings.Contains(strings.ToLower(more), "extensions") {
			require.Equal(t, acceptDeflate([]byte(trimmed(extensions))), res.Header.Get("Sec-WebSocket-Extensions"))
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:n])))
		if err != nil {
			return // It is stricter in places, and more lenient in others.
		}
		require.Equal(t, req.Method, seen.Method)
		require.Equal(t, req.Host, seen.Host)
		require.Equal(t, req.URL.RawQuery, seen.RawQuery)
		if path, _, _ := strings.Cut(req.RequestURI, "?"); strings.HasPrefix(path, "/") {
			require.Equal(t, path, seen.Path)
		}
		var list []string
		for _, field := range req.Header.Values("Sec-WebSocket-Protocol") {
			for item := range strings.SplitSeq(field, ",") {
				if item = trimmed(item); item != "" {
					list = append(list, item)
				}
			}
		}
		require.Equal(t, list, append([]string(nil), seen.Protocols...))
		if upgraded {
			require.Empty(t, req.TransferEncoding)
			require.LessOrEqual(t, req.ContentLength, int64(0))
		}
	})
}

func trimmed(s string) string { return strings.Trim(s, " \t") }

// FuzzExtensions compares the choice of an offer with a plain reading of RFC 7692 section 7, for fields without quotes;
// in others it looks for panics.
func FuzzExtensions(f *testing.F) {
	f.Add("permessage-deflate; client_max_window_bits")
	f.Add("x-webkit, permessage-deflate;server_max_window_bits=10 , permessage-deflate ; server_max_window_bits = 15;client_max_window_bits=8")
	f.Add(`permessage-deflate; client_max_window_bits="12"`)
	f.Add("permessage-deflate;client_no_context_takeover;client_no_context_takeover,permessage-deflate")
	f.Fuzz(func(t *testing.T, field string) {
		got := acceptDeflate([]byte(field))
		if strings.ContainsAny(field, `"\`) {
			require.Contains(t, []string{"", deflateTerms, deflateTermsWindow}, got)
			return
		}
		want := ""
		for offer := range strings.SplitSeq(field, ",") {
			parts := strings.Split(trimmed(offer), ";")
			if trimmed(parts[0]) != deflateName {
				continue
			}
			if terms, ok := plainTerms(parts[1:]); ok {
				want = terms
				break
			}
		}
		require.Equal(t, want, got)
	})
}

func plainTerms(parameters []string) (terms string, ok bool) {
	terms = deflateTerms
	seen := map[string]bool{}
	if len(parameters) > 0 && parameters[len(parameters)-1] == "" {
		parameters = parameters[:len(parameters)-1] // A semicolon at the end.
	}
	for _, parameter := range parameters {
		name, value, has := strings.Cut(trimmed(parameter), "=")
		name, value = trimmed(name), trimmed(value)
		if seen[name] {
			return "", false
		}
		seen[name] = true
		good := false
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			good = !has
		case "client_max_window_bits":
			good = !has
			for _, bits := range strings.Fields("8 9 10 11 12 13 14 15") {
				good = good || value == bits
			}
		case "server_max_window_bits":
			good = value == "15"
			terms = deflateTermsWindow
		}
		if !good {
			return "", false
		}
	}
	return terms, true
}
