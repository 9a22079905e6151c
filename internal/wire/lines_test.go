package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHeadLen(t *testing.T) {
	tests := []struct {
		name, head, rest string
	}{
		{"request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"frames behind it", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x81\x80\r\n\r\n"},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\n", "SM\r\n\r\n"},
		{"bare LFs", "GET / HTTP/1.1\nHost: x\n\n", "x"},
		{"LF, then CR LF", "GET / HTTP/1.1\n\r\n", "x"},
		{"CR LF, then LF", "GET / HTTP/1.1\r\n\n", "x"},
		{"many CRs", "GET /\r\r\r\n\r\r\n\r\n", "x"},
		{"empty line first", "\r\nGET / HTTP/1.1\r\n\r\n", "\x81\x00"},
		{"four empty lines first", "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", ""},
		{"PROXY line", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "GET / HTTP/1.1\r\n\r\n"},
		{"PROXY line without addresses", "PROXY UNKNOWN\r\n", "GET / HTTP/1.1\r\n\r\n"},
		{"a method PROXY", "PROXY / HTTP/1.1\r\n\r\n", ""},
		{"response", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "\x81\x00"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := []byte(test.head + test.rest)
			require.Equal(t, len(test.head), HeadLen(b, 0))
			// Byte by byte, from always being where the last call ended.
			for i := range test.head {
				require.Zero(t, HeadLen(b[:i], max(i-1, 0)), "after %d bytes", i)
			}
			require.Equal(t, len(test.head), HeadLen(b[:len(test.head)], len(test.head)-1))
			// In two pieces, however cut.
			for i := range test.head {
				require.Zero(t, HeadLen(b[:i], 0))
				require.Equal(t, len(test.head), HeadLen(b, i), "cut at %d", i)
			}
		})
	}
}

func TestHeadLenOfNoHead(t *testing.T) {
	for _, b := range []string{"\x16\x03\x01\x02\x00\x01\x00", "\r\n\r\n\r\n\r\n\r\n", "\r\n\r\n\x00", "\rG", "\r\n\n", "\n", " GET", "\x00", "\xff\xfe", "{}"} {
		require.Equal(t, len(b), HeadLen([]byte(b), 0), "%q", b)
	}
	require.Zero(t, HeadLen(nil, 0))
}

// What was searched is not searched again: with from given, an end that lies
// before it is not even seen.
func TestHeadLenDoesNotRescan(t *testing.T) {
	b := []byte("GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 100))
	require.Zero(t, HeadLen(b, 50))
}

func TestEqualFold(t *testing.T) {
	require.True(t, equalFold([]byte("WebSocket"), "websocket"))
	require.True(t, equalFold([]byte("sec-websocket-KEY"), "sec-websocket-key"))
	require.False(t, equalFold([]byte("web\u017focket"), "websocket"))
	require.False(t, equalFold([]byte("WEBSOC\u212aET"), "websocket"))
	require.False(t, equalFold([]byte("websocke"), "websocket"))
	require.False(t, equalFold([]byte("webso[ket"), "webso{ket"))
}

func TestHasItem(t *testing.T) {
	for list, expect := range map[string]bool{
		"upgrade": true, "Upgrade": true, "keep-alive, Upgrade": true, "keep-alive,upgrade\t": true, ", ,Upgrade": true, "Upgrade,": true,
		"": false, "keep-alive": false, "upgrades": false, "up grade": false, "keep-alive Upgrade": false, "x-upgrade": false,
	} {
		require.Equal(t, expect, hasItem([]byte(list), "upgrade"), "%q", list)
	}
}

func TestTokens(t *testing.T) {
	const special = "!#$%&'*+-.^_`|~" // RFC 9110 §5.6.2.
	for c := range 256 {
		expect := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte(special, byte(c)) >= 0
		require.Equal(t, expect, isToken(byte(c)), "%q", byte(c))
	}
	require.False(t, isTokens(nil))
}
