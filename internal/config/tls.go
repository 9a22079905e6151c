package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// ClientConfig returns how to talk to the brokers, nil for plain text. Load has read the files once, so an error means that they have
// changed since.
func (t TLS) ClientConfig() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil //nolint:nilnil // Nil is what kafka-go and others take for plain text.
	}
	c, key, _, err := t.build()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return c, nil
}

// build also returns the option that is wrong, and its value.
func (t TLS) build() (c *tls.Config, key, value string, err error) {
	c = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // Asked for.
	if t.CAFile != "" {
		pem, err := readLimited(t.CAFile)
		if err != nil {
			return nil, "kafka.tls.ca_file", t.CAFile, errors.New("it cannot be read: " + explainFile(err))
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, "kafka.tls.ca_file", t.CAFile, errors.New("it holds no certificate in PEM form")
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, "kafka.tls.cert_file", t.CertFile, errors.New("a certificate needs its key and a key its certificate: set both or neither")
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, "kafka.tls.cert_file", t.CertFile, fmt.Errorf("it cannot be used with key_file %s: %w", t.KeyFile, err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, "", "", nil
}
