package tlshandshake

import (
	"crypto/tls"

	"wsd/internal/tlsrecord"
)

// NewConfig returns a configuration for a Pool: TLS 1.2 and 1.3 with the cipher suites that the record layer knows, the
// certificates given, of which the client's server name chooses (the first one if none fits), HTTP/1.1 by ALPN, curves
// without P-521, whose handshakes cost the server many times as much, and session tickets sealed with the keys given.
// The first key seals; all of them open. There must be at least one.
func NewConfig(certificates []tls.Certificate, ticketKeys [][32]byte) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: tlsrecord.Suites12(), Certificates: certificates,
		NextProtos: []string{"http/1.1"},
		// The order does not matter: crypto/tls has its own.
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
	}
	c.SetSessionTicketKeys(ticketKeys)
	return c
}
