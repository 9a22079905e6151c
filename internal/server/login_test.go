package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"wsd/internal/admin"
	"wsd/internal/testutil"
)

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

// A password that is replaced in Kafka and in its file is used without a restart.
func TestPasswordReplaced(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "a"), kfake.EnableSASL(),
		kfake.Superuser("SCRAM-SHA-256", "wsd", "first"), kfake.Superuser("SCRAM-SHA-256", "admin", "admin"),
		kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "1500"}))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.SASL(scram.Auth{User: "admin", Pass: "admin"}.AsSha256Mechanism()))
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	file := filepath.Join(t.TempDir(), "password")
	writeFile(t, file, []byte("first\n"))
	r := newRig(t, map[string]any{"kafka.brokers": cluster.ListenAddrs(), "kafka.sasl.mechanism": "scram-sha-256",
		"kafka.sasl.username": "wsd", "kafka.sasl.password_file": file})
	r.ready()
	r.eventually("current", func() bool { return r.server.Health().Status == admin.StatusOK })

	writeFile(t, file, nil) // As it is while it is being replaced.
	again := &r.server.source.Stats().Reauthentications
	before := again.Load()
	r.eventually("logins with the last good one", func() bool { return again.Load() >= before+4 })
	require.Equal(t, 1, strings.Count(r.log.String(), "files that have changed cannot be used"))

	_, err = kadm.NewClient(cl).AlterUserSCRAMs(t.Context(), nil,
		[]kadm.UpsertSCRAM{{User: "wsd", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "second"}})
	require.NoError(t, err)
	writeFile(t, file, []byte("second\n"))
	before = again.Load()
	r.eventually("logins with the new one", func() bool {
		return again.Load() >= before+4 && r.server.Health().Status == admin.StatusOK
	})
}

// pair makes a certificate and its key.
func pair(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// Certificates and authorities are those in the files when a connection is made. While the files do not fit, they are
// the last ones that did.
func TestCertificatesReplaced(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	cert1, key1 := pair(t, "one")
	cert2, key2 := pair(t, "two")
	writeFile(t, file("cert"), cert1)
	writeFile(t, file("key"), key1)
	writeFile(t, file("ca"), cert1)
	cfg := configure(t, map[string]any{"kafka.tls.enabled": true, "kafka.tls.ca_file": file("ca"), "kafka.tls.cert_file": file("cert"),
		"kafka.tls.key_file": file("key")})
	log := &testutil.Buffer{}
	var l login
	require.NoError(t, l.set(cfg.Kafka, slog.New(slog.NewTextHandler(log, nil))))
	require.Len(t, l.files, 1)
	names := func() []string {
		c := l.tls()
		leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
		require.NoError(t, err)
		return leaf.DNSNames
	}
	first := l.tls()
	require.Same(t, first, l.tls(), "nothing has changed")
	writeFile(t, file("cert"), cert2)
	require.Equal(t, []string{"one"}, names())
	require.Equal(t, []string{"one"}, names())
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), "%s", log)
	require.NotContains(t, log.String(), "PRIVATE")
	writeFile(t, file("key"), key2)
	require.Equal(t, []string{"two"}, names())
	writeFile(t, file("ca"), append(cert1, cert2...))
	require.False(t, first.RootCAs.Equal(l.tls().RootCAs))
}

// The options of oauthbearer end in a request to the endpoint and in a first message to the broker.
func TestOAuthOptions(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"expires_in": 1,
			"access_token": strings.Join([]string{id, secret, r.PostFormValue("scope"), r.PostFormValue("audience")}, "/")})
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca"), filepath.Join(dir, "secret")
	writeFile(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	writeFile(t, secret, []byte("first\n"))
	cfg := configure(t, map[string]any{"kafka.sasl.mechanism": "oauthbearer", "kafka.sasl.oauth.token_url": server.URL,
		"kafka.sasl.oauth.client_id": "me", "kafka.sasl.oauth.client_secret_file": secret, "kafka.sasl.oauth.ca_file": ca,
		"kafka.sasl.oauth.scopes": []string{"read"}, "kafka.sasl.oauth.parameters": []string{"audience=kafka"},
		"kafka.sasl.oauth.extensions": []string{"logicalCluster=lkc-1"}})
	var l login
	require.NoError(t, l.set(cfg.Kafka, slog.New(slog.DiscardHandler)))
	require.Len(t, l.files, 2)
	_, first, err := l.sasl.Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, "n,,\x01auth=Bearer me/first/read/kafka\x01logicalCluster=lkc-1\x01\x01", string(first))
	require.Nil(t, l.tls)

	token := filepath.Join(dir, "token")
	writeFile(t, token, []byte("t1\n"))
	cfg = configure(t, map[string]any{"kafka.sasl.mechanism": "oauthbearer", "kafka.sasl.oauth.token_file": token})
	require.NoError(t, l.set(cfg.Kafka, slog.New(slog.DiscardHandler)))
	for _, want := range []string{"t1", "t2"} {
		writeFile(t, token, []byte(want))
		_, first, err = l.sasl.Start(t.Context())
		require.NoError(t, err)
		require.Equal(t, "n,,\x01auth=Bearer "+want+"\x01\x01", string(first))
	}
}
