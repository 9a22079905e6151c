package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

const secret = "a secret of thirty-two bytes, yes"

// now is the time of all tests.
var now = time.Unix(1_800_000_000, 0)

// private are private keys for tests, by algorithm.
var private = sync.OnceValue(func() map[string]any {
	must := func(key any, err error) any {
		if err != nil {
			panic(err)
		}
		return key
	}
	r := must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	keys := map[string]any{
		"ES256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"ES384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"ES512": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"EdDSA": ed,
	}
	for _, size := range []string{"256", "384", "512"} {
		keys["HS"+size], keys["RS"+size], keys["PS"+size] = []byte(secret), r, r
	}
	return keys
})

func publicOf(key any) any {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return &k.PublicKey
	case *ecdsa.PrivateKey:
		return &k.PublicKey
	case ed25519.PrivateKey:
		return k.Public()
	}
	return key
}

func pemOf(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(publicOf(key))
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// storeOf returns a store with all keys of tests.
func storeOf(t testing.TB) *KeyStore {
	t.Helper()
	keys := []Key{}
	hmac, err := ParseSecret(secret)
	require.NoError(t, err)
	keys = append(keys, hmac)
	for _, alg := range []string{"RS256", "ES256", "ES384", "ES512", "EdDSA"} {
		parsed, err := ParsePEM(pemOf(t, private()[alg]))
		require.NoError(t, err)
		keys = append(keys, parsed...)
	}
	store := &KeyStore{}
	store.Configure(keys)
	return store
}

func verifierOf(t testing.TB, change func(*Options)) *Verifier {
	t.Helper()
	o := Options{
		Keys: storeOf(t), Issuer: "https://issuer.example", Audience: "wsd", Leeway: time.Second, BytesMax: 8 << 10,
		Now: func() time.Time { return now },
	}
	if change != nil {
		change(&o)
	}
	return New(o)
}

// claimsOf returns good claims with changes; a nil value removes one.
func claimsOf(changes ...any) jwt.MapClaims {
	c := jwt.MapClaims{
		"sub": "alice", "iss": "https://issuer.example", "aud": "wsd", "exp": now.Unix() + 60, "nbf": now.Unix() - 60,
	}
	for i := 0; i < len(changes); i += 2 {
		if c[changes[i].(string)] = changes[i+1]; changes[i+1] == nil {
			delete(c, changes[i].(string))
		}
	}
	return c
}

func sign(t testing.TB, alg string, c jwt.Claims, header ...any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), c)
	for i := 0; i < len(header); i += 2 {
		token.Header[header[i].(string)] = header[i+1]
	}
	text, err := token.SignedString(private()[alg])
	require.NoError(t, err)
	return text
}

// faultOf returns the fault of an error; FaultNone if it is none of ours.
func faultOf(err error) Fault {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Fault
	}
	return FaultNone
}

// signText signs a header and a payload as they are, with the secret.
func signText(t testing.TB, header, payload string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	signature, err := jwt.SigningMethodHS256.Sign(text, []byte(secret))
	require.NoError(t, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}
