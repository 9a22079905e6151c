package proto

import (
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
		"twice":                {`{"subscribe":{},"id":2,"subscribe":{"token":"` + pad + `","tf":{"op":"x"}}}`, true},
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
		if !screenJSON(b) && len(b) < partsMax {
			require.True(t, json.Subscribe == nil || json.Subscribe.Tf != nil)
		}
		if s := json.Subscribe; s != nil && s.Tf != nil {
			require.False(t, screenJSON(b))
		}
		cmd, err := decodeProtobufCommand(b)
		if s := len(b); err == nil && s < partsMax && cmd.Subscribe != nil && cmd.Subscribe.Tf == nil {
			require.True(t, screenProtobuf(b))
		}
	})
}
