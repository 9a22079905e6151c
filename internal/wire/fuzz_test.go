package wire

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// FuzzReader feeds a stream of bytes in pieces that the input chooses and whole,
// and expects the same of both. The limit is low so that every branch is near.
func FuzzReader(f *testing.F) {
	for _, cases := range [][]conformance{dataCases()[:1], controlCases(), fragmentCases()[:20]} {
		for _, c := range cases {
			f.Add(c.send, []byte{1, 2, 3}, uint16(64), true)
		}
	}
	f.Add(AppendFrame(nil, text, []byte("hello")), []byte{2}, uint16(5), false)
	f.Add(header(bin, true, 64, 1<<40), []byte{1}, uint16(10), true)
	f.Fuzz(func(t *testing.T, stream, cuts []byte, messageMax uint16, server bool) {
		role := RoleClient
		if server {
			role = RoleServer
		}
		events, code, left := feed(t, stream, role, int(messageMax), func() int { return len(stream) })
		i := 0
		chunked, chunkedCode, chunkedLeft := feed(t, stream, role, int(messageMax), func() int {
			if len(cuts) == 0 {
				return 1
			}
			i++
			return int(cuts[i%len(cuts)])
		})
		require.Equal(t, events, chunked)
		require.Equal(t, code, chunkedCode)
		require.Equal(t, left, chunkedLeft)
		for _, e := range events {
			switch e.ev {
			case EventText:
				require.True(t, utf8.ValidString(e.payload))
			case EventClose:
				checkCloseCode(t, []byte(e.payload))
			}
			if e.ev >= EventPing {
				require.LessOrEqual(t, len(e.payload), 125)
			}
		}
	})
}

func checkCloseCode(tb testing.TB, payload []byte) {
	tb.Helper()
	code, reason, err := CloseCode(payload)
	if err != nil {
		require.Contains(tb, []uint16{1002, 1007}, err.Code)
		return
	}
	require.True(tb, utf8.ValidString(reason))
	// What is accepted can be echoed as it is.
	echo := AppendClose(nil, code, reason)
	require.Equal(tb, ws.MustCompileFrame(ws.NewCloseFrame(payload)), echo)
}

// TestReaderRandom is the fuzz target's twin for streams that are valid, which
// random bytes hardly ever are: messages in random fragments and pieces arrive as
// they were sent.
func TestReaderRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var stream []byte
		var want []got
		for range random.IntN(5) + 1 {
			payload, kind, ev := randomPayload(random), bin, EventBinary
			if utf8.ValidString(payload) {
				kind, ev = text, EventText
			}
			op := kind
			for rest := payload; ; op = cont {
				n := random.IntN(len(rest) + 1)
				if random.IntN(3) == 0 {
					stream = append(stream, whole(op, rest)...)
					break
				}
				stream = append(stream, begin(op, rest[:n])...)
				rest = rest[n:]
				if random.IntN(3) == 0 {
					stream = append(stream, whole(ws.OpPing, "p")...)
					want = append(want, got{EventPing, "p"})
				}
			}
			want = append(want, got{ev, payload})
		}
		events, code, left := feed(t, stream, RoleServer, 1000, func() int { return random.IntN(40) })
		require.Zero(t, code)
		require.Zero(t, left)
		require.Equal(t, want, events)
	}
}

func randomPayload(random *rand.Rand) string {
	pieces := []string{"", "a", "é", "€", "𝄞", "\xff", "0123456789012345678901234567890123456789"}
	var b []byte
	for range random.IntN(20) {
		b = append(b, pieces[random.IntN(len(pieces))]...)
	}
	return string(b)
}

// FuzzHandshake expects that whatever comes is answered by one well-formed
// response, and that what is upgraded is what RFC 6455 asks for.
func FuzzHandshake(f *testing.F) {
	f.Add(upgradeHead("/ws?channel=a", "Sec-WebSocket-Protocol: a, b", "Origin: x"), uint16(3))
	f.Add(head("GET http://x:1/y?z HTTP/1.0", "Connection: keep-alive"), uint16(0))
	f.Add(head("PRI * HTTP/2.0"), uint16(20))
	f.Add(head("HEAD * HTTP/1.1", "Host: [::1]:80", "X: a\r\n b"), uint16(1))
	f.Add(head("HEAD x"), uint16(1))
	f.Add([]byte("\x16\x03\x01\n\n"), uint16(1))
	f.Add(bytes.ReplaceAll(upgradeHead("/"), []byte("\r"), nil), uint16(9))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		n := HeadLen(b, 0)
		// However the bytes arrive, the head has the same length.
		for from, to := 0, 0; ; from = to {
			to = min(to+1+int(cut), len(b))
			found := HeadLen(b[:to], from)
			if found == 0 && to < len(b) {
				continue
			}
			if len(b) > 0 && isToken(b[0]) {
				require.Equal(t, n, found)
			}
			break
		}
		if n == 0 {
			return
		}
		require.LessOrEqual(t, n, len(b))
		var seen *Request
		choose := func(r *Request) (Accept, error) {
			seen = r
			return Accept{Protocol: cmp.Or(r.Protocols...), Header: [][2]string{{"X-Path", "set"}}}, nil
		}
		res, _, upgraded := answer(t, b[:n], choose)
		if seen == nil {
			require.GreaterOrEqual(t, res.StatusCode, 400)
			return
		}
		require.Equal(t, seen.Upgrade, upgraded)
		require.NotEmpty(t, seen.Path)
		require.True(t, seen.Path[0] == '/' || seen.Path == "*")
		require.NotContains(t, seen.Path, "?")
		for _, s := range append([]string{seen.Method, seen.Path, seen.RawQuery, seen.Host, seen.Origin}, seen.Protocols...) {
			require.False(t, bytes.ContainsAny([]byte(s), "\r\n\x00"), "%q", s)
		}
		if upgraded {
			require.Equal(t, "GET", seen.Method)
			require.Len(t, res.Header.Get("Sec-WebSocket-Accept"), 28)
			require.Equal(t, "set", res.Header.Get("X-Path"))
		}
		// A second look finds the same.
		_, _, again := answer(t, b[:n], choose)
		require.Equal(t, upgraded, again)
	})
}

// FuzzClientResponse expects no more than that nothing crashes and that a good
// answer has the right key.
func FuzzClientResponse(f *testing.F) {
	f.Add(responseHead(upgradeHead("/")))
	f.Add(head("HTTP/1.0 503 Service Unavailable", "Retry-After: 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := HeadLen(b, 0)
		status, header, err := ParseClientResponse(b[:n], sampleKey, false)
		if err == nil && status == 101 {
			require.Equal(t, sampleAccept, header.Get("Sec-WebSocket-Accept"))
		}
	})
}
