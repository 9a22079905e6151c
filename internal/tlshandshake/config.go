package tlshandshake

import (
	"crypto/tls"

	"wsd/internal/tlsrecord"
)

// NewConfig returns a configuration for a Pool: TLS 1.2 and 1.3 with the cipher suites that the record layer knows, the
// certificates given, of which the client's server name chooses (the first one if none fits), HTTP/1.1 by ALPN and
// session tickets sealed with the keys given. The first key seals; all of them open. There must be at least one.
func NewConfig(certificates []tls.Certificate, ticketKeys [][32]byte) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: tlsrecord.Suites12(), Certificates: certificates,
		NextProtos: []string{"http/1.1"},
	}
	c.SetSessionTicketKeys(ticketKeys)
	return c
}
