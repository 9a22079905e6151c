package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// ClientConfig returns the TLS configuration for connections to brokers, or nil if TLS is not enabled. Load has read
// the files before, so an error means that they have changed since.
func (t TLS) ClientConfig() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil //nolint:nilnil // kafka-go takes nil for plain text.
	}
	c, key, _, err := t.build()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return c, nil
}

// build returns the TLS configuration. With an error it also returns the key of the option that is wrong, and its
// value.
func (t TLS) build() (c *tls.Config, key, value string, err error) {
	c = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // The operator asked for it.
	if t.CAFile != "" {
		pem, err := readLimited(t.CAFile)
		if err != nil {
			return nil, "kafka.tls.ca_file", t.CAFile, errors.New("cannot be read: " + explainFile(err))
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, "kafka.tls.ca_file", t.CAFile, errors.New("does not contain a certificate in PEM form")
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, "kafka.tls.cert_file", t.CertFile, errors.New("cert_file and key_file must be set together")
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, "kafka.tls.cert_file", t.CertFile, fmt.Errorf("cannot be used with key_file %s: %w", t.KeyFile,
				err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, "", "", nil
}
