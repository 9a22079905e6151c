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

// suite is what the record layer needs to know of a cipher suite and the version that it belongs to.
type suite struct {
	id, version uint16
	hash        crypto.Hash
	keyBytes    int
	make        func(key []byte) (cipher.AEAD, error)
	// limited says that a key may protect 2^24.5 records and no more: AES-GCM, RFC 8446 §5.5. RFC 9325 §4.4 has the
	// same number for TLS 1.2.
	limited bool
	// explicit is the number of bytes of the nonce that stand in each record: TLS 1.2 with AES-GCM (RFC 5288 §3).
	explicit int
}

const (
	// recordsMax is how many records a key of AES-GCM protects before it is replaced, or its connection ends. Up to
	// 2^24.5 there is room for millions of others, such as those that end a connection.
	recordsMax = 1 << 24
	// recordsSpread is by how much a connection stays below that, at random: those that get the same records do not
	// change their keys, or end, at the same moment.
	recordsSpread = recordsMax / 4
)

// suites are those of both versions, by their id.
var suites = byID(
	gcm13(tls.TLS_AES_128_GCM_SHA256, crypto.SHA256, 16),
	gcm13(tls.TLS_AES_256_GCM_SHA384, crypto.SHA384, 32),
	chacha(tls.VersionTLS13, tls.TLS_CHACHA20_POLY1305_SHA256),

	gcm12(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, crypto.SHA256, 16),
	gcm12(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, crypto.SHA256, 16),
	gcm12(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, crypto.SHA384, 32),
	gcm12(tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, crypto.SHA384, 32),
	chacha(tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
	chacha(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
)

func byID(list ...*suite) map[uint16]*suite {
	m := make(map[uint16]*suite, len(list))
	for _, s := range list {
		m[s.id] = s
	}
	return m
}

func gcm13(id uint16, h crypto.Hash, keyBytes int) *suite {
	return &suite{id: id, version: tls.VersionTLS13, hash: h, keyBytes: keyBytes, make: gcm, limited: true}
}

func gcm12(id uint16, h crypto.Hash, keyBytes int) *suite {
	return &suite{id: id, version: tls.VersionTLS12, hash: h, keyBytes: keyBytes, make: gcm, limited: true, explicit: 8}
}

func chacha(version, id uint16) *suite {
	return &suite{id: id, version: version, hash: crypto.SHA256, keyBytes: chacha20poly1305.KeySize,
		make: chacha20poly1305.New}
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
	if s == nil || s.version != version {
		return nil, fmt.Errorf("no record layer for %s with %s", tls.VersionName(version), tls.CipherSuiteName(id))
	}
	return s, nil
}

var errSecret = errors.New("a secret or key of the wrong length")
