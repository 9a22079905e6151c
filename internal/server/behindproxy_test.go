package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

// proxyListeners opens loopback listeners that a proxy inherits, so that nobody else can have their ports.
func proxyListeners(t *testing.T, n int) (files []*os.File, addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		f, err := l.(*net.TCPListener).File()
		require.NoError(t, err)
		require.NoError(t, l.Close())
		t.Cleanup(func() { _ = f.Close() })
		files, addresses = append(files, f), append(addresses, l.Addr().String())
	}
	return files, addresses
}

// runProxy runs a proxy of Debian with a configuration of deploy/proxies, in which texts are replaced, until the test
// ends. It returns what the proxy says.
func runProxy(t *testing.T, program, file string, env []string, files []*os.File, args []string, replace ...string) (
	said *testutil.Buffer,
) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip(program + " is not installed")
	}
	text, err := os.ReadFile("../../deploy/proxies/" + file)
	require.NoError(t, err)
	for i := 0; i < len(replace); i += 2 {
		require.Contains(t, string(text), replace[i])
	}
	config := filepath.Join(t.TempDir(), file)
	require.NoError(t, os.WriteFile(config, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600))
	said = &testutil.Buffer{}
	cmd := exec.Command(path, append(args, config)...)
	cmd.Env, cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), files, said, said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	return said
}

// through connects to a proxy and sends a request. It returns the response and the client's own address.
func through(t *testing.T, address string, config *tls.Config, request string) (
	response *http.Response, in *bufio.Reader, own string,
) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, waitMax)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(waitMax)))
	own = conn.LocalAddr().String()
	if config != nil {
		conn = tls.Client(conn, config)
	}
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	in = bufio.NewReader(conn)
	response, err = http.ReadResponse(in, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return response, in, own
}

// delivers has a record reach a raw client through a proxy.
func (r *rig) delivers(address string, config *tls.Config) {
	r.t.Helper()
	t, ok := r.t.(*testing.T)
	require.True(r.t, ok)
	response, in, _ := through(t, address, config, upgradeRequest)
	require.Equal(r.t, http.StatusSwitchingProtocols, response.StatusCode)
	r.produce("a", "", `{"n":1}`)
	frame := make([]byte, 9)
	_, err := io.ReadFull(in, frame)
	require.NoError(r.t, err)
	require.Equal(r.t, "\x81\x07"+`{"n":1}`, string(frame))
}

// refusedWith has a request refused, so that the log has the address that wsd takes for the client's.
func (r *rig) refusedWith(address string, config *tls.Config, want func(own string) string) {
	r.t.Helper()
	t, ok := r.t.(*testing.T)
	require.True(r.t, ok)
	response, _, own := through(t, address, config, strings.Replace(upgradeRequest, "/ws?channel=a", "/nowhere", 1))
	require.Equal(r.t, http.StatusNotFound, response.StatusCode)
	r.eventually("the log has the client's address", func() bool {
		return strings.Contains(r.log.String(), "client="+want(own))
	})
}

// HAProxy, as deploy/proxies says: PROXY headers of version 2 before HTTP and before TLS, and health checks.
func TestBehindHAProxy(t *testing.T) {
	r, file := newTLSRig(t, map[string]any{"client.proxy_protocol": []string{"127.0.0.1"}, "log.level": "debug"})
	files, addresses := proxyListeners(t, 2)
	plain := r.server.Addresses()[0]
	said := runProxy(t, "haproxy", "haproxy.cfg", nil, files, []string{"-db", "-f"},
		"maxconn 100000", "maxconn 1000", "bind :80", "bind fd@3", "bind :443", "bind fd@4", "10.0.0.11:8000", plain.String(),
		"10.0.0.11:8443", r.tlsAddress(), "port 8000", fmt.Sprint("port ", plain.Port()))
	own := func(own string) string { return own }
	for address, config := range map[string]*tls.Config{addresses[0]: nil, addresses[1]: trusting(t, file)} {
		r.delivers(address, config)
		r.refusedWith(address, config, own)
	}
	r.eventually("health checks come", func() bool {
		n := 0
		for _, sh := range r.server.shards {
			n += int(sh.Stats().Accepted.Load())
		}
		return n > 8
	})
	require.NotContains(t, r.log.String(), "a connection of a proxy is refused")
	require.NotContains(t, said.String(), "DOWN")
}

// nginx, as deploy/proxies says: PROXY headers of version 1 before TLS by its stream module.
func TestBehindNginxStream(t *testing.T) {
	r, file := newTLSRig(t, map[string]any{"client.proxy_protocol": []string{"127.0.0.1"}, "log.level": "debug"})
	addresses := runNginx(t, r.server.Addresses()[0].String(), r.tlsAddress())
	r.delivers(addresses[1], trusting(t, file))
	r.refusedWith(addresses[1], trusting(t, file), func(own string) string { return own })
}

// nginx by HTTP: it names its client in X-Forwarded-For, behind what the client has sent.
func TestBehindNginx(t *testing.T) {
	r := newRig(t, map[string]any{"client.trusted_proxies": []string{"127.0.0.1"}, "log.level": "debug"})
	r.ready()
	address := r.server.Addresses()[0].String()
	addresses := runNginx(t, address, address)
	r.delivers(addresses[0], nil)
	r.refusedWith(addresses[0], nil, func(string) string { return "127.0.0.1:0" })
}

// runNginx runs nginx in front of two addresses and returns its own.
func runNginx(t *testing.T, plain, secure string) (addresses []string) {
	t.Helper()
	files, addresses := proxyListeners(t, 2)
	dir := t.TempDir()
	settings := fmt.Sprintf("daemon off; pid %s/pid; error_log stderr;", dir)
	runProxy(t, "nginx", "nginx.conf", []string{"NGINX=3;4;"}, files, []string{"-p", dir, "-g", settings, "-c"},
		"load_module modules/", "load_module /usr/lib/nginx/modules/", "listen 80", "listen "+addresses[0],
		"listen 443", "listen "+addresses[1], "10.0.0.11:8000", plain, "10.0.0.11:8443", secure)
	return addresses
}
