package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/testutil"
)

// clientsVariable names the directory with the client libraries that `make test-clients` fetches.
const clientsVariable = "WSD_TEST_CLIENTS"

// clientsDir returns that directory. It skips the test without it, or without a program that the test needs.
func clientsDir(t *testing.T, programs ...string) string {
	t.Helper()
	dir, ok := os.LookupEnv(clientsVariable)
	if !ok {
		t.Skipf("%s is not set: make test-clients runs this test", clientsVariable)
	}
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	return dir
}

// conductor is an HTTP server beside a wsd with TLS and tokens, for programs that connect to it: it signs tokens,
// replaces the certificate and the signing key when it is told to, and gets the programs' reports. Meanwhile numbered
// records are produced to every channel.
type conductor struct {
	*rig
	*httptest.Server
	files   string      // The directory with the clients' libraries.
	trusted string      // File with both certificates.
	pins    []string    // Hashes of their keys, as Chromium takes them.
	report  chan []byte // Of a program.
	mu      sync.Mutex  // Guards what follows.
	sign    func(jwt.MapClaims) (string, error)
	rotate  func() error // Signs by another key from now on; tokens by the old one are accepted until forget.
	forget  func() error
}

// conductedChannels get the records.
var conductedChannels = []string{"user.alice", "user.bob", "public.a", "srv.alice", "$x", "$y", "$z", "$w", "$b"}

// newConductor starts wsd with keys of a kind: secret (a file) or set (a key set), and further options as pairs of name
// and value.
func newConductor(t *testing.T, dir, kind string, options ...any) *conductor {
	t.Helper()
	c := &conductor{files: dir, report: make(chan []byte, 1)}
	flags := map[string]any{
		"auth.mode": "token", "auth.rules": []string{"public.*=all", "user.{sub}=user", "$*=token"},
		"auth.expiry_grace": "2s", "routes": []string{"{key}"}, "log.level": "debug",
	}
	for i := 0; i < len(options); i += 2 {
		flags[options[i].(string)] = options[i+1]
	}
	if kind == "secret" {
		c.signBySecret(t, flags)
	} else {
		c.signBySet(t, flags)
	}
	issuer := newAuthority(t)
	c.trusted = issuer.file
	certificate, pin := issuer.issue(t)
	next, nextPin := issuer.issue(t)
	c.pins = []string{pin, nextPin}
	flags["client.tls.certificates"] = []string{certificate}
	c.rig, _ = newTLSRig(t, flags)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /token", c.token)
	act := func(what string, do func() error) {
		mux.HandleFunc("POST /"+what, func(w http.ResponseWriter, _ *http.Request) {
			if err := do(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	act("certificate", func() error {
		text, err := os.ReadFile(next)
		if err == nil {
			err = os.WriteFile(certificate, text, 0o600)
		}
		c.server.tls.Refresh()
		return err
	})
	act("rotate", func() error { return c.rotate() })
	act("forget", func() error { return c.forget() })
	mux.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		select {
		case c.report <- text:
		default:
		}
	})
	mux.HandleFunc("GET /centrifuge.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(dir, "node_modules/centrifuge/dist/centrifuge.js"))
	})
	mux.Handle("GET /", http.FileServer(http.Dir("testdata/clients")))
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Server.Close)
	c.produceNumbers(t)
	return c
}

// produceNumbers produces a record to every channel each 20 ms until the test ends.
func (c *conductor) produceNumbers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			var records []*kgo.Record
			for _, name := range conductedChannels {
				records = append(records, &kgo.Record{Topic: "a", Key: []byte(name),
					Value: fmt.Appendf(nil, `{"n":%d,"channel":%q,"payload":"do-not-log-me"}`, n, name)})
			}
			if err := c.producer.ProduceSync(ctx, records...).FirstErr(); err != nil && ctx.Err() == nil {
				t.Errorf("produce: %v", err)
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// token answers with a token: user, channel, ttl in seconds, and the channel that the server subscribes to.
func (c *conductor) token(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	ttl, err := strconv.Atoi(q.Get("ttl"))
	claims := jwt.MapClaims{"sub": q.Get("user"), "exp": time.Now().Add(time.Duration(ttl) * time.Second).Unix()}
	if name := q.Get("channel"); name != "" {
		claims["channel"] = name
	}
	if name := q.Get("served"); name != "" {
		claims["channels"] = []string{name}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	text, signErr := c.sign(claims)
	if err != nil || signErr != nil {
		http.Error(w, "no token", http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, text)
}

// signBySecret has tokens signed by a secret in a file.
func (c *conductor) signBySecret(t *testing.T, flags map[string]any) {
	t.Helper()
	dir := t.TempDir()
	now, previous := filepath.Join(dir, "now"), filepath.Join(dir, "previous")
	secrets := []string{tokenSecret, "second-secret-0123456789-0123456", "unused-secret-0123456789-0123456"}
	write := func(first, second string) error {
		if err := os.WriteFile(previous, []byte(second), 0o600); err != nil {
			return err
		}
		return os.WriteFile(now, []byte(first), 0o600)
	}
	require.NoError(t, write(secrets[0], secrets[2]))
	flags["auth.hmac_secret_file"], flags["auth.hmac_secret_previous_file"] = now, previous
	by := func(secret string) func(jwt.MapClaims) (string, error) {
		return func(claims jwt.MapClaims) (string, error) {
			return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
		}
	}
	c.sign = by(secrets[0])
	change := func(first, second string) error {
		if err := write(first, second); err != nil {
			return err
		}
		c.server.identity.sources[0].files.Refresh()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sign = by(first)
		return nil
	}
	c.rotate = func() error { return change(secrets[1], secrets[0]) }
	c.forget = func() error { return change(secrets[1], secrets[2]) }
}

// signBySet has tokens signed by a key of a key set.
func (c *conductor) signBySet(t *testing.T, flags map[string]any) {
	t.Helper()
	const iss = "https://issuer.example"
	i := newIssuer(t)
	first, firstJWK := ecKey(t, "first")
	second, secondJWK := ecKey(t, "second")
	i.set(`{"keys":[`+firstJWK+`]}`, false)
	flags["auth.jwks_url"], flags["auth.issuer"], flags["auth.jwks_interval"] = i.URL, iss, "1s"
	by := func(key *ecdsa.PrivateKey, kid string) func(jwt.MapClaims) (string, error) {
		return func(claims jwt.MapClaims) (string, error) {
			claims["iss"] = iss
			token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
			token.Header["kid"] = kid
			return token.SignedString(key)
		}
	}
	c.sign = by(first, "first")
	// The new key is in the set, and fetched, before anything is signed by it.
	change := func(set string) error {
		i.set(`{"keys":[`+set+`]}`, false)
		for from, end := i.fetches.Load(), time.Now().Add(waitMax); i.fetches.Load() < from+2; {
			if time.Now().After(end) {
				return fmt.Errorf("the key set was not fetched again")
			}
			time.Sleep(5 * time.Millisecond)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sign = by(second, "second")
		return nil
	}
	c.rotate = func() error { return change(firstJWK + "," + secondJWK) }
	c.forget = func() error { return change(secondJWK) }
}

// authority signs certificates for this machine.
type authority struct {
	file string // With its own certificate.
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority for tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	a := &authority{file: filepath.Join(t.TempDir(), "authority.pem"), key: key}
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	writeFile(t, a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue returns a file with a new certificate and its key, and the hash of the public key.
func (a *authority) issue(t *testing.T) (file, pin string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "pair.pem")
	writeFile(t, file, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...))
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	hash := sha256.Sum256(public)
	return file, base64.StdEncoding.EncodeToString(hash[:])
}

// run runs a program until it has reported, and returns the report and what the program has written.
func (c *conductor) run(t *testing.T, name string, args ...string) (report map[string]any, output string) {
	t.Helper()
	out := &testutil.Buffer{}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+c.trusted, "SSL_CERT_FILE="+c.trusted)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { // With whatever it has started.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended //nolint:errcheck // It was killed.
	}()
	var text []byte
	select {
	case text = <-c.report:
	case err := <-ended:
		ended <- err
		select {
		case text = <-c.report:
		default:
			require.FailNow(t, "the program ended without a report", "%v: %s", err, out)
		}
	case <-time.After(2 * waitMax):
		require.FailNow(t, "no report", "%s", out)
	}
	require.NoError(t, json.Unmarshal(text, &report), "%s", text)
	require.Equal(t, true, report["ok"], "%s\n%s", report["error"], out)
	t.Logf("%s", text)
	return report, out.String()
}

// secretsAreKept checks that nothing secret is in the log of a whole run at debug.
func (c *conductor) secretsAreKept(t *testing.T) {
	t.Helper()
	require.NoError(t, c.stop())
	text := c.log.String()
	require.Contains(t, text, "msg=serving")
	for _, secret := range []string{"do-not-log-me", tokenSecret, "second-secret", "eyJ", "PRIVATE", "alice"} {
		require.NotContains(t, text, secret)
	}
}

// The npm SDK and a raw client in node, with the JSON and the Protobuf protocol.
func TestClientsNode(t *testing.T) {
	dir := clientsDir(t, "node")
	for _, args := range [][]string{nil, {"protobuf"}} {
		t.Run(strings.Join(append([]string{"json"}[len(args):], args...), ""), func(t *testing.T) {
			c := newConductor(t, dir, "secret")
			c.run(t, "node", append([]string{"testdata/clients/node.mjs", dir, "wss://" + c.tlsAddress(), c.URL}, args...)...)
			c.secretsAreKept(t)
		})
	}
}

// The same in headless Chromium, with the keys of a key set.
func TestClientsChromium(t *testing.T) {
	dir := clientsDir(t, "chromium")
	c := newConductor(t, dir, "set")
	c.run(t, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--enable-logging=stderr", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+t.TempDir(), "--ignore-certificate-errors-spki-list="+strings.Join(c.pins, ","),
		c.URL+"/page.html?address="+url.QueryEscape("wss://"+c.tlsAddress()))
	c.secretsAreKept(t)
}

// The admin page, beside a client port with TLS alone, to which it needs a token.
func TestClientsPage(t *testing.T) {
	dir := clientsDir(t, "node", "chromium")
	c := newConductor(t, dir, "secret", "client.listen", []string{})
	report, _ := c.run(t, "node", "testdata/clients/page.mjs", dir, t.TempDir(), strings.Join(c.pins, ","),
		"http://"+c.server.AdminAddress()+"/", c.URL)
	require.Contains(t, report["connected"], c.tlsAddress())
	c.secretsAreKept(t)
}

// sslyze tries versions, cipher suites, curves and known attacks, and compares them with Mozilla's "intermediate"
// configuration. Only the authority, which is the test's own, may be amiss.
func TestClientsSSLyze(t *testing.T) {
	dir := clientsDir(t)
	r, _ := newTLSRig(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*waitMax)
	defer cancel()
	// Its exit code is 1 unless all is as it should be.
	out, _ := exec.CommandContext(ctx, filepath.Join(dir, "venv/bin/python"), "-W", "ignore", "-m", "sslyze",
		"--mozilla_config=intermediate", r.tlsAddress()).CombinedOutput()
	text := string(out)
	require.Contains(t, text, "COMPLIANCE AGAINST TLS CONFIGURATION")
	_, findings, _ := strings.Cut(text, "COMPLIANCE AGAINST TLS CONFIGURATION")
	require.Equal(t, 1, strings.Count(findings, "        * "), text)
	require.Contains(t, findings, "* certificate_path_validation:")
	require.Contains(t, text, "The server accepted the following 3 cipher suites:")
}

// centrifuge-python with both protocols, and a raw client by the package websockets.
func TestClientsPython(t *testing.T) {
	dir := clientsDir(t)
	for _, kind := range []string{"secret", "set"} {
		t.Run(kind, func(t *testing.T) {
			c := newConductor(t, dir, kind)
			c.run(t, filepath.Join(dir, "venv/bin/python"), "testdata/clients/clients.py", "wss://"+c.tlsAddress(), c.URL)
			c.secretsAreKept(t)
		})
	}
}

// Java's own WebSocket client, with each version and cipher suite, and with key updates of its own accord.
func TestClientsJava(t *testing.T) {
	dir := clientsDir(t, "java")
	c := newConductor(t, dir, "secret")
	limits := filepath.Join(t.TempDir(), "security")
	// Java asks for another key after so many bytes.
	require.NoError(t, os.WriteFile(limits, []byte("jdk.tls.keyLimits=AES/GCM/NoPadding KeyUpdate 2^16, "+
		"ChaCha20-Poly1305 KeyUpdate 2^16\n"), 0o600))
	report, output := c.run(t, "java", "-Djava.security.properties="+limits, "-Djavax.net.debug=ssl:handshake", "testdata/clients/Peer.java",
		"wss://localhost:"+strconv.Itoa(int(c.server.Addresses()[1].Port())), c.URL, c.trusted)
	require.Len(t, report["seen"], 6)
	require.Contains(t, output, "Produced KeyUpdate post-handshake message")
	c.secretsAreKept(t)
}
