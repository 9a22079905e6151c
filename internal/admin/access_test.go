package admin

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

const token = "0123456789abcdef-token"

// asked sends a request with an Authorization field.
func asked(o Options, isLoopback bool, host, target string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, http.NoBody)
	r.Host = host
	change(r)
	w := httptest.NewRecorder()
	newHandler(o, isLoopback).ServeHTTP(w, r)
	return w
}

// With a token, everything but probes and metrics needs it, wherever the port listens.
func TestToken(t *testing.T) {
	current := token
	o := options()
	o.Token, o.Pprof = func() string { return current }, true
	field := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", value) }
	}
	for _, isLoopback := range []bool{true, false} {
		for _, target := range []string{"/", "/page.js", "/page/channels", "/debug/pprof/cmdline"} {
			for name, c := range map[string]struct {
				change func(*http.Request)
				status int
			}{
				"none":         {func(*http.Request) {}, 401},
				"empty":        {field("Bearer "), 401},
				"wrong":        {field("Bearer " + token + "x"), 401},
				"shorter":      {field("Bearer " + token[:10]), 401},
				"no scheme":    {field(token), 401},
				"bearer":       {field("Bearer " + token), 200},
				"lower case":   {field("bearer  " + token), 200},
				"password":     {func(r *http.Request) { r.SetBasicAuth("anyone", token) }, 200},
				"no user":      {func(r *http.Request) { r.SetBasicAuth("", token) }, 200},
				"user":         {func(r *http.Request) { r.SetBasicAuth(token, "") }, 401},
				"bad password": {func(r *http.Request) { r.SetBasicAuth("anyone", "x") }, 401},
			} {
				w := asked(o, isLoopback, "localhost", target, c.change)
				require.Equal(t, c.status, w.Code, "%s %s", name, target)
				if c.status == 401 {
					require.Contains(t, strings.Join(w.Header().Values("WWW-Authenticate"), "\n"), "Basic realm")
					require.Contains(t, strings.Join(w.Header().Values("WWW-Authenticate"), "\n"), "Bearer realm")
					require.Contains(t, w.Body.String(), "admin.token_file")
					byScript := asked(o, isLoopback, "localhost", target, func(r *http.Request) {
						c.change(r)
						r.Header.Set(scriptHeader, "1")
					})
					require.Equal(t, 401, byScript.Code)
					require.NotContains(t, strings.Join(byScript.Header().Values("WWW-Authenticate"), "\n"), "Basic", "the browser would prompt")
					require.NotContains(t, w.Body.String(), token)
				}
			}
		}
		for _, target := range []string{"/health", "/ready", "/metrics"} {
			require.Equal(t, http.StatusOK, get(o, isLoopback, "localhost", target).Code, target)
		}
	}
	current = "another-token-0123456789"
	require.Equal(t, 401, asked(o, true, "localhost", "/", field("Bearer "+token)).Code, "it was replaced")
	require.Equal(t, 200, asked(o, true, "localhost", "/", field("Bearer "+current)).Code)
	current = ""
	require.Equal(t, 401, asked(o, true, "localhost", "/", field("Bearer ")).Code, "an empty one opens nothing")
}

// A page is served under known names only, wherever the port listens: its own address, and those of the configuration.
func TestHosts(t *testing.T) {
	o := options()
	o.Listen, o.Hosts = "Admin.Example:9000", []string{"wsd.example"}
	for host, want := range map[string]int{
		"wsd.example": 200, "WSD.example:9000": 200, "admin.example:9000": 200, "localhost": 200, "192.0.2.1:9000": 200,
		"evil.example": 403, "wsd.example.evil.example": 403, "": 403,
	} {
		for _, target := range []string{"/", "/page/channels", "/page.js"} {
			require.Equal(t, want, get(o, true, host, target).Code, "%s %s", host, target)
			secret := o
			secret.Token = func() string { return token }
			bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
			require.Equal(t, want, asked(secret, false, host, target, bearer).Code, "%s %s", host, target)
		}
	}
	require.Contains(t, get(o, true, "evil.example", "/").Body.String(), "admin.hosts")
	require.Contains(t, get(o, true, "wsd.example", "/").Header().Get("Content-Security-Policy"), "wss://wsd.example:8123")
}

// Scripts are files of their own: the policy of the page has no room for others.
func TestNoInlineScript(t *testing.T) {
	w := get(options(), true, "localhost", "/")
	require.NotContains(t, w.Header().Get("Content-Security-Policy"), "unsafe")
	body := w.Body.String()
	require.Equal(t, 1, strings.Count(body, "<script"))
	require.Contains(t, body, `<script type="module" src="page.js"></script>`)
	for _, inline := range []string{"onclick", "onload", "style=", "javascript:", "<style"} {
		require.NotContains(t, body, inline)
	}
}

// By TLS, what holds connections keeps nobody out either, and who does not speak it is told so.
func TestServeTLS(t *testing.T) {
	o := options()
	o.TLS = &tls.Config{Certificates: []tls.Certificate{testutil.Certificate("wsd.test")}, MinVersion: tls.VersionTLS12}
	s := start(t, o)
	for range 150 {
		_, _ = io.WriteString(dial(t, s.Addr()), "\x16\x03\x01\x01\x00") // It may have given way already.
	}
	for _, path := range []string{"/", "/health"} {
		conn := tls.Client(dial(t, s.Addr()), &tls.Config{InsecureSkipVerify: true})
		_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
	}
	plain := dial(t, s.Addr())
	_, err := io.WriteString(plain, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(plain)
	require.NoError(t, err)
	require.Contains(t, string(answer), "400 Bad Request")
	require.Contains(t, string(answer), "HTTPS server")
}
