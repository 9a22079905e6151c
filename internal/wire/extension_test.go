package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Offers and what is answered; "" declines. Those with a number of RFC 7692 are
// its examples.
func TestDeflateNegotiation(t *testing.T) {
	for _, test := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"§5.1, no parameter", []string{"permessage-deflate"}, deflateTerms},
		{"§7.1.2.1, window hint for the server", []string{"permessage-deflate; server_max_window_bits=10"}, ""},
		{"§7.1.2.1, with a fallback", []string{"permessage-deflate; server_max_window_bits=10, permessage-deflate"}, deflateTerms},
		{"§7.1.3, what browsers send", []string{"permessage-deflate; client_max_window_bits"}, deflateTerms},
		{"§7.1.3, fallback without", []string{"permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate; client_max_window_bits"}, deflateTerms},
		{"§7.1.3, all", []string{"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15; client_max_window_bits=9"}, deflateTermsWindow},
		{"the largest window", []string{`permessage-deflate; server_max_window_bits=15`}, deflateTermsWindow},
		{"quoted (RFC 6455 §9.1)", []string{`permessage-deflate; server_max_window_bits="15"; client_max_window_bits="8"`}, deflateTermsWindow},
		{"white space", []string{"\tpermessage-deflate ;\tclient_max_window_bits = 15 ,"}, deflateTerms},
		{"behind others", []string{`x-webkit-deflate-frame, foo; bar="a, b;c\"", permessage-deflate`}, deflateTerms},
		{"second field", []string{"foo", "permessage-deflate"}, deflateTerms},
		{"first of several", []string{"permessage-deflate; server_max_window_bits=15", "permessage-deflate"}, deflateTermsWindow},
		{"inside a quoted string", []string{`foo; bar="a, permessage-deflate, b"`}, ""},
		{"none", nil, ""},
		{"empty", []string{""}, ""},
		{"commas", []string{",,"}, ""},
		{"other extension", []string{"permessage-bzip2"}, ""},
		{"longer name", []string{"permessage-deflate2"}, ""},
		{"capitals", []string{"Permessage-Deflate"}, ""},
		{"unknown parameter", []string{"permessage-deflate; level=9"}, ""},
		{"empty parameter", []string{"permessage-deflate; ; client_max_window_bits"}, ""},
		{"takeover with value", []string{"permessage-deflate; server_no_context_takeover=true"}, ""},
		{"client takeover with value", []string{"permessage-deflate; client_no_context_takeover="}, ""},
		{"server window without value", []string{"permessage-deflate; server_max_window_bits"}, ""},
		{"server window too large", []string{"permessage-deflate; server_max_window_bits=16"}, ""},
		{"client window too small", []string{"permessage-deflate; client_max_window_bits=7"}, ""},
		{"client window too large", []string{"permessage-deflate; client_max_window_bits=16"}, ""},
		{"client window with a zero in front", []string{"permessage-deflate; client_max_window_bits=09"}, ""},
		{"client window empty", []string{"permessage-deflate; client_max_window_bits="}, ""},
		{"client window no number", []string{"permessage-deflate; client_max_window_bits=1x"}, ""},
		{"client window twice", []string{"permessage-deflate; client_max_window_bits; client_max_window_bits=10"}, ""},
		{"takeover twice", []string{"permessage-deflate; server_no_context_takeover; server_no_context_takeover"}, ""},
		{"server window twice", []string{"permessage-deflate; server_max_window_bits=15; server_max_window_bits=15"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var lines []string
			for _, f := range test.fields {
				lines = append(lines, "Sec-WebSocket-Extensions: "+f)
			}
			b := upgradeHead("/ws", lines...)
			res, _, upgraded := answer(t, b, func(r *Request) (Accept, error) {
				require.Equal(t, test.want != "", r.Deflate)
				return Accept{Deflate: true, Header: [][2]string{{"X-Other", "yes"}}}, nil
			})
			require.True(t, upgraded, "an offer is declined, not the upgrade")
			require.Equal(t, test.want, res.Header.Get("Sec-WebSocket-Extensions"))
			require.Equal(t, "yes", res.Header.Get("X-Other"))
			res, _, _ = answer(t, b, accept)
			require.Empty(t, res.Header.Values("Sec-WebSocket-Extensions"), "decide did not want it")
		})
	}
}
