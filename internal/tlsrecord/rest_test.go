package tlsrecord_test

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/tlsrecord"
)

// TLS 1.2 has no KeyUpdate: a connection whose keys have protected as many records as they should says so, whichever of
// them it is, and can still be ended in order. One with ChaCha20-Poly1305 never has.
func TestWorn(t *testing.T) {
	for _, c := range choices {
		server, client := mirrored(t, c)
		require.Equal(t, c.suite != tls.TLS_CHACHA20_POLY1305_SHA256 &&
			c.suite != tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, server.Limit() != 0, c)
		if server.Limit() == 0 {
			continue
		}
		require.InDelta(t, 1<<24, server.Limit(), 1<<22, "less than 2^24.5, with room for what ends the connection")
		is12 := c.version == tls.VersionTLS12
		both := func(server, client *tlsrecord.Conn) bool {
			plain, _, err := client.Open(server.Seal(nil, []byte("x")))
			require.NoError(t, err)
			require.Equal(t, "x", string(plain))
			return server.Worn()
		}
		first := server.State().Out.Number
		server.LimitKey(uint32(first) + 10)
		for n := range 20 {
			require.Equal(t, is12 && n >= 9, both(server, client), "%s: sealed %d", c, n+1)
		}
		server, client = mirrored(t, c)
		server.LimitKey(uint32(first) + 10)
		for n := range 20 {
			both(client, server)
			require.Equal(t, is12 && n >= 9, server.Worn(), "%s: opened %d", c, n+1)
		}
		_, _, err := client.Open(server.SealAlert(server.Seal(nil, []byte("bye")), tlsrecord.AlertCloseNotify))
		require.ErrorIs(t, err, tlsrecord.ErrEnded, c)
	}
}

// Connections that get the same records do not change their keys, or end, at the same moment.
func TestLimitsAreSpread(t *testing.T) {
	limits := map[uint32]bool{}
	for range 100 {
		server, _ := mirrored(t, choices[0])
		limits[server.Limit()] = true
	}
	require.Greater(t, len(limits), 90)
}

// What a Conn takes while its ciphers rest.
func TestSize(t *testing.T) {
	require.LessOrEqual(t, int(tlsrecord.Size), 288, "a size class of Go's heap: the next one has 320")
}

// Ciphers that were dropped are made again, also after a KeyUpdate, and every record is what it would have been.
func TestRest(t *testing.T) {
	for _, c := range choices {
		server, client := mirrored(t, c)
		other, _ := mirrored(t, c)
		for n := range 10 {
			server.Rest()
			if n%2 == 0 {
				client.Rest()
			}
			sealed := server.Seal(nil, []byte("text"))
			require.Equal(t, other.Seal(nil, []byte("text")), sealed)
			if c.version == tls.VersionTLS13 && n%3 == 0 {
				server.Rest()
				sealed = server.SealUpdate(sealed, 0)
				other.SealUpdate(nil, 0)
				server.Rest()
			}
			plain, rest, err := client.Open(sealed)
			require.NoError(t, err)
			require.Empty(t, rest)
			require.Equal(t, "text", string(plain))
		}
	}
}

// BenchmarkRest is what it costs to seal 128 bytes with a cipher that was dropped and is made again.
func BenchmarkRest(b *testing.B) {
	for _, c := range []choice{choices[0], choices[1], choices[2]} {
		b.Run(c.String(), func(b *testing.B) {
			server, _ := mirrored(b, c)
			content, out := make([]byte, 128), make([]byte, 0, tlsrecord.SealMax)
			b.ReportAllocs()
			for b.Loop() {
				server.Rest()
				out = server.Seal(out[:0], content)
			}
		})
	}
}
