package proto

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/stretchr/testify/require"
)

// pad makes a command long enough to be screened.
var pad = strings.Repeat("p", screenedFrom)

// A long command that would cost far more than its bytes is refused before it is decoded, in both encodings.
func TestScreen(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat(`{},`, partsMax+2), ",")
	var list []string
	for i := range partsMax + 2 {
		list = append(list, fmt.Sprintf(`"n%d":{}`, i))
	}
	names := strings.Join(list, ",")
	for name, c := range map[string]struct {
		command string
		refused bool
	}{
		"a filter":             {`{"id":2,"subscribe":{"channel":"x","tf":{"nodes":[` + many + `]}}}`, true},
		"escaped":              {`{"id":2,"\u0073ubscribe":{"channel":"x","\u0074f":{"nodes":[` + many + `]}}}`, true},
		"spaces":               {`{ "id" : 2 , "subscribe" : { "channel" : "x" , "tf" : { "key":"` + pad + `" } } }`, true},
		"twice":                {`{"subscribe":{},"id":2,"subscribe":{"token":"` + pad + `","tf":{"key":"` + pad + `"}}}`, true},
		"a small filter":       {`{"id":2,"subscribe":{"channel":"x","token":"` + pad + `","tf":{"op":"x"}}}`, false},
		"a filter elsewhere":   {`{"id":2,"rpc":{"method":"x","tf":{"key":"` + pad + `"}}}`, false},
		"no filter":            {`{"id":2,"subscribe":{"token":"` + pad + `","tf":null}}`, false},
		"a filter in the data": {`{"id":2,"subscribe":{"data":{"tf":{},"x":"` + pad + `"}}}`, false},
		"a filter in a text":   {`{"id":2,"subscribe":{"token":"` + pad + `\",\"tf\":{}"}}`, false},
		"subscriptions":        {`{"id":1,"connect":{"subs":{` + names + `}}}`, true},
		"headers":              {`{"id":1,"connect":{"headers":{` + strings.ReplaceAll(names, "{}", `""`) + `}}}`, true},
		"some subscriptions":   {`{"id":1,"connect":{"subs":{` + strings.Repeat(`"a":{"recover":true},`, 999) + `"b":{}}}}`, false},
		"tracked":              {`{"id":1,"sub_refresh":{"track":[` + many + `]}}`, true},
		"much data":            {`{"id":1,"rpc":{"data":[` + many + `]}}`, false},
		"many fields":          {`{"id":1,"later":{` + names + `}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.GreaterOrEqual(t, len(c.command), screenedFrom)
			require.Equal(t, !c.refused, screenJSON([]byte(c.command)))
			_, _, err := NextJSON([]byte(c.command))
			if c.refused {
				require.ErrorIs(t, err, ErrCommandParts)
			} else {
				require.NotErrorIs(t, err, ErrCommandParts)
			}
			var cmd protocol.Command
			if json.Unmarshal([]byte(c.command), &cmd) != nil {
				return
			}
			_, _, err = NextProtobuf(delimit(t, &cmd))
			if c.refused {
				require.ErrorIs(t, err, ErrCommandParts)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

// Screening reads any bytes, and refuses nothing that decodes to a command without a filter and with few parts.
func FuzzScreen(f *testing.F) {
	f.Add([]byte(`{"id":2,"subscribe":{"channel":"x","\u0074f":{"nodes":[{}]}}}`))
	f.Add([]byte{0x08, 2, 5<<3 | 2, 4, 0x0a, 1, 'x', 13<<3 | 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		json := new(protocol.Command)
		if cmd, err := decodeCommand(b); err == nil {
			json = cmd
		}
		if len(b) < partsMax && (json.Subscribe == nil || json.Subscribe.Tf == nil) && json.Id != 0 {
			require.True(t, screenJSON(b))
		}
		if s := json.Subscribe; s != nil && s.Tf != nil && len(s.Tf.Nodes) > filterMax/2 {
			require.False(t, screenJSON(b))
		}
		cmd, err := decodeProtobufCommand(b)
		if err != nil {
			return
		}
		if len(b) <= filterMax {
			require.True(t, screenProtobuf(b))
		}
		if screenProtobuf(b) {
			require.LessOrEqual(t, partsOf(cmd), partsMax+filterMax/2)
		}
	})
}

// partsOf returns how many parts a command was decoded to.
func partsOf(cmd *protocol.Command) (n int) {
	filter := func(f *protocol.FilterNode) int {
		if f == nil {
			return 0
		}
		return len(f.Nodes) + len(f.Vals)
	}
	if r := cmd.Connect; r != nil {
		n += len(r.Subs) + len(r.Headers)
		for _, s := range r.Subs {
			n += filter(s.GetTf())
		}
	}
	if r := cmd.Subscribe; r != nil {
		n += filter(r.Tf)
	}
	if r := cmd.SubRefresh; r != nil {
		n += len(r.Untrack)
		for _, batch := range r.Track {
			n += 1 + len(batch.GetItems())
		}
	}
	return n
}

// What Protobuf can hide from a count of a request's own fields is counted: inner messages, and fields that are there
// many times.
func TestScreenInnerMessages(t *testing.T) {
	field := func(number int, content string) string {
		b := binary.AppendUvarint(nil, uint64(number)<<3|2)
		return string(append(binary.AppendUvarint(b, uint64(len(content))), content...))
	}
	sub := func(filter string) string { return field(4, field(3, field(1, "a")+field(2, field(13, filter)))) }
	nodes, vals := strings.Repeat(field(6, ""), 20_000), strings.Repeat(field(5, ""), 20_000)
	half := strings.Repeat(field(6, ""), filterMax/4+1)
	for name, c := range map[string]struct {
		command string
		refused bool
	}{
		"nodes of a filter in subs": {sub(nodes), true},
		"values of a filter":        {sub(vals), true},
		"a small filter in subs":    {sub(half) + field(4, field(4, pad)), false},
		"merged filters":            {sub(half) + sub(half), true},
		"merged filters of one":     {field(5, field(13, half)) + field(5, field(1, "x")+field(13, half)), true},
		"items":                     {field(15, field(1, "a")+field(4, strings.Repeat(field(2, ""), partsMax))), true},
		"requests again and again":  {strings.Repeat(field(4, ""), partsMax), true},
		"entries in many requests":  {strings.Repeat(field(4, field(6, "")), partsMax/2), true},
		"an unknown field":          {field(99, strings.Repeat("\x00", 10_000)), false},
		"data":                      {field(13, field(1, strings.Repeat("\x32\x00", 10_000))), false},
	} {
		t.Run(name, func(t *testing.T) {
			message := append([]byte{8, 2}, c.command...)
			_, _, err := NextProtobuf(append(binary.AppendUvarint(nil, uint64(len(message))), message...))
			if c.refused {
				require.ErrorIs(t, err, ErrCommandParts)
			} else {
				require.NoError(t, err)
			}
		})
	}
}
