package proto

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/stretchr/testify/require"
)

// delimit is how the protocol's own encoder frames messages.
func delimit(tb testing.TB, messages ...interface{ MarshalCF() ([]byte, error) }) []byte {
	tb.Helper()
	var frame []byte
	for _, m := range messages {
		b, err := m.MarshalCF()
		require.NoError(tb, err)
		frame = append(binary.AppendUvarint(frame, uint64(len(b))), b...)
	}
	return frame
}

func decodeAllProtobuf(frame []byte) (commands []*protocol.Command, err error) {
	return decodeFrame(&Protobuf, frame)
}

func TestDecodeProtobuf(t *testing.T) {
	sent := []*protocol.Command{
		{Id: 1, Connect: &protocol.ConnectRequest{Name: "dart", Data: []byte{0, 1, 2}}},
		{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "a", Offset: math.MaxUint64}},
		{Send: &protocol.SendRequest{Data: []byte("x")}},
		{},
	}
	frame := delimit(t, sent[0], sent[1], sent[2], sent[3])
	got, err := decodeAllProtobuf(frame)
	require.NoError(t, err)
	require.Len(t, got, len(sent))
	for i := range sent {
		require.Equal(t, delimit(t, sent[i]), delimit(t, got[i]))
	}
	clear(frame)
	require.Equal(t, "a", got[1].Subscribe.Channel, "it does not alias the frame")
	got, err = decodeAllProtobuf([]byte(PingFrameProtobuf))
	require.NoError(t, err)
	require.Equal(t, []*protocol.Command{{}}, got)
}

func TestDecodeProtobufRefuses(t *testing.T) {
	pong := string(PingFrameProtobuf)
	subscribe := string(delimit(t, &protocol.Command{Id: 1, Subscribe: &protocol.SubscribeRequest{Channel: "abc"}}))
	for name, c := range map[string]struct {
		frame   string
		want    error
		handled int
	}{
		"empty":                       {"", ErrFrameEmpty, 0},
		"length without end":          {"\x80", ErrCommandInvalid, 0},
		"length too long":             {strings.Repeat("\x80", 10) + "\x02", ErrCommandInvalid, 0},
		"longer than the frame":       {"\x05\x08\x01", ErrCommandInvalid, 0},
		"far longer than the frame":   {"\xff\xff\xff\xff\xff\xff\xff\xff\x7f", ErrCommandInvalid, 0},
		"cut":                         {pong + subscribe[:len(subscribe)-1], ErrCommandInvalid, 1},
		"no tag":                      {"\x01\xff", ErrCommandInvalid, 0},
		"request without id":          {string(delimit(t, &protocol.Command{Ping: &protocol.PingRequest{}})), ErrCommandID, 0},
		"text":                        {`{"id":1,"connect":{}}`, ErrCommandInvalid, 0},
		"too many":                    {strings.Repeat(pong, commandsMax+1), errTooMany, 0},
		"a good one before a bad one": {subscribe + "\x01\xff", ErrCommandInvalid, 1},
	} {
		got, err := decodeAllProtobuf([]byte(c.frame))
		require.ErrorIs(t, err, c.want, name)
		require.Len(t, got, c.handled, name)
	}
}

// What is written by hand is what the protocol's own encoder writes.
func TestAppendProtobuf(t *testing.T) {
	long := strings.Repeat("é", 300)
	for _, channel := range []string{"a", long} {
		for _, data := range []string{"", "{}", "\x00\xff", long} {
			for _, offset := range []uint64{0, 1, 127, 128, math.MaxUint64} {
				want := delimit(t, &protocol.Reply{Push: &protocol.Push{Channel: channel, Pub: &protocol.Publication{Data: []byte(data), Offset: offset}}})
				got := AppendPublicationProtobuf([]byte("before"), channel, []byte(data), offset)
				require.Equal(t, decodeReplies(t, want), decodeReplies(t, got[len("before"):]), "%q %q %d", channel, data, offset)
				if data != "" { // An empty field may be left out.
					require.Equal(t, want, got[len("before"):])
				}
			}
		}
		want := delimit(t, &protocol.Reply{Push: &protocol.Push{Channel: channel, Unsubscribe: &protocol.Unsubscribe{Code: 2500, Reason: "why"}}})
		require.Equal(t, want, AppendUnsubscribePushProtobuf(nil, channel, 2500, "why"))
	}
	reply := &protocol.Reply{Id: 7, Error: &protocol.Error{Code: 105, Message: "m"}}
	got, err := AppendReplyProtobuf([]byte("x"), reply)
	require.NoError(t, err)
	require.Equal(t, append([]byte("x"), delimit(t, reply)...), got)
	got, err = AppendReplyProtobuf(nil, &protocol.Reply{})
	require.NoError(t, err)
	require.Equal(t, PingFrameProtobuf, string(got))

	buf := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = AppendPublicationProtobuf(buf[:0], "channel", []byte("data"), 5) }))
}

func decodeReplies(tb testing.TB, frame []byte) (all []*protocol.Reply) {
	tb.Helper()
	for len(frame) > 0 {
		length, n := binary.Uvarint(frame)
		require.Positive(tb, n)
		r := new(protocol.Reply)
		require.NoError(tb, r.UnmarshalCF(frame[n:n+int(length)]))
		if r.Push != nil && r.Push.Pub != nil && len(r.Push.Pub.Data) == 0 {
			r.Push.Pub.Data = nil
		}
		all, frame = append(all, r), frame[n+int(length):]
	}
	return all
}

func FuzzDecodeProtobuf(f *testing.F) {
	f.Add([]byte(PingFrameProtobuf))
	f.Add(delimit(f, &protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{Token: "t"}}, &protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "c", Tf: &protocol.FilterNode{Op: "x"}}}))
	f.Add([]byte{0x80, 0x80, 0x80, 0x01})
	f.Fuzz(func(t *testing.T, frame []byte) {
		commands, err := decodeAllProtobuf(frame)
		for _, c := range commands {
			require.NotNil(t, c)
			require.True(t, c.Id != 0 || !hasRequest(c))
		}
		require.LessOrEqual(t, len(commands), commandsMax)
		require.True(t, err != nil || len(commands) == CountProtobuf(frame))
	})
}
