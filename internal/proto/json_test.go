package proto

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/stretchr/testify/require"
)

// commandsMax is the limit of the tests.
const commandsMax = 100

var errTooMany = errors.New("too many commands")

// decodeFrame takes a frame as a shard does: at most commandsMax commands, one after the other.
func decodeFrame(e *Encoding, frame []byte) (commands []*protocol.Command, err error) {
	if e.Count(frame) > commandsMax {
		return nil, errTooMany
	}
	for more := true; more; more = len(frame) > 0 {
		var cmd *protocol.Command
		if cmd, frame, err = e.Next(frame); err != nil {
			break
		}
		commands = append(commands, cmd)
	}
	return commands, err
}

func decodeAll(frame string) (commands []*protocol.Command, err error) {
	return decodeFrame(&JSON, []byte(frame))
}

func TestDecodeJSON(t *testing.T) {
	// What centrifuge-js sends.
	commands, err := decodeAll(`{"connect":{"name":"js"},"id":1}
{"id":2,"subscribe":{"channel":"trades","recover":true,"epoch":"x","offset":18446744073709551615}}
{"id":3,"unsubscribe":{"channel":"é"}}
{}
{"send":{"data":{"a": 1}}}
`)
	require.NoError(t, err)
	require.Len(t, commands, 5)
	require.Equal(t, uint32(1), commands[0].Id)
	require.Equal(t, "js", commands[0].Connect.Name)
	require.Equal(t, "trades", commands[1].Subscribe.Channel)
	require.True(t, commands[1].Subscribe.Recover)
	require.Equal(t, uint64(math.MaxUint64), commands[1].Subscribe.Offset)
	require.Equal(t, "é", commands[2].Unsubscribe.Channel)
	require.Equal(t, &protocol.Command{}, commands[3])
	require.JSONEq(t, `{"a":1}`, string(commands[4].Send.Data))
}

func TestDecodeJSONAccepts(t *testing.T) {
	for name, frame := range map[string]string{
		"pong":                 `{}`,
		"pong and newline":     "{}\n",
		"pong with id 0":       `{"id":0}`,
		"unknown request":      `{"id":7,"fly":{"to":"moon"}}`,
		"unknown fields":       `{"id":1,"connect":{"later":[1,{"x":null}]},"more":"\u00e9"}`,
		"spaces":               " { \"id\" : 1 , \"ping\" : { } }\t\r\n",
		"null request":         `{"id":1,"connect":null}`,
		"send without an id":   `{"send":{}}`,
		"highest id":           `{"id":4294967295,"ping":{}}`,
		"two requests":         `{"id":1,"connect":{},"ping":{}}`,
		"escapes":              `{"id":1,"subscribe":{"channel":"\u0000\ud83d\ude00\n"}}`,
		"as many as are taken": strings.Repeat("{}\n", commandsMax),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeAll(frame)
			require.NoError(t, err)
		})
	}
}

func TestDecodeJSONRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		frame   string
		handled int
		err     error
	}{
		"empty":                {"", 0, ErrFrameEmpty},
		"newline":              {"\n", 0, ErrCommandInvalid},
		"space":                {" ", 0, ErrCommandInvalid},
		"empty line":           {"{}\n\n{}", 1, ErrCommandInvalid},
		"two newlines":         {"{}\n\n", 1, ErrCommandInvalid},
		"newline first":        {"\n{}", 0, ErrCommandInvalid},
		"no newline between":   {"{}{}", 0, ErrCommandInvalid},
		"comma between":        {"{},{}", 0, ErrCommandInvalid},
		"array":                {`[{"id":1,"ping":{}}]`, 0, ErrCommandInvalid},
		"null":                 {`null`, 0, ErrCommandInvalid},
		"number":               {`1`, 0, ErrCommandInvalid},
		"string":               {`"{}"`, 0, ErrCommandInvalid},
		"not JSON":             {`hello`, 0, ErrCommandInvalid},
		"cut off":              {`{"id":1,"connect":{`, 0, ErrCommandInvalid},
		"newline inside":       {"{\"id\":1,\n\"ping\":{}}", 0, ErrCommandInvalid},
		"negative id":          {`{"id":-1,"ping":{}}`, 0, ErrCommandInvalid},
		"fractional id":        {`{"id":1.5,"ping":{}}`, 0, ErrCommandInvalid},
		"id too high":          {`{"id":4294967296,"ping":{}}`, 0, ErrCommandInvalid},
		"id in quotes":         {`{"id":"1","ping":{}}`, 0, ErrCommandInvalid},
		"id twice":             {`{"id":1,"id":2,"ping":{}}`, 0, ErrCommandInvalid},
		"request of no object": {`{"id":1,"connect":[]}`, 0, ErrCommandInvalid},
		"bad UTF-8":            {"{\"id\":1,\"subscribe\":{\"channel\":\"\xff\"}}", 0, ErrCommandInvalid},
		"NUL":                  {"{\"id\":1,\"subscribe\":{\"channel\":\"a\x00\"}}", 0, ErrCommandInvalid},
		"bad unknown field":    {`{"id":1,"x":[1,],"ping":{}}`, 0, ErrCommandInvalid},
		"no id":                {`{"connect":{}}`, 0, ErrCommandID},
		"id 0":                 {`{"id":0,"subscribe":{"channel":"x"}}`, 0, ErrCommandID},
		"send and no id":       {`{"send":{},"rpc":{}}`, 0, ErrCommandID},
		"second one bad":       {"{}\n{\"id\":1,\"ping\":{}}\nx\n{}", 2, ErrCommandInvalid},
		"too many":             {strings.Repeat("{}\n", commandsMax+1), 0, errTooMany},
		"deep filter":          {`{"id":1,"subscribe":{"channel":"x","tf":` + strings.Repeat(`{"nodes":[`, 5000) + strings.Repeat(`]}`, 5000) + `}}`, 0, ErrCommandParts},
	} {
		t.Run(name, func(t *testing.T) {
			commands, err := decodeAll(test.frame)
			require.ErrorIs(t, err, test.err)
			require.Len(t, commands, test.handled)
		})
	}
}

// Each request but send needs an id: the list in hasRequest is complete.
func TestEveryRequestNeedsAnID(t *testing.T) {
	for _, name := range []string{"connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "ping", "rpc", "refresh", "sub_refresh"} {
		_, err := decodeAll(`{"` + name + `":{}}`)
		require.ErrorIs(t, err, ErrCommandID, name)
		_, err = decodeAll(`{"id":1,"` + name + `":{}}`)
		require.NoError(t, err, name)
	}
}

// Commands outlive the read buffer that they came in.
func TestCommandDoesNotAliasTheFrame(t *testing.T) {
	frame := []byte(`{"id":1,"subscribe":{"channel":"trades","token":"é","data":{"x":"y"}}}`)
	kept, rest, err := NextJSON(frame)
	require.NoError(t, err)
	require.Empty(t, rest)
	clear(frame)
	require.Equal(t, "trades", kept.Subscribe.Channel)
	require.Equal(t, "é", kept.Subscribe.Token)
	require.Equal(t, `{"x":"y"}`, string(kept.Subscribe.Data))
}

func TestAppendReply(t *testing.T) {
	out, err := AppendReply([]byte("before"), &protocol.Reply{Id: 1, Connect: &protocol.ConnectResult{Client: "c", Version: "v", Ping: 25, Pong: true}})
	require.NoError(t, err)
	require.Equal(t, `before{"id":1,"connect":{"client":"c","version":"v","ping":25,"pong":true}}`, string(out))
	out, err = AppendReply(nil, &protocol.Reply{Id: 2, Error: ErrMethodNotFound.Reply()})
	require.NoError(t, err)
	require.Equal(t, `{"id":2,"error":{"code":104,"message":"method not found"}}`, string(out))
	out, err = AppendReply(nil, &protocol.Reply{})
	require.NoError(t, err)
	require.Equal(t, PingFrameJSON, string(out))

	for _, raw := range []string{"{", "{}{}", "\xff", "\"\x00\""} {
		out, err = AppendReply([]byte("before"), &protocol.Reply{Id: 1, Rpc: &protocol.RPCResult{Data: protocol.Raw(raw)}})
		require.Error(t, err, "%q", raw)
		require.Equal(t, "before", string(out))
	}
}

// channels and reasons that need escaping, or might seem to.
var oddStrings = []string{
	"trades", "a", `quo"te`, `back\slash`, "new\nline", "tab\t", "nul\x00", "del\x7f", "\x1f", "é", "日本語", "𝄞", "<&>", "a/b",
	"\u2028\u2029", "\ufeff", strings.Repeat("x", 255), "$user:1#2,3", "  ",
}

func TestAppendPublication(t *testing.T) {
	for _, channel := range append(oddStrings, "") {
		for _, data := range []string{`{"n":1}`, `null`, `"a\"b"`, "\"\u2028\u00e9\"", `1e400`, `[]`} {
			for _, offset := range []uint64{0, 1, 1 << 53, math.MaxUint64} {
				got := AppendPublication([]byte("before"), channel, []byte(data), offset)
				require.Equal(t, "before", string(got[:6]))
				got = got[6:]
				require.NotContains(t, string(got), "\n")

				r := decodeReply(t, got)
				want := &protocol.Reply{Push: &protocol.Push{Channel: channel, Pub: &protocol.Publication{Data: protocol.Raw(data), Offset: offset}}}
				require.Equal(t, want, r)
				encoded, err := protocol.NewJSONReplyEncoder().Encode(want)
				require.NoError(t, err)
				if channel != "" {
					require.Equal(t, string(encoded), string(got))
				}
				var std struct {
					Push struct {
						Channel string
						Pub     struct {
							Data   json.RawMessage
							Offset uint64
						}
					}
				}
				require.NoError(t, json.Unmarshal(got, &std))
				require.Equal(t, channel, std.Push.Channel)
				require.Equal(t, data, string(std.Push.Pub.Data))
				require.Equal(t, offset, std.Push.Pub.Offset)
			}
		}
	}
}

func TestAppendUnsubscribePush(t *testing.T) {
	for _, channel := range oddStrings {
		got := AppendUnsubscribePush(nil, channel, 2500, `insufficient "state"`)
		want := &protocol.Reply{Push: &protocol.Push{Channel: channel, Unsubscribe: &protocol.Unsubscribe{Code: 2500, Reason: `insufficient "state"`}}}
		encoded, err := protocol.NewJSONReplyEncoder().Encode(want)
		require.NoError(t, err)
		require.Equal(t, string(encoded), string(got))
	}
}

// decodeReply reads exactly one reply, as a client does.
func decodeReply(tb testing.TB, b []byte) *protocol.Reply {
	tb.Helper()
	d := protocol.NewJSONReplyDecoder(b)
	r, err := d.Decode()
	require.NoError(tb, err, "%q", b)
	_, err = d.Decode()
	require.ErrorIs(tb, err, io.EOF)
	return r
}

func TestAppendPublicationDoesNotAllocate(t *testing.T) {
	dst, data := make([]byte, 0, 256), []byte(`{"symbol":"ACME","price":12.5}`)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		dst = AppendPublication(dst[:0], "trades", data, 1234567)
	}))
}

func TestAppendMessage(t *testing.T) {
	for _, data := range []string{`{"a":1}`, "null", `"text"`} {
		want := &protocol.Reply{Push: &protocol.Push{Message: &protocol.Message{Data: []byte(data)}}}
		got := AppendMessage([]byte("before"), []byte(data))
		require.Equal(t, "before"+string(want.AppendJSON(nil)), string(got))

		out, err := AppendReplyProtobuf([]byte("before"), want)
		require.NoError(t, err)
		require.Equal(t, out, AppendMessageProtobuf([]byte("before"), []byte(data)))
	}
	big := bytes.Repeat([]byte{0xff}, 300)
	out, err := AppendReplyProtobuf(nil, &protocol.Reply{Push: &protocol.Push{Message: &protocol.Message{Data: big}}})
	require.NoError(t, err)
	require.Equal(t, out, AppendMessageProtobuf(nil, big))
	dst := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = AppendMessage(dst[:0], big) }))
}
