package shard

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// What Centrifugo 6.9.1 says to commands of which something is missing, unknown or not served, in both encodings: an
// error, or the end of the connection.
func TestAnswersLikeCentrifugo(t *testing.T) {
	r := newRig(t, nil)
	const ok = 0
	for _, test := range []struct {
		command string
		code    int // Of the error, or of the close frame.
	}{
		{`{"id":2}`, 3501},
		{`{"id":2,"ping":{}}`, 3501},
		{`{"id":2,"subscribe":{}}`, 3501},
		{`{"id":2,"subscribe":{"type":1}}`, 3501},
		{`{"id":2,"subscribe":{"type":4}}`, 3501},
		{`{"id":2,"unsubscribe":{}}`, 3501},
		{`{"id":2,"publish":{"data":{}}}`, 3501},
		{`{"id":2,"history":{}}`, 3501},
		{`{"id":2,"presence":{}}`, 3501},
		{`{"id":2,"presence_stats":{}}`, 3501},
		{`{"id":2,"sub_refresh":{"token":"t"}}`, 3501},
		{`{"id":2,"rpc":{}}`, 108},
		{`{"id":2,"rpc":{},"send":{}}`, 108},
		{`{"id":2,"send":{}}`, 3508},
		{`{"send":{}}`, 3508},
		{`{"id":2,"subscribe":{"channel":"q","delta":"fossil"}}`, ok},
		{`{"id":2,"subscribe":{"channel":"q","delta":"xdelta"}}`, 3501},
		{`{"id":2,"subscribe":{"channel":"q","type":1}}`, 103},
		{`{"id":2,"subscribe":{"channel":"q","type":2}}`, 103},
		{`{"id":2,"subscribe":{"channel":"q","type":3}}`, 103},
		{`{"id":2,"subscribe":{"channel":"q","type":4}}`, 108},
		{`{"id":2,"subscribe":{"channel":"q","type":1,"delta":"xdelta"}}`, 103},
		{`{"id":2,"subscribe":{"channel":"` + strings.Repeat("q", 65) + `","type":1}}`, 107},
		{`{"id":2,"subscribe":{"channel":"q","tf":{"key":"a","cmp":"eq","val":"b"}}}`, 107},
		{`{"id":2,"subscribe":{"channel":"q","tf":{}}}`, 107},
		{`{"id":2,"subscribe":{"channel":"q","flag":99}}`, ok},
		// Not alike: there 5 ends with 3004, after which SDKs reconnect and ask again for ever, and -1 is taken for 0.
		{`{"id":2,"subscribe":{"channel":"q","type":5}}`, 108},
		{`{"id":2,"subscribe":{"channel":"q","type":-1}}`, 108},
	} {
		for _, form := range []string{"json", "protobuf"} {
			t.Run(fmt.Sprintf("%s %.70s", form, test.command), func(t *testing.T) {
				var c *client
				var answer func() *protocol.Reply
				if form == "json" {
					c = r.join()
					answer = func() *protocol.Reply {
						reply := new(protocol.Reply)
						require.NoError(t, json.Unmarshal([]byte(c.message(wire.EventText)), reply))
						return reply
					}
					c.send(ws.OpText, test.command)
				} else {
					p := r.joinProtobuf()
					c, answer = p.client, func() *protocol.Reply { return p.replies()[0] }
					cmd := new(protocol.Command)
					require.NoError(t, json.Unmarshal([]byte(test.command), cmd))
					p.command(cmd)
				}
				defer c.conn.Close()
				if test.code >= 1000 {
					code, _ := c.closed()
					require.EqualValues(t, test.code, code)
					return
				}
				reply := answer()
				if test.code == ok {
					require.NotNil(t, reply.Subscribe)
					require.False(t, reply.Subscribe.Delta, "declined: publications are whole")
					return
				}
				require.NotNil(t, reply.Error)
				require.EqualValues(t, test.code, reply.Error.Code)
			})
		}
	}
}
