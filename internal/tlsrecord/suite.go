package tlsrecord

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	_ "crypto/sha256" // For crypto.SHA256.
	_ "crypto/sha512" // For crypto.SHA384.
	"crypto/tls"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// suite is what the record layer needs to know of a cipher suite.
type suite struct {
	hash     crypto.Hash
	keyBytes int
	make     func(key []byte) (cipher.AEAD, error)
	// sealMax is how many records one key may seal; 0: any number. RFC 8446 §5.5 allows 2^24.5 for AES-GCM.
	sealMax uint64
	// explicit is the number of bytes of the nonce that stand in each record: TLS 1.2 with AES-GCM (RFC 5288 §3).
	explicit int
}

const gcmSealMax = 1 << 24

var suites = map[uint16]*suite{
	tls.TLS_AES_128_GCM_SHA256:       {hash: crypto.SHA256, keyBytes: 16, make: gcm, sealMax: gcmSealMax},
	tls.TLS_AES_256_GCM_SHA384:       {hash: crypto.SHA384, keyBytes: 32, make: gcm, sealMax: gcmSealMax},
	tls.TLS_CHACHA20_POLY1305_SHA256: {hash: crypto.SHA256, keyBytes: 32, make: chacha20poly1305.New},

	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       gcm12(crypto.SHA256, 16),
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:         gcm12(crypto.SHA256, 16),
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       gcm12(crypto.SHA384, 32),
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:         gcm12(crypto.SHA384, 32),
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: chacha12(),
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:   chacha12(),
}

func gcm12(h crypto.Hash, keyBytes int) *suite {
	return &suite{hash: h, keyBytes: keyBytes, make: gcm, explicit: 8}
}

func chacha12() *suite {
	return &suite{hash: crypto.SHA256, keyBytes: chacha20poly1305.KeySize, make: chacha20poly1305.New}
}

// Suites12 returns the cipher suites of TLS 1.2 that a Conn can use, the preferred ones first. Those of TLS 1.3 all
// work.
func Suites12() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
func (s *suite) expandLabel(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	//nolint:gosec // Lengths are below 64.
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	info = append(info, 0)
	return hkdf.Expand(s.hash.New, secret, string(info), n)
}

// prf is the pseudorandom function of TLS 1.2 (RFC 5246 §5).
func (s *suite) prf(secret []byte, label string, seed []byte, n int) []byte {
	labelled := append([]byte(label), seed...)
	mac := func(data ...[]byte) []byte {
		h := hmac.New(func() hash.Hash { return s.hash.New() }, secret)
		for _, d := range data {
			h.Write(d)
		}
		return h.Sum(nil)
	}
	var out []byte
	for a := mac(labelled); len(out) < n; a = mac(a) {
		out = append(out, mac(a, labelled)...)
	}
	return out[:n]
}

func lookup(version, id uint16) (*suite, error) {
	s := suites[id]
	is13 := id>>8 == 0x13 // RFC 8446 §B.4 numbers the suites of TLS 1.3 so.
	if s == nil || is13 != (version == tls.VersionTLS13) || version != tls.VersionTLS12 && version != tls.VersionTLS13 {
		return nil, fmt.Errorf("no record layer for %s with %s", tls.VersionName(version), tls.CipherSuiteName(id))
	}
	return s, nil
}

var errSecret = errors.New("a secret or key of the wrong length")
