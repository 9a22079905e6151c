package server

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/dev"
)

// status sends what a proxy would and returns the status of the response.
func (r *rig) status(address, sent string) int {
	r.t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(r.t, err)
	defer conn.Close()
	require.NoError(r.t, conn.SetDeadline(time.Now().Add(waitMax)))
	_, err = io.WriteString(conn, sent)
	require.NoError(r.t, err)
	status := make([]byte, len("HTTP/1.1 101"))
	_, err = io.ReadFull(conn, status)
	require.NoError(r.t, err)
	var code int
	_, err = fmt.Sscanf(string(status), "HTTP/1.1 %d", &code)
	require.NoError(r.t, err)
	return code
}

// What proxies say of their clients is what limits and the log go by, and pages of other origins are refused.
func TestEdge(t *testing.T) {
	r := newRig(t, map[string]any{
		"client.proxy_protocol": []string{"127.0.0.1"}, "client.trusted_proxies": []string{"10.0.0.0/8"},
		"client.trusted_header": "forwarded", "client.origins": []string{"https://*.good.example", "same-host"},
		"log.level": "debug",
	})
	r.ready()
	address := r.server.Addresses()[0].String()
	with := func(fields string) string {
		return strings.Replace(upgradeRequest, "\r\n\r\n", "\r\n"+fields+"\r\n\r\n", 1)
	}
	require.Equal(t, 400, r.status(address, upgradeRequest), "without a header")
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n"
	require.Equal(t, 101, r.status(address, header+upgradeRequest))
	require.Equal(t, 101, r.status(address, header+with("Origin: https://a.good.example")))
	require.Equal(t, 101, r.status(address, header+with("Origin: http://localhost:3000")))
	require.Equal(t, 403, r.status(address, header+with("Origin: https://evil.example")))
	r.eventually("the log has the client's address", func() bool {
		return strings.Contains(r.log.String(), "client=192.0.2.1:4711")
	})
	require.Equal(t, 403, r.status(address, "PROXY TCP4 10.1.1.1 192.0.2.2 4711 80\r\n"+
		with("Forwarded: for=203.0.113.5\r\nX-Forwarded-For: 198.51.100.9\r\nOrigin: null")))
	r.eventually("the log has the client's address", func() bool {
		return strings.Contains(r.log.String(), "client=203.0.113.5:0")
	})
	require.NotContains(t, r.log.String(), "198.51.100.9")
}

// Proxies are exempt from what the kernel limits by source, as it sees only them.
func TestProxiesAreExempt(t *testing.T) {
	s := &Server{cfg: configure(t, map[string]any{
		"client.proxy_protocol": []string{"127.0.0.1"}, "client.trusted_proxies": []string{"10.0.0.0/8", "127.0.0.1"},
		"steering.limits.source_exempt": []string{"192.0.2.0/24", "10.0.0.0/8"},
	})}
	o, err := s.steeringOptions(1)
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32"),
	}, o.Exempt)
}

// The token and the certificate of the admin port are replaced while it serves; files that cannot be used change
// nothing, and no token is logged.
func TestAdminAccess(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	const first, second = "first-token-0123456789", "second-token-0123456789"
	file := write("token", first+"\n")
	cert, err := dev.MakeCertificate(t.TempDir())
	require.NoError(t, err)
	r := newRig(t, map[string]any{
		"admin.token_file": file, "admin.tls.cert_file": cert, "admin.tls.key_file": cert, "log.level": "debug",
		"client.tls_listen": []string{"127.0.0.1:0"}, "client.tls.certificates": []string{cert},
	})
	page := ""
	get := func(token string) int {
		transport := &http.Transport{TLSClientConfig: trusting(t, cert)}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequest(http.MethodGet, "https://"+r.server.AdminAddress()+"/", http.NoBody)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := (&http.Client{Transport: transport, Timeout: waitMax}).Do(request)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		page = string(body)
		return response.StatusCode
	}
	require.Equal(t, 200, get(first))
	secure := r.server.Addresses()[1].Port()
	require.Contains(t, page, fmt.Sprintf(`data-client-port="%d"`, secure), "it may open nothing but TLS")
	require.Equal(t, 401, get(second))
	write("token", second)
	r.eventually("the new token is used", func() bool { return get(second) == 200 })
	require.Equal(t, 401, get(first))
	write("token", "short")
	r.server.access.Refresh()
	require.Contains(t, r.log.String(), "at least 16 are needed")
	require.Equal(t, 200, get(second))

	next, err := dev.MakeCertificate(t.TempDir())
	require.NoError(t, err)
	text, err := os.ReadFile(next)
	require.NoError(t, err)
	write("token", second)
	require.NoError(t, os.WriteFile(cert, text, 0o600))
	r.server.access.Refresh()
	c, err := tls.Dial("tcp", r.server.AdminAddress(), trusting(t, next))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	for _, secret := range []string{first, second} {
		require.NotContains(t, r.log.String(), secret)
	}
}
