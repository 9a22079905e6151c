package wire

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// Every idle connection has one.
func TestReaderSize(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Reader{}), uintptr(48))
}

// header makes the header of a masked frame that announces n bytes, in the given
// form of length: 7, 16 or 64 bits.
func header(op ws.OpCode, fin bool, form int, n uint64) []byte {
	b := []byte{byte(op), bitMask | byte(n)}
	if fin {
		b[0] |= bitFin
	}
	switch form {
	case 16:
		b[1] = bitMask | 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	case 64:
		b[1] = bitMask | 127
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// Refusals need neither the mask nor the payload.
func TestRefusedByHeader(t *testing.T) {
	const limit = 70_000
	tests := []struct {
		name  string
		bytes []byte
		code  uint16
	}{
		{"one byte too big", header(text, true, 64, limit+1), 1009},
		{"far too big", header(bin, true, 64, 1<<63-1), 1009},
		{"negative", header(bin, true, 64, 1<<63), 1002},
		{"all ones", header(bin, true, 64, 1<<64-1), 1002},
		{"fragment too big", header(bin, false, 64, limit+1), 1009},
		{"16 bits for 125", header(bin, true, 16, 125), 1002},
		{"16 bits for 0", header(bin, true, 16, 0), 1002},
		{"64 bits for 65535", header(bin, true, 64, 65535), 1002},
		{"ping of 126", header(ws.OpPing, true, 16, 126)[:2], 1002},
		{"close of 65536", header(ws.OpClose, true, 64, 65536)[:2], 1002},
		{"ping in fragments", header(ws.OpPing, false, 7, 0), 1002},
		{"unmasked", []byte{bitFin | byte(text), 1}, 1002},
		{"unmasked close", []byte{bitFin | byte(ws.OpClose), 0}, 1002},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var r Reader
			ev, payload, n, err := r.Next(test.bytes, RoleServer, limit)
			require.NotNil(t, err)
			require.Equal(t, test.code, err.Code, err.Reason)
			require.Equal(t, EventNone, ev)
			require.Nil(t, payload)
			require.Zero(t, n)
			for i := range test.bytes {
				_, _, n, err = (&Reader{}).Next(test.bytes[:i], RoleServer, limit)
				require.Nil(t, err, "refused after %d bytes", i)
				require.Zero(t, n)
			}
		})
	}
}

func TestMessageMax(t *testing.T) {
	const limit = 10
	exact := "0123456789"
	tests := []struct {
		name   string
		stream []byte
		expect []got
		code   uint16
	}{
		{"whole", whole(bin, exact), []got{{EventBinary, exact}}, 0},
		{"whole, over", whole(bin, exact+"0"), nil, 1009},
		{"fragments", fragments(exact, 3), []got{{EventText, exact}}, 0},
		{"fragments, over", fragments(exact+"0", 5), nil, 1009},
		{"last fragment over", join(begin(text, exact), whole(cont, "0")), nil, 1009},
		{"empty last fragment", join(begin(text, exact), whole(cont, "")), []got{{EventText, exact}}, 0},
		// A control frame is no part of the message that it interrupts.
		{"ping when full", join(begin(text, exact), whole(ws.OpPing, "a longer payload"), whole(cont, "")), []got{{EventPing, "a longer payload"}, {EventText, exact}}, 0},
		// The next message starts from nothing.
		{"one after the other", join(fragments(exact, 4), fragments(exact, 9)), []got{{EventText, exact}, {EventText, exact}}, 0},
	}
	for _, test := range tests {
		for name, cut := range feeds {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				events, code, _ := feed(t, test.stream, RoleServer, limit, cut(len(test.stream)))
				require.Equal(t, test.code, code)
				require.Equal(t, test.expect, events)
			})
		}
	}
}

// A message that came in fragments does not alias the received bytes, and the
// reader lets go of it.
func TestFragmentedMessageIsTheCallers(t *testing.T) {
	var r Reader
	b := begin(text, "abc")
	ev, _, n, err := r.Next(b, RoleServer, 100)
	require.Nil(t, err)
	require.Equal(t, EventFragment, ev)
	require.Equal(t, len(b), n)
	clear(b)
	b = whole(cont, "def")
	_, payload, _, err := r.Next(b, RoleServer, 100)
	require.Nil(t, err)
	clear(b)
	require.Equal(t, "abcdef", string(payload))
	require.Equal(t, Reader{}, r)
}

// A frame's payload cannot be appended into the frame behind it.
func TestPayloadCapacity(t *testing.T) {
	var r Reader
	_, payload, n, err := r.Next(join(whole(text, "abc"), whole(text, "def")), RoleServer, 100)
	require.Nil(t, err)
	require.Len(t, whole(text, "abc"), n)
	require.Equal(t, len(payload), cap(payload))
}

func TestRoleClient(t *testing.T) {
	stream := join(AppendFrame(nil, text, []byte("hello")), AppendFrame(nil, ws.OpPing, nil), AppendClose(nil, 3001, "shutdown"))
	for _, cut := range feeds {
		events, code, left := feed(t, stream, RoleClient, 100, cut(len(stream)))
		require.Zero(t, code)
		require.Zero(t, left)
		require.Equal(t, []got{{EventText, "hello"}, {EventPing, ""}, {EventClose, closePayload(3001, "shutdown")}}, events)
	}
	_, code, _ := feed(t, whole(text, "masked"), RoleClient, 100, func() int { return 1 })
	require.Equal(t, uint16(1002), code)
}

// Endless empty fragments hold no memory and are no message.
func TestEmptyFragments(t *testing.T) {
	var r Reader
	_, _, _, err := r.Next(begin(bin, ""), RoleServer, 100)
	require.Nil(t, err)
	for range 1000 {
		ev, _, n, err := r.Next(begin(cont, ""), RoleServer, 100)
		require.Nil(t, err)
		require.Equal(t, EventFragment, ev)
		require.Positive(t, n)
		require.False(t, r.Idle())
	}
	require.Zero(t, r.Held())
}

func TestNextDoesNotAllocate(t *testing.T) {
	b := whole(text, `{"id":1,"subscribe":{"channel":"trades"}}`)
	masked := append([]byte(nil), b...)
	var r Reader
	require.Zero(t, testing.AllocsPerRun(100, func() {
		copy(b, masked)
		if ev, _, _, err := r.Next(b, RoleServer, 1<<16); ev != EventText || err != nil {
			t.Fatal(ev, err)
		}
	}))
}

func TestCloseErrorText(t *testing.T) {
	require.Equal(t, "fail websocket connection with 1009: message too big", errTooBig.Error())
}
