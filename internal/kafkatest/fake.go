package kafkatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// fake is kfake.
type fake struct {
	c     *kfake.Cluster // nil: down.
	opts  []kfake.Opt
	ports []int
	seeds []string
}

// Kfake starts kfake with some brokers, for the test.
func Kfake(t testing.TB, brokers int, opts ...kfake.Opt) *Cluster {
	t.Helper()
	return newFake(t, brokers, opts...).open(t)
}

func newFake(t testing.TB, brokers int, opts ...kfake.Opt) *Cluster {
	t.Helper()
	f := &fake{opts: append([]kfake.Opt{kfake.NumBrokers(brokers), kfake.DataDir(t.TempDir())}, opts...)}
	f.up(t)
	t.Cleanup(func() {
		if f.c != nil {
			f.c.Close()
		}
	})
	return &Cluster{Name: "kfake", brokers: f, listen: f.addrs}
}

func (f *fake) addrs() []string { return f.seeds }

func (f *fake) up(t testing.TB) {
	t.Helper()
	opts := f.opts
	if f.ports != nil {
		opts = append(opts[:len(opts):len(opts)], kfake.Ports(f.ports...))
	}
	var err error
	// Its ports may be in use for some moments after it has gone.
	for deadline := time.Now().Add(WaitMax); ; time.Sleep(10 * time.Millisecond) {
		if f.c, err = kfake.NewCluster(opts...); err == nil {
			break
		}
		require.True(t, f.ports != nil && time.Now().Before(deadline), "start kfake: %v", err)
	}
	f.seeds, f.ports = f.c.ListenAddrs(), nil
	for _, a := range f.seeds {
		_, text, err := net.SplitHostPort(a)
		require.NoError(t, err)
		port, err := strconv.Atoi(text)
		require.NoError(t, err)
		f.ports = append(f.ports, port)
	}
}

func (f *fake) down(testing.TB) {
	f.c.Close()
	f.c = nil
}

func (f *fake) move(t testing.TB, _ *Cluster, topic string, partition, to int32) {
	t.Helper()
	require.NoError(t, f.c.MoveTopicPartition(topic, partition, to))
}

func (f *fake) lacks(what Ability) string {
	switch what {
	case StopOne:
		return "kfake cannot lose one broker: a node that it removes keeps its connections"
	case SegmentFiles:
		return "kfake has no segments that age"
	case OAuth:
		return "kfake does not know OAUTHBEARER"
	}
	return ""
}

func (f *fake) stop(t testing.TB, _ int32, _ bool) { t.Helper(); require.Fail(t, f.lacks(StopOne)) }
func (f *fake) start(t testing.TB, _ int32)        { t.Helper(); require.Fail(t, f.lacks(StopOne)) }
func (f *fake) freeze(t testing.TB, _ int32, _ bool) {
	t.Helper()
	require.Fail(t, f.lacks(StopOne))
}
func (f *fake) caughtUp(testing.TB) {}

func (f *fake) clean() {
	f.c.Compact()
	f.c.ApplyRetention()
}

func (f *fake) sasl(t testing.TB) *Cluster {
	t.Helper()
	c := newFake(t, 2, logins()...)
	c.clients = []kgo.Opt{kgo.SASL(plain.Auth{User: User, Pass: Password}.AsMechanism())}
	return c.open(t)
}

func (f *fake) tls(t testing.TB) *Cluster {
	t.Helper()
	server, client := identity(t)
	c := newFake(t, 2, server)
	c.TLS = client
	c.clients = []kgo.Opt{kgo.DialTLSConfig(client)}
	return c.open(t)
}

func (f *fake) saslTLS(t testing.TB) *Cluster {
	t.Helper()
	server, client := identity(t)
	c := newFake(t, 2, append(logins(), server)...)
	c.TLS = client
	c.clients = []kgo.Opt{
		kgo.DialTLSConfig(client), kgo.SASL(plain.Auth{User: User, Pass: Password}.AsMechanism()),
	}
	return c.open(t)
}

// logins returns how clients of a SASL cluster may log in.
func logins() []kfake.Opt {
	opts := []kfake.Opt{kfake.EnableSASL(),
		kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "2000"})}
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		opts = append(opts, kfake.Superuser(mechanism, User, Password))
	}
	return opts
}

// identity returns a certificate for kfake, and what a client needs to verify it.
func identity(t testing.TB) (server kfake.Opt, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	server = kfake.TLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion: tls.VersionTLS12})
	return server, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
