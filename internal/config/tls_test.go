package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// certificate makes a self-signed certificate and returns its files.
func certificate(t testing.TB) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return tempFile(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		tempFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})))
}

func TestClientConfig(t *testing.T) {
	cert, key := certificate(t)
	l, err := Load(Input{Flags: map[string]any{
		"kafka.tls.enabled": true, "kafka.tls.ca_file": cert, "kafka.tls.cert_file": cert, "kafka.tls.key_file": key, "kafka.tls.server_name": "kafka",
		"kafka.tls.insecure_skip_verify": true,
	}})
	require.NoError(t, err)
	c, err := l.Config.Kafka.TLS.ClientConfig()
	require.NoError(t, err)
	require.Equal(t, "kafka", c.ServerName)
	require.True(t, c.InsecureSkipVerify)
	require.NotNil(t, c.RootCAs)
	require.Len(t, c.Certificates, 1)
	l.Config.Kafka.TLS.CAFile = key // Changed since.
	_, err = l.Config.Kafka.TLS.ClientConfig()
	require.ErrorContains(t, err, "kafka.tls.ca_file: does not contain a certificate")
	c, err = TLS{}.ClientConfig()
	require.NoError(t, err)
	require.Nil(t, c)
}
