package proto

import (
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/stretchr/testify/require"
)

// A name with a lone surrogate is not taken for one with U+FFFD. Bytes that are not UTF-8 are not JSON.
func TestLossyNames(t *testing.T) {
	forms := map[string]string{
		"subscribe":      `"channel":`,
		"unsubscribe":    `"channel":`,
		"publish":        `"data":{},"channel":`,
		"presence":       `"channel":`,
		"presence_stats": `"channel":`,
		"history":        `"channel":`,
		"sub_refresh":    `"token":"x","channel":`,
		"rpc":            `"data":1,"method":`,
	}
	names := map[string]bool{
		`"a"`: true, `"\ud834\udd1e"`: true, `"\ufffd"`: true, "\"\ufffd\"": true, `"\\ud800"`: true,
		`"\ud800"`: false, `"a\udc00b"`: false, `"\udc00\ud800"`: false,
	}
	for command, form := range forms {
		for name, valid := range names {
			frame := `{"id":1,"` + command + `":{` + form + name + `}}`
			commands, err := decodeAll(frame)
			require.NoError(t, err, frame)
			require.Equal(t, valid, ValidNames(commands[0]), frame)
		}
	}
}

// What is passed through stays as it is.
func TestLossyData(t *testing.T) {
	commands, err := decodeAll(`{"id":1,"publish":{"channel":"a","data":"\ud800"}}` + "\n" + `{"id":2,"connect":{"token":"\ud800","data":{"x":"\udc00"}}}`)
	require.NoError(t, err)
	require.True(t, ValidNames(commands[0]))
	require.Equal(t, `"\ud800"`, string(commands[0].Publish.Data))
	require.True(t, ValidNames(commands[1]))
	require.Equal(t, `{"x":"\udc00"}`, string(commands[1].Connect.Data))
}

func TestLossyNamesProtobuf(t *testing.T) {
	require.False(t, ValidNames(&protocol.Command{Id: 1, Subscribe: &protocol.SubscribeRequest{Channel: "\xff"}}))
	b, err := (&protocol.Command{Id: 1, History: &protocol.HistoryRequest{Channel: "\xed\xa0\x80"}}).MarshalCF()
	require.NoError(t, err)
	cmd, err := decodeProtobufCommand(b)
	if err == nil { // The decoder may refuse it, too.
		require.False(t, ValidNames(cmd))
	}
}
