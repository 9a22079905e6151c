package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// SecretBytesMin is the least length of an HMAC secret. RFC 7518 §3.2 asks for as many as the hash has, 32 or more.
	SecretBytesMin = 16
	// KeysMax bounds the keys of one file or key set.
	KeysMax = 64

	rsaBitsMin = 2048
)

// Key is a key that tokens are verified by. It is for the algorithms that fit its type and for no others, whatever a
// token says. It never changes.
type Key struct {
	id         string   // The kid of a key set; empty: the key has none, and may be tried for any token.
	algorithms []string // The only ones that it verifies.
	material   jwt.VerificationKey
}

// Algorithms returns the algorithms that the key verifies.
func (k Key) Algorithms() []string { return slices.Clone(k.algorithms) }

// algorithmsOf returns the algorithms for a kind of key, or why it cannot be used.
func algorithmsOf(material any) ([]string, error) {
	switch m := material.(type) {
	case []byte:
		if len(m) < SecretBytesMin {
			return nil, fmt.Errorf("the secret has %d bytes; at least %d are needed", len(m), SecretBytesMin)
		}
		return []string{"HS256", "HS384", "HS512"}, nil
	case *rsa.PublicKey:
		if m.N.BitLen() < rsaBitsMin {
			return nil, fmt.Errorf("an RSA key of %d bits; at least %d are needed", m.N.BitLen(), rsaBitsMin)
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	case *ecdsa.PublicKey:
		switch m.Curve {
		case elliptic.P256():
			return []string{"ES256"}, nil
		case elliptic.P384():
			return []string{"ES384"}, nil
		case elliptic.P521():
			return []string{"ES512"}, nil
		}
		return nil, errors.New("an elliptic curve that no algorithm of tokens uses; use P-256, P-384 or P-521")
	case ed25519.PublicKey:
		return []string{"EdDSA"}, nil
	}
	return nil, fmt.Errorf("a key of a type that verifies no tokens (%T)", material)
}

func newKey(id string, material any) (Key, error) {
	algorithms, err := algorithmsOf(material)
	if err != nil {
		return Key{}, err
	}
	return Key{id: id, algorithms: algorithms, material: material}, nil
}

// ParseSecret returns the key for an HMAC secret.
func ParseSecret(secret string) (Key, error) { return newKey("", []byte(secret)) }

// ParsePEM returns the public keys of a PEM file: at least one, at most KeysMax. A certificate counts as the key in it;
// nothing else of it is looked at.
func ParsePEM(content []byte) (keys []Key, err error) {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		var material any
		switch block.Type {
		case "PUBLIC KEY":
			material, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			material, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				material = c.PublicKey
			}
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("contains a private key, which only the issuer of tokens may have: put the public " +
				"key here (openssl pkey -in KEY -pubout)")
		default:
			return nil, fmt.Errorf("contains a PEM block %q, which is not a public key", block.Type)
		}
		if err != nil {
			return nil, errors.New("contains a public key that cannot be read")
		}
		key, err := newKey("", material)
		if err != nil {
			return nil, err
		}
		if keys = append(keys, key); len(keys) > KeysMax {
			return nil, fmt.Errorf("contains more than %d keys", KeysMax)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("does not contain a public key in PEM form")
	}
	return keys, nil
}

// ParseKeySet returns the keys of a JSON Web Key Set (RFC 7517) that can verify tokens: at least one, at most KeysMax.
// Keys for encryption, keys of unknown types and secrets are left out, as RFC 7517 §5 asks for. A key that names its
// algorithm is for that one only.
func ParseKeySet(content []byte) (keys []Key, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(content, &set); err != nil || set.Keys == nil {
		return nil, errors.New("not a JSON Web Key Set")
	}
	if len(set.Keys) > KeysMax {
		return nil, fmt.Errorf("a key set of more than %d keys", KeysMax)
	}
	for _, raw := range set.Keys {
		if key, ok := parseJWK(raw); ok {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("a key set without a key that verifies tokens")
	}
	return keys, nil
}

func parseJWK(raw []byte) (Key, bool) {
	parsed, err := keyfunc.NewJWKJSON(raw)
	if err != nil {
		return Key{}, false
	}
	all, err := parsed.Storage().KeyReadAll(context.Background())
	if err != nil || len(all) != 1 {
		return Key{}, false
	}
	m := all[0].Marshal()
	material := all[0].Key()
	if m.KTY == "oct" || m.USE != "" && m.USE != "sig" {
		return Key{}, false
	}
	switch material.(type) { // A key that was published with its private part must not be trusted.
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return Key{}, false
	}
	key, err := newKey(m.KID, material)
	if err != nil {
		return Key{}, false
	}
	if alg := m.ALG.String(); alg != "" {
		if !slices.Contains(key.algorithms, alg) {
			return Key{}, false
		}
		key.algorithms = []string{alg}
	}
	return key, true
}

// KeyStore has the keys in use. Each source of keys replaces its own; the zero value has none. Any goroutine may use
// it.
type KeyStore struct {
	configured, fetched atomic.Pointer[[]Key]
}

// Configure sets the keys that are configured: secrets and key files.
func (s *KeyStore) Configure(keys []Key) { s.configured.Store(&keys) }

// Fetched sets the keys of a key set. They stay in use until others come.
func (s *KeyStore) Fetched(keys []Key) { s.fetched.Store(&keys) }

// Len returns how many keys are in use.
func (s *KeyStore) Len() (n int) {
	for _, list := range []*[]Key{s.configured.Load(), s.fetched.Load()} {
		if list != nil {
			n += len(*list)
		}
	}
	return n
}

// triedMax bounds the keys that one token is tried with.
const triedMax = 8

// find returns the keys that may have signed a token with this algorithm and key id, at most triedMax of them.
func (s *KeyStore) find(algorithm, id string) (keys []jwt.VerificationKey) {
	for _, list := range []*[]Key{s.configured.Load(), s.fetched.Load()} {
		if list == nil {
			continue
		}
		for _, k := range *list {
			if (k.id == "" || id == "" || k.id == id) && slices.Contains(k.algorithms, algorithm) {
				if keys = append(keys, k.material); len(keys) == triedMax {
					return keys
				}
			}
		}
	}
	return keys
}
