package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMetricsRouted(t *testing.T) {
	for _, isLoopback := range []bool{true, false} {
		w := get(options(), isLoopback, "localhost", "/metrics")
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "wsd_up 1\n", w.Body.String())
	}
}

func TestUnknownPath(t *testing.T) {
	for _, target := range []string{"/nothing", "/page.go", "/page/", "/page/channels/x"} {
		require.Equal(t, http.StatusNotFound, get(options(), true, "localhost", target).Code, target)
	}
	require.Equal(t, http.StatusMethodNotAllowed, ask(newHandler(options(), true), http.MethodPost, "localhost", "/page/channels").Code)
}

func TestPprof(t *testing.T) {
	paths := []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1", "/debug/pprof/symbol"}
	for _, target := range paths {
		w := get(options(), true, "localhost", target)
		require.Equal(t, http.StatusNotFound, w.Code, target)
		require.Contains(t, w.Body.String(), "ENABLE_PPROF=true", target)

		on := options()
		on.Pprof = true
		require.Equal(t, http.StatusOK, get(on, true, "localhost", target).Code, target)
		require.Equal(t, http.StatusForbidden, get(on, false, "localhost", target).Code, target)
	}
}

// The command go tool pprof posts addresses.
func TestPprofSymbol(t *testing.T) {
	o := options()
	o.Pprof = true
	w := ask(newHandler(o, true), http.MethodPost, "localhost", "/debug/pprof/symbol")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "num_symbols")
}

// A profile takes longer than the times that net/http allows, and is whole nevertheless: nothing around it may keep it from
// moving its deadline.
func TestLongProfile(t *testing.T) {
	o := options()
	o.Pprof = true
	ended := make(chan error, 1)
	handler := newHandler(o, true)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		ended <- r.Context().Err()
	}))
	server.Config.ReadTimeout, server.Config.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	server.Start()
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/debug/pprof/trace?seconds=0.5")
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, <-ended, "the profile was cut short")
}

func TestBeyondLoopback(t *testing.T) {
	for _, target := range []string{"/", "/page.js", "/page.css", "/page/channels", "/anything"} {
		w := get(options(), false, "10.0.0.1:9000", target)
		require.Equal(t, http.StatusForbidden, w.Code, target)
		require.Contains(t, w.Body.String(), "set admin.listen to a loopback address", target)
	}
	for _, target := range []string{"/health", "/ready", "/metrics"} {
		require.Equal(t, http.StatusOK, get(options(), false, "wsd.example:9000", target).Code, target)
	}
}

func TestHostNames(t *testing.T) {
	for host, want := range map[string]string{
		"localhost":              "localhost",
		"LocalHost:9000":         "localhost",
		"127.0.0.1:9000":         "127.0.0.1",
		"192.168.1.2":            "192.168.1.2",
		"[::1]:9000":             "[::1]",
		"[::1]":                  "[::1]",
		"evil.example:9000":      "",
		"localhost.evil.example": "",
		"127.0.0.1.evil.example": "",
		"[fe80::1%25eth0]:9000":  "",
		"[fe80::1%eth0]:9000":    "",
		"127.0.0.1; script-src":  "",
		"":                       "",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Host = host
		got, ok := names(nil).requestHost(r)
		require.Equal(t, want != "", ok, host)
		require.Equal(t, want, got, host)

		code := http.StatusOK
		if want == "" {
			code = http.StatusForbidden
		}
		for _, target := range []string{"/", "/page/channels", "/page.js"} {
			require.Equal(t, code, get(options(), true, host, target).Code, "%s %s", host, target)
		}
	}
}

func TestSecurityHeaders(t *testing.T) {
	for _, target := range []string{"/", "/page.js", "/page.css", "/health", "/ready", "/metrics", "/page/channels", "/nothing", "/debug/pprof/"} {
		h := get(options(), true, "localhost", target).Header()
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), target)
		require.Equal(t, "DENY", h.Get("X-Frame-Options"), target)
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"), target)
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"), target)
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", target)
		require.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors 'none'", target)
		require.Empty(t, h.Get("Access-Control-Allow-Origin"), target)
	}
}

func TestChannels(t *testing.T) {
	many := make([]string, channelsMax+7)
	for i := range many {
		many[i] = fmt.Sprintf("c%05d", len(many)-i)
	}
	for name, c := range map[string]struct {
		given, want []string
		more        int
	}{
		"none":   {nil, []string{}, 0},
		"sorted": {[]string{"b", "a", "b", "c", "a"}, []string{"a", "b", "c"}, 0},
		"many":   {slices.Concat(many, many), slices.Sorted(slices.Values(many))[:channelsMax], 7},
	} {
		o := options()
		before := slices.Clone(c.given)
		o.Channels = func() []string { return c.given }
		w := get(o, true, "localhost", "/page/channels")
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		var list channelList
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &list))
		require.NotContains(t, w.Body.String(), "null", name)
		require.Equal(t, channelList{Channels: c.want, More: c.more}, list, name)
		require.Equal(t, before, c.given, "the caller's list stays as it is")
	}
}

// On a loopback address nothing is served under another name, whatever address the port listens on.
func TestForeignHost(t *testing.T) {
	paths := []string{"/health", "/ready", "/metrics", "/", "/page/channels"}
	for _, target := range paths {
		require.Equal(t, http.StatusForbidden, get(options(), true, "evil.example:9000", target).Code, target)
		require.Equal(t, http.StatusOK, get(options(), true, "localhost:9000", target).Code, target)
		for minor, status := range []int{http.StatusOK, http.StatusForbidden} {
			r := httptest.NewRequest(http.MethodGet, target, nil)
			r.Host, r.ProtoMinor = "", minor
			w := httptest.NewRecorder()
			newHandler(options(), true).ServeHTTP(w, r)
			require.Equal(t, status, w.Code, target)
		}
	}
	for _, target := range paths[:3] {
		require.Equal(t, http.StatusOK, get(options(), false, "wsd-1.example:9000", target).Code, target)
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Host = "evil.example:9000"
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9000}))
		w := httptest.NewRecorder()
		newHandler(options(), false).ServeHTTP(w, r)
		require.Equal(t, http.StatusForbidden, w.Code, target)
	}
}

func TestTrailingSlash(t *testing.T) {
	for _, target := range []string{"/health/", "/ready/", "/metrics/", "/page/channels/", "/page.css/"} {
		require.Equal(t, http.StatusOK, get(options(), true, "localhost", target).Code, target)
	}
	require.Equal(t, http.StatusNotFound, get(options(), true, "localhost", "/health//").Code)
}
