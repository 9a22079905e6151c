package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	"wsd/internal/reload"
)

// ClientConfig returns the TLS configuration for connections to brokers, or nil if TLS is not enabled. Load has read
// the files before, so an error means that they have changed since.
func (t TLS) ClientConfig() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil //nolint:nilnil // Nil is plain text.
	}
	c, key, _, err := t.read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return c, nil
}

// Files returns the files that the TLS configuration is made from.
func (t TLS) Files() (paths []string) {
	for _, f := range t.files() {
		paths = append(paths, f.path)
	}
	return paths
}

// Parse returns the TLS configuration that is made from the contents of Files.
func (t TLS) Parse(contents [][]byte) (*tls.Config, error) {
	c, key, _, err := t.parse(contents)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return c, nil
}

// tlsFile is a file of the TLS configuration.
type tlsFile struct{ key, path string }

func (t TLS) files() (list []tlsFile) {
	for _, f := range []tlsFile{
		{"kafka.tls.ca_file", t.CAFile}, {"kafka.tls.cert_file", t.CertFile}, {"kafka.tls.key_file", t.KeyFile},
	} {
		if f.path != "" {
			list = append(list, f)
		}
	}
	return list
}

// read reads the files and returns the TLS configuration. With an error it also returns the key of the option that is
// wrong, and its value.
func (t TLS) read() (c *tls.Config, key, value string, err error) {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, "kafka.tls.cert_file", t.CertFile, errors.New("cert_file and key_file must be set together")
	}
	var contents [][]byte
	for _, f := range t.files() {
		content, err := reload.ReadRegular(f.path)
		if err != nil {
			return nil, f.key, f.path, errors.New("cannot be read: " + explainFile(err))
		}
		contents = append(contents, content)
	}
	return t.parse(contents)
}

// parse is Parse, with the results of read.
func (t TLS) parse(contents [][]byte) (c *tls.Config, key, value string, err error) {
	c = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // The operator asked for it.
	if t.CAFile != "" {
		if c.RootCAs, err = ParseAuthorities(contents[0]); err != nil {
			return nil, "kafka.tls.ca_file", t.CAFile, err
		}
		contents = contents[1:]
	}
	if t.CertFile != "" {
		cert, err := tls.X509KeyPair(contents[0], contents[1])
		if err != nil {
			return nil, "kafka.tls.cert_file", t.CertFile, fmt.Errorf("cannot be used with key_file %s: %w", t.KeyFile,
				err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, "", "", nil
}

// ParseAuthorities returns the certificates of a PEM file.
func ParseAuthorities(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("does not contain a certificate in PEM form")
	}
	return pool, nil
}

func (l *loader) checkTLS(t TLS) {
	if t.Enabled {
		if _, key, value, err := t.read(); err != nil {
			l.complain(key, value, err.Error(), "")
		}
		return
	}
	values := map[string]string{
		"kafka.tls.ca_file": t.CAFile, "kafka.tls.cert_file": t.CertFile, "kafka.tls.key_file": t.KeyFile,
		"kafka.tls.server_name": t.ServerName,
	}
	if t.InsecureSkipVerify {
		values["kafka.tls.insecure_skip_verify"] = "true"
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] != "" {
			l.complain(key, values[key], "has no effect, because kafka.tls.enabled is false",
				"set kafka.tls.enabled to true, or remove this")
		}
	}
}

// Files returns the files that connections to Kafka are made from, which are read again when they change.
func (k *Kafka) Files() (files []string) {
	for _, f := range []string{
		k.TLS.CAFile, k.TLS.CertFile, k.TLS.KeyFile, k.SASL.PasswordFile, k.SASL.OAuth.TokenFile,
		k.SASL.OAuth.ClientSecretFile, k.SASL.OAuth.CAFile,
	} {
		if f != "" {
			files = append(files, f)
		}
	}
	if k.SASL.Mechanism == MechanismMSKIAM {
		files = append(files, awsFiles()...)
	}
	return files
}
