package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/dev"
	"wsd/internal/testutil"
	"wsd/internal/tlshandshake"
)

// newTLSRig is a wsd with a plain address and one for TLS. It returns the file with the certificate.
func newTLSRig(t *testing.T, flags map[string]any) (r *rig, file string) {
	t.Helper()
	file, err := dev.MakeCertificate(t.TempDir())
	require.NoError(t, err)
	all := map[string]any{"client.tls_listen": []string{"127.0.0.1:0"}, "client.tls.certificates": []string{file}}
	for k, v := range flags {
		all[k] = v
	}
	r = newRig(t, all)
	r.ready()
	return r, file
}

func (r *rig) tlsAddress() string {
	list := r.server.Addresses()
	return list[len(list)-1].String()
}

// trusting returns a client's configuration that trusts the certificate in a file.
func trusting(t *testing.T, file string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

const upgradeRequest = "GET /ws?channel=a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// secureClient upgrades a connection to a raw client and returns it.
func (r *rig) secureClient(config *tls.Config) *tls.Conn {
	r.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: waitMax}, "tcp", r.tlsAddress(), config)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = c.Close() })
	require.NoError(r.t, c.SetDeadline(time.Now().Add(waitMax)))
	_, err = io.WriteString(c, upgradeRequest)
	require.NoError(r.t, err)
	head := make([]byte, 0, 1024)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		var b [1]byte
		_, err := c.Read(b[:])
		require.NoError(r.t, err, string(head))
		head = append(head, b[0])
	}
	require.Contains(r.t, string(head), "101 Switching")
	return c
}

// Both kinds of addresses serve, and /health names them.
func TestTLSBesidePlain(t *testing.T) {
	r, file := newTLSRig(t, nil)
	c := r.secureClient(trusting(t, file))
	r.produce("a", "", `{"n":1}`)
	b := make([]byte, 9)
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, "\x81\x07"+`{"n":1}`, string(b))
	h := r.server.Health()
	require.Equal(t, []string{r.server.Addresses()[0].String()}, h.ClientListen)
	require.Equal(t, []string{r.tlsAddress()}, h.ClientTLSListen)
	require.Empty(t, r.server.tls.problems(time.Now()))
	require.Contains(t, r.server.tls.problems(time.Now().Add(28 * 24 * time.Hour))[0], "localhost")
	require.Contains(t, r.server.tls.problems(time.Now().Add(31 * 24 * time.Hour))[0], "has expired")
}

// Certificates are replaced while clients connect: every one connects, by the old or the new one, those that are
// connected stay, and files that cannot be used change nothing.
func TestCertificatesAreReplaced(t *testing.T) {
	r, file := newTLSRig(t, nil)
	stays := r.secureClient(trusting(t, file))
	old := trusting(t, file)
	next, err := dev.MakeCertificate(t.TempDir())
	require.NoError(t, err)
	both := trusting(t, next)
	oldText, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, both.RootCAs.AppendCertsFromPEM(oldText))

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var dialled atomic.Int64
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c, err := tls.DialWithDialer(&net.Dialer{Timeout: waitMax}, "tcp", r.tlsAddress(), both)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
			dialled.Add(1)
		}
	}()
	goOn := func() {
		n := dialled.Load()
		r.eventually("clients connect", func() bool { return dialled.Load() > n+2 })
	}
	goOn()
	require.NoError(t, os.WriteFile(file, oldText[:len(oldText)/2], 0o600))
	r.server.tls.Refresh()
	require.Contains(t, r.log.String(), "wsd goes on with the last good ones")
	goOn()
	r.secureClient(old)
	newText, err := os.ReadFile(next)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, newText, 0o600))
	r.server.tls.Refresh()
	goOn()
	cancel()
	<-done
	_, err = tls.Dial("tcp", r.tlsAddress(), old)
	require.ErrorContains(t, err, "certificate")
	r.secureClient(trusting(t, next))
	r.produce("a", "", `{"n":1}`)
	b := make([]byte, 9)
	_, err = io.ReadFull(stays, b)
	require.NoError(t, err)
	require.Equal(t, "\x81\x07"+`{"n":1}`, string(b))
}

// Random ticket keys are rotated: a ticket is good for two rotations, and no longer.
func TestTicketKeysRotate(t *testing.T) {
	r, file := newTLSRig(t, nil)
	config := trusting(t, file)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	connect := func() bool {
		c := r.secureClient(config)
		return c.ConnectionState().DidResume
	}
	now := time.Now()
	require.False(t, connect())
	require.True(t, connect())
	saved, _ := config.ClientSessionCache.Get("localhost")
	for rotation := range 3 {
		now = now.Add(ticketRotation)
		r.server.tls.mu.Lock()
		r.server.tls.now = func() time.Time { return now }
		r.server.tls.mu.Unlock()
		r.server.tls.Refresh()
		config.ClientSessionCache.Put("localhost", saved)
		require.Equal(t, rotation < 2, connect(), rotation)
	}
}

// openssl is a run of `openssl s_client`.
type openssl struct {
	t   *testing.T
	in  io.WriteCloser
	out *testutil.Buffer
	cmd *exec.Cmd
}

func startOpenSSL(t *testing.T, r *rig, args ...string) *openssl {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	o := &openssl{t: t, out: &testutil.Buffer{}}
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	o.cmd = exec.CommandContext(ctx, path, append([]string{"s_client", "-connect", r.tlsAddress()}, args...)...)
	o.cmd.Stdout, o.cmd.Stderr = o.out, o.out
	o.in, err = o.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, o.cmd.Start())
	t.Cleanup(func() {
		_ = o.in.Close()
		cancel()
		_ = o.cmd.Wait()
	})
	return o
}

func (o *openssl) write(text string) {
	o.t.Helper()
	_, err := io.WriteString(o.in, text)
	require.NoError(o.t, err)
}

func (o *openssl) await(text string) {
	o.t.Helper()
	require.Eventually(o.t, func() bool { return strings.Contains(o.out.String(), text) }, waitMax, 5*time.Millisecond,
		"%s is missing: %s", text, o.out.String())
}

// OpenSSL as a client, with every version and suite that there are.
func TestOpenSSL(t *testing.T) {
	r, _ := newTLSRig(t, nil)
	n := 0
	for _, args := range [][]string{
		{"-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"}, {"-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"},
		{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"},
		{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"}, {"-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"},
		{"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"},
	} {
		o := startOpenSSL(t, r, args...)
		o.write(upgradeRequest)
		o.await("101 Switching Protocols")
		n++
		value := fmt.Sprintf(`{"openssl":%d}`, n)
		r.produce("a", "", value)
		o.await(value)
		if args[0] != "-tls1_3" {
			continue
		}
		for _, command := range []string{"K\n", "k\n", "K\n"} { // KeyUpdate, with and without a request of one.
			o.write(command)
			n++
			value := fmt.Sprintf(`{"openssl":%d}`, n)
			r.produce("a", "", value)
			o.await(value)
		}
	}
	o := startOpenSSL(t, r, "-tls1_2")
	o.write(upgradeRequest)
	o.await("101 Switching Protocols")
	o.write("R\n")
	o.await("no renegotiation")

	for _, args := range [][]string{
		{"-tls1_1"}, {"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"}, {"-tls1_2", "-cipher", "AES128-GCM-SHA256"},
	} {
		o := startOpenSSL(t, r, args...)
		o.await("Cipher is (NONE)")
	}
}

// OpenSSL resumes its sessions, with both versions.
func TestOpenSSLResumes(t *testing.T) {
	r, _ := newTLSRig(t, nil)
	for n, version := range []string{"-tls1_2", "-tls1_3"} {
		session := filepath.Join(t.TempDir(), "session")
		o := startOpenSSL(t, r, version, "-sess_out", session)
		o.write(upgradeRequest)
		o.await("101 Switching Protocols") // The ticket came before.
		o.write("Q\n")
		_ = o.cmd.Wait()
		o = startOpenSSL(t, r, version, "-sess_in", session)
		o.await("Reused, TLS")
		o.write(upgradeRequest)
		o.await("101 Switching Protocols")
		resumed := &r.server.tls.stats().Results[tlshandshake.ResultResumed]
		require.EqualValues(t, n+1, resumed.Load())
	}
}

// The certificate of wsd dev is one that a client can be told to trust.
func TestDevCertificate(t *testing.T) {
	file, err := dev.MakeCertificate(t.TempDir())
	require.NoError(t, err)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	block, rest := pem.Decode(text)
	require.NotEmpty(t, rest)
	leaf, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		require.NoError(t, leaf.VerifyHostname(name))
	}
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
}
