package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsePEM(t *testing.T) {
	two := append(pemOf(t, private()["RS256"]), pemOf(t, private()["EdDSA"])...)
	keys, err := ParsePEM(two)
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.Equal(t, []string{"EdDSA"}, keys[1].Algorithms())
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	for text, problem := range map[string]string{
		"":                              "does not contain a public key",
		"nothing":                       "does not contain a public key",
		string(pemOf(t, small)):         "1024 bits",
		block("PRIVATE KEY", []byte{1}): "private key",
		block("PUBLIC KEY", []byte{1}):  "cannot be read",
		block("CERTIFICATE", nil):       "cannot be read",
		block("DH PARAMETERS", nil):     `block "DH PARAMETERS"`,
		strings.Repeat(string(pemOf(t, private()["ES256"])), KeysMax+1): "more than 64",
	} {
		_, err := ParsePEM([]byte(text))
		require.ErrorContains(t, err, problem)
	}
	_, err = ParseSecret("short")
	require.ErrorContains(t, err, "at least 16")
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// set makes a key set of JWKs.
func set(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

func jwk(t testing.TB, more string) string {
	t.Helper()
	key := private()["RS256"].(*rsa.PrivateKey)
	enc := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"kty":"RSA","n":"%s","e":"%s"%s}`, enc(key.N.Bytes()), enc(big.NewInt(int64(key.E)).Bytes()), more)
}

func TestParseKeySet(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string // Algorithms of each key.
	}{
		{string(set(jwk(t, `,"kid":"a"`))), []string{"RS256,RS384,RS512,PS256,PS384,PS512"}},
		{string(set(jwk(t, `,"kid":"a","alg":"PS256"`))), []string{"PS256"}},
		{string(set(jwk(t, `,"alg":"PS256"`), jwk(t, `,"use":"enc"`), `{"kty":"new"}`, `7`)), []string{"PS256"}},
		{string(set(jwk(t, `,"alg":"HS256"`))), nil},
		{string(set(`{"kty":"oct","k":"` + base64.RawURLEncoding.EncodeToString([]byte(secret)) + `"}`)), nil},
		{`{}`, nil}, {`[]`, nil}, {``, nil}, {`{"keys":[]}`, nil},
		{string(set(strings.Split(strings.TrimSuffix(strings.Repeat(jwk(t, "")+"|", KeysMax+1), "|"), "|")...)), nil},
	} {
		keys, err := ParseKeySet([]byte(test.text))
		var got []string
		for _, k := range keys {
			got = append(got, strings.Join(k.Algorithms(), ","))
		}
		require.Equal(t, test.want, got)
		require.Equal(t, test.want == nil, err != nil)
	}
	store := &KeyStore{}
	keys, err := ParseKeySet(set(jwk(t, `,"kid":"a"`)))
	require.NoError(t, err)
	store.Fetched(keys)
	v := verifierOf(t, func(o *Options) { o.Keys = store })
	_, err = v.Verify(sign(t, "PS384", claimsOf(), "kid", "a"))
	require.NoError(t, err)
	_, err = v.Verify(sign(t, "PS384", claimsOf(), "kid", "b"))
	require.Equal(t, FaultKey, faultOf(err))
}

// A certificate counts as its key.
func TestCertificate(t *testing.T) {
	key := private()["ES256"]
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, publicOf(key), key)
	require.NoError(t, err)
	keys, err := ParsePEM([]byte(block("CERTIFICATE", der)))
	require.NoError(t, err)
	require.Equal(t, []string{"ES256"}, keys[0].Algorithms())
}
