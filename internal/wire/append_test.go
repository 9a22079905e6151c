package wire

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// gobwas/ws is the oracle for what is written.
func TestAppendAgainstWS(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 200_000} {
		payload := bytes.Repeat([]byte{'x'}, n)
		for _, op := range []ws.OpCode{text, bin} {
			want := ws.MustCompileFrame(ws.NewFrame(op, true, payload))
			require.Equal(t, want, AppendFrame(nil, op, payload))
			require.Equal(t, want[:len(want)-n], AppendHeader(nil, op, n))

			masked := ws.MustCompileFrame(ws.MaskFrameWith(ws.NewFrame(op, true, payload), testMask))
			require.Equal(t, append([]byte("before"), masked...), AppendMasked([]byte("before"), op, payload, testMask))
			require.Equal(t, n, bytes.Count(payload, []byte{'x'}), "the payload was changed")
		}
	}
	require.Equal(t, ws.CompiledPing, AppendFrame(nil, ws.OpPing, nil))
}

func TestAppendClose(t *testing.T) {
	long := strings.Repeat("x", 130)
	tests := []struct {
		name   string
		code   uint16
		reason string
		expect string // The payload.
	}{
		{"code and reason", 3008, "slow", closePayload(3008, "slow")},
		{"code alone", 1000, "", closePayload(1000, "")},
		{"longest", 1000, long[:123], closePayload(1000, long[:123])},
		{"cut", 1000, long, closePayload(1000, long[:123])},
		{"cut before a rune", 1000, long[:121] + "€", closePayload(1000, long[:121])},
		{"a rune fits exactly", 1000, long[:120] + "€" + "y", closePayload(1000, long[:120]+"€")},
		{"four bytes", 1000, long[:120] + "𝄞", closePayload(1000, long[:120])},
		{"not UTF-8", 1000, "a\xffb", closePayload(1000, "a\ufffdb")},
		{"not UTF-8 and long", 1000, strings.Repeat("a\xff", 60), closePayload(1000, strings.Repeat("a\ufffd", 30)+"a")},
		{"no code", 0, "lost", ""},
		{"1005", 1005, "lost", ""},
		{"1006", 1006, "lost", ""},
		{"1015", 1015, "lost", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := AppendClose([]byte("before"), test.code, test.reason)
			require.Equal(t, append([]byte("before"), ws.MustCompileFrame(ws.NewCloseFrame([]byte(test.expect)))...), b)
			var r Reader
			ev, payload, n, err := r.Next(b[len("before"):], RoleClient, 0)
			require.Nil(t, err)
			require.Equal(t, EventClose, ev)
			require.Equal(t, len(b)-len("before"), n)
			_, reason, err := CloseCode(payload)
			require.Nil(t, err)
			require.True(t, utf8.ValidString(reason))
		})
	}
}
