package admin

import (
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPage(t *testing.T) {
	w := get(options(), true, "127.0.0.1:9000", "/")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Contains(t, w.Body.String(), `data-client-port="8123"`)
	require.NotContains(t, w.Body.String(), "{{")
}

func TestPolicy(t *testing.T) {
	require.Equal(t, "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' "+
		"ws://localhost:8123 wss://localhost:8123 http://localhost:8123 https://localhost:8123"+
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		get(options(), true, "localhost:9000", "/").Header().Get("Content-Security-Policy"))
	require.Contains(t, policy("[::1]", 8123), "connect-src 'self' ws: wss: http: https:; ")
}

// Every file is served, and every file that the page or a script asks for is there.
func TestAssets(t *testing.T) {
	names, err := fs.Glob(assets, "*")
	require.NoError(t, err)
	asked := map[string]bool{"page.html": true}
	reference := regexp.MustCompile(`(?:src|href)="([\w.]+\.\w+)"|from "\./([\w.]+)"`)
	for _, name := range names {
		for _, m := range reference.FindAllStringSubmatch(string(asset(name)), -1) {
			asked[m[1]+m[2]] = true
		}
	}
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
	for _, name := range names {
		require.True(t, asked[name], "%s is not used", name)
		if want, ok := types[name[strings.LastIndexByte(name, '.'):]]; ok {
			w := get(options(), true, "localhost", "/"+name)
			require.Equal(t, http.StatusOK, w.Code, name)
			require.Equal(t, want, w.Header().Get("Content-Type"), name)
			require.Equal(t, asset(name), w.Body.Bytes(), name)
		}
	}
	require.Len(t, asked, len(names), "the page asks for a file that is not there: %v", asked)
	require.Panics(t, func() { asset("nothing") })
}

// The policy forbids script and style inside the page, and text from Kafka must never be taken for HTML.
func TestNothingInline(t *testing.T) {
	page := string(asset("page.html"))
	require.NotRegexp(t, `(?i)\sstyle=|<style|\son[a-z]+=|javascript:`, page)
	require.NotRegexp(t, `(?i)<script[^>]*>[^<]`, page)
	for _, name := range scripts {
		require.NotRegexp(t, `innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function`, string(asset(name)), name)
	}
}

// An element that a script asks for by its id is on the page.
func TestElements(t *testing.T) {
	page := string(asset("page.html"))
	id := regexp.MustCompile(`(?:byID|\btext)\(\s*"([\w-]+)"`)
	found := 0
	for _, name := range scripts {
		for _, m := range id.FindAllStringSubmatch(string(asset(name)), -1) {
			found++
			require.Equal(t, 1, strings.Count(page, `id="`+m[1]+`"`), "%s asks for %s", name, m[1])
		}
	}
	require.Greater(t, found, 30)
}
