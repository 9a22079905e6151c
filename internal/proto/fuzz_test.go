package proto

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzCompactJSON has encoding/json as its oracle, see checkCompact.
func FuzzCompactJSON(f *testing.F) {
	for _, values := range [][]string{validValues, invalidValues} {
		for _, value := range values {
			if len(value) < 1000 {
				f.Add([]byte(value))
			}
		}
	}
	f.Fuzz(func(t *testing.T, value []byte) { checkCompact(t, value) })
}

// FuzzDecodeJSON expects that no frame crashes the decoder, that what it takes is
// JSON by encoding/json's measure as well, and that each command says the same
// when it is encoded and decoded again.
func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte("{\"id\":1,\"connect\":{\"token\":\"x\",\"subs\":{\"a\":{\"recover\":true,\"epoch\":\"e\",\"offset\":3}},\"headers\":{\"k\":\"v\"}}}\n{}"))
	f.Add([]byte(`{"id":2,"subscribe":{"channel":"é\u0000","tf":{"op":"and","nodes":[{"key":"a","cmp":"in","vals":["1"]}]},"data":[1]}}`))
	f.Add([]byte(`{"id":3,"history":{"channel":"a","limit":-1,"since":{"offset":1,"epoch":"x"},"reverse":true}}`))
	f.Add([]byte(`{"id":4,"sub_refresh":{"channel":"a","track":[{"items":[{"key":"k","version":1}]}],"untrack":["x"]}}`))
	f.Add([]byte("{\"send\":{\"data\":{}}}\n{\"id\":5,\"rpc\":{\"data\":\"x\",\"method\":\"m\"}}\n"))
	f.Add([]byte(`{"id":6,"publish":{"channel":"a","data":null,"key":"k","removed":true},"presence":{},"presence_stats":{},"ping":{},"refresh":{}}`))
	f.Add([]byte("null\n[]\n\"\"\n\n"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := bytes.Clone(frame)
		lines := bytes.Split(frame, newline)
		commands, err := decodeFrame(&JSON, frame)
		for n, c := range commands {
			require.True(t, json.Valid(lines[n]) && utf8.Valid(lines[n]), "%q", lines[n])
			require.False(t, c.Id == 0 && hasRequest(c))
			encoded := c.AppendJSON(nil)
			if !json.Valid(encoded) {
				t.Fatalf("%q becomes %q", lines[n], encoded)
			}
			again, err := decodeCommand(encoded)
			require.NoError(t, err, "%q", encoded)
			require.Equal(t, string(encoded), string(again.AppendJSON(nil)))
		}
		require.Equal(t, before, frame, "the frame was changed")
		if err != nil {
			require.True(t, errors.Is(err, ErrFrameEmpty) || errors.Is(err, errTooMany) || errors.Is(err, ErrCommandParts) || errors.Is(err, ErrCommandInvalid) || errors.Is(err, ErrCommandID), err)
			require.NotContains(t, err.Error(), "panic")
		}
		require.LessOrEqual(t, len(commands), commandsMax)
	})
}

// FuzzAppendPublication expects any channel and value to come out as they went
// in, on one line.
func FuzzAppendPublication(f *testing.F) {
	for i, channel := range oddStrings {
		f.Add(channel, []byte(validValues[i]), uint64(i))
	}
	f.Fuzz(func(t *testing.T, channel string, value []byte, offset uint64) {
		data, err := CompactJSON(nil, value, 128)
		if err != nil || !utf8.ValidString(channel) {
			return
		}
		push := AppendPublication(nil, channel, data, offset)
		require.NotContains(t, string(push), "\n")
		r := decodeReply(t, push)
		require.Equal(t, channel, r.Push.Channel)
		require.Equal(t, string(data), string(r.Push.Pub.Data))
		require.Equal(t, offset, r.Push.Pub.Offset)
	})
}
