package kafkatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// signingKey is the key that signs tokens. One serves all clusters of a test program.
var signingKey = sync.OnceValues(func() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
})

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// keys returns the public keys that brokers check tokens with, as JWKS (RFC 7517).
func keys(t testing.TB) string {
	t.Helper()
	key, err := signingKey()
	require.NoError(t, err)
	point, err := key.PublicKey.Bytes() // 4, x and y.
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "test", "x": encode(point[1:33]),
		"y": encode(point[33:]),
	}}})
	require.NoError(t, err)
	return string(text)
}

// Token returns a token (RFC 7519, signed by ES256) of a user that is valid until a time, rounded up to a whole second.
func Token(t testing.TB, user string, until time.Time) string {
	t.Helper()
	key, err := signingKey()
	require.NoError(t, err)
	part := func(v any) string {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return encode(text)
	}
	signed := part(map[string]string{"alg": "ES256", "kid": "test", "typ": "JWT"}) + "." + part(map[string]any{
		"sub": user, "iat": time.Now().Unix() - 1, "exp": until.Add(time.Second - 1).Unix(), "scope": "kafka",
	})
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	require.NoError(t, err)
	return signed + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}
