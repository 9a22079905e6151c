package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A 101 names a subprotocol if and only if some were offered, and one of them.
func TestSubprotocolAnswered(t *testing.T) {
	offers := map[string][]string{
		"":                    nil,
		",":                   nil,
		"a":                   {"a"},
		"a, b":                {"a", "b"},
		"b,\t a, b":           {"b", "a", "b"},
		"centrifuge-json,a.b": {"centrifuge-json", "a.b"},
	}
	for field, offered := range offers {
		b := upgradeHead("/", "Sec-WebSocket-Protocol: "+field)
		for _, choice := range append([]string{""}, offered...) {
			res, body, upgraded := answer(t, b, func(r *Request) (Accept, error) {
				require.Equal(t, offered, r.Protocols)
				return Accept{Protocol: choice}, nil
			})
			require.Equal(t, len(offered) == 0 || choice != "", upgraded, "%q, chosen %q", field, choice)
			if upgraded {
				require.Equal(t, choice, res.Header.Get("Sec-WebSocket-Protocol"))
				continue
			}
			require.Equal(t, 400, res.StatusCode)
			require.Equal(t, "None of the offered subprotocols is supported.\n", body)
		}
		for _, choice := range []string{"c", "A", "a,", "a, b"} {
			require.PanicsWithValue(t, "BUG: decide chose the subprotocol "+choice+", which was not offered", func() {
				_, _ = Handshake(nil, b, func(*Request) (Accept, error) { return Accept{Protocol: choice}, nil })
			}, "%q, chosen %q", field, choice)
		}
	}
}

func TestProxyHeader(t *testing.T) {
	request := string(upgradeHead("/ws"))
	for header, version := range map[string]string{
		"PROXY TCP4 192.0.2.1 192.0.2.2 56324 8000\r\n":     "version 1",
		"PROXY TCP6 2001:db8::1 2001:db8::2 56324 8000\r\n": "version 1",
		"PROXY UNKNOWN\r\n": "version 1",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\xdc\x04\x1f\x40": "version 2",
		"\r\n\r\n\x00": "version 2",
	} {
		b := []byte(header + request)
		n := HeadLen(b, 0)
		require.Positive(t, n)
		out, rejected := Handshake(nil, b[:n], accept)
		require.NotNil(t, rejected, "%q", header)
		require.Equal(t, CauseProxyProtocol, rejected.Cause)
		require.Contains(t, rejected.Body, version)
		require.Contains(t, rejected.Body, "client.proxy_protocol")
		require.Contains(t, string(out), "HTTP/1.1 400 ")
	}
	_, rejected := Handshake(nil, head("PROXY / HTTP/1.1", "Host: x"), accept)
	require.Equal(t, CauseNotUpgrade, rejected.Cause)
}
