package bus

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is appended is parsed, at whatever place the bytes end; other bytes are an error and never a panic.
func FuzzMessage(f *testing.F) {
	f.Add("channel", "topic/0", int64(7), []byte("value"), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, channel, origin string, offset int64, value, garbage []byte) {
		_, _, _ = parse(garbage)
		if len(channel) > NameMax || len(origin) > NameMax || len(value) > ValueMax {
			return
		}
		m := Message{Channel: channel, Origin: origin, Offset: offset, Value: value}
		b := m.append(nil)
		for end := range min(len(b), 64) {
			_, n, err := parse(b[:end])
			require.NoError(t, err)
			require.Zero(t, n)
		}
		got, n, err := parse(append(b, garbage...))
		require.NoError(t, err)
		require.Equal(t, len(b), n)
		require.Equal(t, channel, string(got.Channel))
		require.Equal(t, origin, string(got.Origin))
		require.Equal(t, offset, got.Offset)
		require.Equal(t, string(value), string(got.Value))
	})
}
