package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Client and server of this package understand each other.
func TestClientHandshake(t *testing.T) {
	b := AppendClientHandshake([]byte("before"), "example.com:8000", "/ws?channel=a%20b", "centrifuge-json", sampleKey)[len("before"):]
	require.Equal(t, len(b), HeadLen(b, 0))
	out, rejected := Handshake(nil, b, func(r *Request) (Accept, error) {
		require.Equal(t, Request{
			Method: "GET", Path: "/ws", RawQuery: "channel=a%20b", Host: "example.com:8000", Upgrade: true, Protocols: []string{"centrifuge-json"},
		}, *r)
		return Accept{Protocol: "centrifuge-json", Header: [][2]string{{"X-Wsd-Shard", "3"}}}, nil
	})
	require.Nil(t, rejected)
	status, header, err := ParseClientResponse(out, sampleKey, false)
	require.NoError(t, err)
	require.Equal(t, 101, status)
	require.Equal(t, "3", header.Get("X-Wsd-Shard"))
	require.Equal(t, "centrifuge-json", header.Get("Sec-WebSocket-Protocol"))

	b = AppendClientHandshake(nil, "x", "/", "", sampleKey)
	require.NotContains(t, string(b), "Protocol")
	_, rejected = Handshake(nil, b, accept)
	require.Nil(t, rejected)
}

func TestParseRefusal(t *testing.T) {
	b := AppendReject(nil, &Reject{Status: 503, Body: "The server is stopping."})
	n := HeadLen(b, 0)
	status, header, err := ParseClientResponse(b[:n], sampleKey, false)
	require.NoError(t, err)
	require.Equal(t, 503, status)
	require.Equal(t, "24", header.Get("Content-Length"))
	require.Equal(t, "The server is stopping.\n", string(b[n:]))
}

func TestParseClientResponseErrors(t *testing.T) {
	good := []string{"HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: " + sampleAccept}
	_, _, err := ParseClientResponse(head(good...), sampleKey, false)
	require.NoError(t, err)
	_, _, err = ParseClientResponse(head(append([]string{"HTTP/1.1 101"}, good[1:]...)...), sampleKey, false)
	require.NoError(t, err)
	tests := []struct {
		name, old, new, expect string
	}{
		{"other protocol", "HTTP/1.1 ", "RTSP/1.0 ", "missing HTTP/1.1 status line"},
		{"HTTP/2", "HTTP/1.1 ", "HTTP/2.0 ", "missing HTTP/1.1 status line"},
		{"short", "HTTP/1.1 101 Switching Protocols", "HTTP/1.1 10", "missing HTTP/1.1 status line"},
		{"long status", " 101 ", " 1010 ", "missing HTTP/1.1 status line"},
		{"bad status", " 101 ", " 1x1 ", `bad status "1x1"`},
		{"negative status", " 101 ", " -10 ", `bad status "-10"`},
		{"no colon", "Connection: Upgrade", "Connection", "bad header line"},
		{"bare LF", "\r\nConnection", "\nConnection", "without CR LF"},
		{"other upgrade", "Upgrade: websocket", "Upgrade: h2c", "not websocket"},
		{"no upgrade", "Upgrade: websocket", "X: y", "not websocket"},
		{"no connection", "Connection: Upgrade", "Connection: close", "lacks Upgrade"},
		{"other accept", "s3pP", "S3pP", "Sec-WebSocket-Accept"},
		{"no accept", "Sec-WebSocket-Accept", "X-WebSocket-Accept", "Sec-WebSocket-Accept"},
		{"extension", "Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate", "none were offered"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := strings.Replace(string(head(good...)), test.old, test.new, 1)
			require.NotEqual(t, string(head(good...)), b)
			_, _, err := ParseClientResponse([]byte(b), sampleKey, false)
			require.ErrorContains(t, err, test.expect)
		})
	}
	_, _, err = ParseClientResponse(nil, sampleKey, false)
	require.Error(t, err)
}

func TestOfferDeflate(t *testing.T) {
	request := OfferDeflate(AppendClientHandshake(nil, "x", "/", "", sampleKey))
	out, rejected := Handshake(nil, request, func(r *Request) (Accept, error) {
		require.True(t, r.Deflate)
		return Accept{Deflate: true}, nil
	})
	require.Nil(t, rejected)
	_, _, err := ParseClientResponse(out, sampleKey, true)
	require.NoError(t, err)
	_, _, err = ParseClientResponse(out, sampleKey, false)
	require.ErrorContains(t, err, "none were offered")
	out, _ = Handshake(nil, request, func(*Request) (Accept, error) { return Accept{}, nil })
	_, _, err = ParseClientResponse(out, sampleKey, true)
	require.ErrorContains(t, err, "permessage-deflate; server_no_context_takeover")
}
