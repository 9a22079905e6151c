package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// SignSecret returns a token with the claims, signed by an HMAC secret with HS256. It is for trying out: wsd itself
// issues no tokens.
func SignSecret(secret string, claims map[string]any) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(claims)).SignedString([]byte(secret))
}

// SignPEM is SignSecret with the private key of a PEM file: RS256, EdDSA, or ES256, ES384 or ES512 as the key has it.
func SignPEM(content []byte, claims map[string]any) (string, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return "", errors.New("does not contain a private key in PEM form")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return "", errors.New("contains no private key that can be read; an encrypted one must be decrypted before")
	}
	var public any
	switch k := key.(type) {
	case *rsa.PrivateKey:
		public = &k.PublicKey
	case *ecdsa.PrivateKey:
		public = &k.PublicKey
	case ed25519.PrivateKey:
		public = k.Public()
	}
	algorithms, err := algorithmsOf(public)
	if err != nil {
		return "", err
	}
	return jwt.NewWithClaims(jwt.GetSigningMethod(algorithms[0]), jwt.MapClaims(claims)).SignedString(key)
}

// Peek returns the header and the claims of a token as they are written, without any check, to be shown to whoever has
// the token.
func Peek(token string) (header, claims json.RawMessage, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("%d parts separated by dots; a token has 3", len(parts))
	}
	for i, to := range []*json.RawMessage{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || !json.Valid(text) {
			return nil, nil, fmt.Errorf("the %s is not JSON in base64url", [...]string{"header", "payload"}[i])
		}
		*to = text
	}
	return header, claims, nil
}
