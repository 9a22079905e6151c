package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writePair writes a certificate and its key below root.
func writePair(t *testing.T, root string, mode os.FileMode, bits int, change func(*x509.Certificate)) Pair {
	t.Helper()
	var key any
	var public any
	if bits > 0 {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		require.NoError(t, err)
		key, public = k, &k.PublicKey
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		key, public = k, &k.PublicKey
	}
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a"},
		DNSNames: []string{"a.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 2, 0)}
	parent := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "authority"}}
	if change != nil {
		change(template)
	}
	signer := any(issuer)
	if template.Subject.CommonName == "itself" {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir, err := os.MkdirTemp(root, "pair") //nolint:usetesting // It is below the root.
	require.NoError(t, err)
	below, err := filepath.Rel(root, dir)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
		if name == "key" {
			require.NoError(t, os.Chmod(file, mode))
		}
	}
	return Pair{"/" + below + "/cert", "/" + below + "/key"}
}

func TestCertificates(t *testing.T) {
	root := t.TempDir()
	good := writePair(t, root, 0o600, 0, nil)
	for name, test := range map[string]struct {
		pair   Pair
		status Status
		found  string
	}{
		"good":         {good, OK, "valid until"},
		"for a group":  {writePair(t, root, 0o640, 0, nil), OK, "valid until"},
		"mode":         {writePair(t, root, 0o644, 0, nil), Warn, "has the mode 0644"},
		"another key":  {Pair{good.Certificate, writePair(t, root, 0o600, 0, nil).Key}, Fail, "does not match"},
		"no file":      {Pair{good.Certificate, "/none"}, Fail, "no such file"},
		"short key":    {writePair(t, root, 0o600, 1024, nil), Fail, "an RSA key of 1024 bits"},
		"itself":       {writePair(t, root, 0o600, 0, func(c *x509.Certificate) { c.Subject.CommonName = "itself" }), Warn, "signed by itself"},
		"no names":     {writePair(t, root, 0o600, 0, func(c *x509.Certificate) { c.DNSNames = nil }), Fail, "names no host"},
		"expired":      {writePair(t, root, 0o600, 0, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), Fail, "expired"},
		"expires soon": {writePair(t, root, 0o600, 0, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) }), Warn, "expires soon"},
		"to come":      {writePair(t, root, 0o600, 0, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), Fail, "not valid before"},
	} {
		in := &inspector{Options{Root: root, Pairs: []Pair{test.pair}}}
		list := in.certificates()
		require.Len(t, list, 1)
		require.Equal(t, test.status, list[0].Status, "%s: %+v", name, list[0])
		require.Contains(t, list[0].Found, test.found, name)
		require.Equal(t, test.status == OK, list[0].Remedy == "", "%s: %+v", name, list[0])
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "tickets"), nil, 0o604))
	require.NoError(t, os.Chmod(filepath.Join(root, "tickets"), 0o604))
	in := &inspector{Options{Root: root, TicketKeys: "/tickets"}}
	require.Equal(t, Warn, in.certificates()[0].Status)
	require.Empty(t, (&inspector{Options{Root: root}}).certificates())
}
