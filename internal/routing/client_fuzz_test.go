package routing

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzClientID reads what a record names as a client: the text of an id and nothing else, and of this process only what
// it has made itself.
func FuzzClientID(f *testing.F) {
	ids := NewClientIDs([16]byte{1, 2, 3})
	f.Add(ids.Of(MakeConnID(3, 2, 1)).Append(nil))
	f.Add([]byte(strings.Repeat("0", 32)))
	f.Add([]byte(strings.Repeat("F", 32)))
	f.Add([]byte(strings.Repeat("a", 31)))
	f.Add([]byte("0123456789abcdef0123456789abcde\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		id, ok := ParseClientID(text)
		plain, err := hex.DecodeString(string(text))
		require.Equal(t, err == nil && len(plain) == 16 && strings.ToLower(string(text)) == string(text), ok)
		if !ok {
			require.Zero(t, id)
			return
		}
		require.Equal(t, plain, id[:])
		require.Equal(t, string(text), string(id.Append(nil)))
		conn, ours := ids.Conn(id)
		require.Equal(t, ours, ids.Of(conn) == id)
		if back, isConn := ConnChannel(conn &^ connBit).Conn(); ours {
			require.True(t, isConn)
			require.Equal(t, conn&^connBit, back)
		}
	})
}
