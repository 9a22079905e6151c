package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	kplain "github.com/twmb/franz-go/pkg/sasl/plain"
)

func mustScram(t testing.TB, algo scram.Algorithm, user, password string) sasl.Mechanism {
	t.Helper()
	m, err := scram.Mechanism(algo, user, password)
	require.NoError(t, err)
	return m
}

func mustTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP("::1")}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

func TestSASL(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "a"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "p", "pw"),
		kfake.Superuser("SCRAM-SHA-256", "s", "sw"), kfake.Superuser("SCRAM-SHA-512", "t", "tw"))
	cl := mustClient(t, c.ListenAddrs(), kgo.SASL(kplain.Auth{User: "p", Pass: "pw"}.AsMechanism()))
	produce(t, cl, "a", 0, "1", "2")
	for name, m := range map[string]sasl.Mechanism{
		"plain": plain.Mechanism{Username: "p", Password: "pw"}, "scram-sha-256": mustScram(t, scram.SHA256, "s", "sw"), "scram-sha-512": mustScram(t, scram.SHA512, "t", "tw"),
	} {
		t.Run(name, func(t *testing.T) {
			r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, SASL: m}, "a")
			r.wantValues(t, "a", []string{"1", "2"})
		})
	}
	for name, m := range map[string]sasl.Mechanism{
		"plain": plain.Mechanism{Username: "p", Password: "secret-but-wrong"}, "scram-sha-256": mustScram(t, scram.SHA256, "s", "secret-but-wrong"), "unknown user": mustScram(t, scram.SHA512, "nobody", "secret-but-wrong"),
	} {
		t.Run("wrong "+name, func(t *testing.T) {
			r := startRig(t, Options{Brokers: c.ListenAddrs()[:1], Topics: []string{"a"}, SASL: m})
			eventually(t, func() bool { return r.Stats().MetadataErrors.Load() > 2 }, func() string { return "no error" })
			require.Equal(t, 1, r.logs.count("cannot be read"), "one line, not one a try")
			require.Contains(t, r.logs.String(), "kind=auth")
			require.Contains(t, r.Status().Error, m.Name())
			require.Contains(t, r.Status().Error, "check kafka.sasl.username")
			require.NotContains(t, r.Status().Error, "unexpected EOF")
			require.NotContains(t, r.logs.String(), "secret-but-wrong")
			require.False(t, r.Ready())
		})
	}
	t.Run("none configured", func(t *testing.T) {
		r := startRig(t, Options{Brokers: c.ListenAddrs()[:1], Topics: []string{"a"}})
		eventually(t, func() bool { return r.Stats().MetadataErrors.Load() > 2 }, func() string { return "no error" })
		require.Contains(t, r.Status().Error, "closed the connection")
	})
}

// Apache Kafka says in words what is wrong; they reach the log.
func TestBrokersOwnWordsOnRefusal(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "p", "pw"))
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode, resp.ErrorMessage = 58, kmsg.StringPtr("Authentication failed: Invalid username or password")
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, SASL: plain.Mechanism{Username: "p", Password: "no"}})
	eventually(t, func() bool { return r.Stats().MetadataErrors.Load() > 2 }, func() string { return "no error" })
	require.Contains(t, r.Status().Error, "Invalid username or password")
	require.Contains(t, r.Status().Error, "[58]")
	require.Equal(t, 1, r.logs.count("Invalid username or password"))
}

func TestUnknownMechanismNamesTheOffered(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "p", "pw"))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, SASL: strangeMechanism{plain.Mechanism{}}})
	eventually(t, func() bool { return r.Status().Error != "" }, func() string { return "no error" })
	require.Contains(t, r.Status().Error, "STRANGE")
	require.Contains(t, r.Status().Error, "PLAIN")
}

type strangeMechanism struct{ sasl.Mechanism }

func (strangeMechanism) Name() string { return "STRANGE" }

func TestTLS(t *testing.T) {
	server, client := mustTLS(t)
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "a"), kfake.TLS(server))
	cl := mustClient(t, c.ListenAddrs(), kgo.DialTLSConfig(client))
	produce(t, cl, "a", 0, "1", "2")
	produce(t, cl, "a", 1, "3")
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, TLS: client, Routes: []Route{{Channel: "{partition}"}}}, "0", "1")
	r.wantValues(t, "0", []string{"1", "2"})
	r.wantValues(t, "1", []string{"3"})

	t.Run("plain text to a TLS port", func(t *testing.T) {
		r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}})
		eventually(t, func() bool { return r.Status().Error != "" }, func() string { return "no error" })
		require.Contains(t, r.Status().Error, "TLS")
	})
	t.Run("unknown authority", func(t *testing.T) {
		r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, TLS: &tls.Config{}})
		eventually(t, func() bool { return r.Status().Error != "" }, func() string { return "no error" })
		require.Contains(t, r.Status().Error, "certificate")
	})
}

func TestTLSToPlainPort(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	_, client := mustTLS(t)
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, TLS: client, DialTimeout: 200 * time.Millisecond})
	eventually(t, func() bool { return r.Status().Error != "" }, func() string { return "no error" })
	require.Contains(t, r.Status().Error, "TLS handshake")
}
