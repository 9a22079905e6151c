package origin

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		list, origin, host string
		want               bool
	}{
		{"same-host", "https://a.example", "a.example", true},
		{"same-host", "https://a.example", "A.example:8443", true},
		{"same-host", "http://a.example:3000", "a.example:8000", true},
		{"same-host", "https://b.example", "a.example", false},
		{"same-host", "https://a.example.evil.example", "a.example", false},
		{"same-host", "http://[::1]:3000", "[::1]:8000", true},
		{"same-host", "http://[::1]", "[::1]", true},
		{"same-host", "http://[::2]", "[::1]", false},
		{"same-host", "null", "a.example", false},
		{"null", "null", "a.example", true},
		{"null", "https://null", "null", false},
		{"https://a.example", "https://a.example", "x", true},
		{"https://a.example", "https://A.Example:443", "x", true},
		{"https://a.example:443", "https://a.example", "x", true},
		{"https://a.example", "https://a.example:444", "x", false},
		{"https://a.example", "http://a.example", "x", false},
		{"https://a.example", "https://b.a.example", "x", false},
		{"https://a.example:*", "https://a.example:444", "x", true},
		{"https://*.a.example", "https://b.a.example", "x", true},
		{"https://*.a.example", "https://c.b.a.example", "x", true},
		{"https://*.a.example", "https://a.example", "x", false},
		{"https://*.a.example", "https://ba.example", "x", false},
		{"https://*", "https://any.example", "x", true},
		{"https://*", "http://any.example", "x", false},
		{"http://localhost:*", "http://localhost:3000", "x", true},
		{"http://[::1]:*", "http://[::1]:3000", "x", true},
		{"capacitor://localhost", "capacitor://localhost", "x", true},
		{"https://a.example", "https://a.example/", "x", false},
		{"https://a.example", "https://u@a.example", "x", false},
		{"https://a.example", "", "x", false},
		{"https://a.example", "https://", "x", false},
		{"http://a.example,https://b.example", "https://b.example", "x", true},
	} {
		o, err := Parse(strings.Split(c.list, ","))
		require.NoError(t, err, c.list)
		require.Equal(t, c.want, o.Allows(c.origin, c.host), "%s: %s to %s", c.list, c.origin, c.host)
	}
}

func TestParseErrors(t *testing.T) {
	for entry, says := range map[string]string{
		"": "is not an origin", "a.example": "is not an origin", "https://a.example/": "is not an origin", "*": "is not an origin",
		"https://a.*.example": "is not the first part", "https://*a.example": "is not the first part", "https://": "is not an origin",
		"https://" + strings.Repeat("a", 400): "at most 300",
		"https://*.":                          "names no host after *.", "https://*.:*": "names no host after *.",
		"https://a.example:abc": "has the port \"abc\"", "https://a.example:99999": "has the port \"99999\"",
		"https://a.example:0": "has the port \"0\"", "http://*.:3000": "names no host after *.",
	} {
		_, err := Parse([]string{entry})
		require.ErrorContains(t, err, says, entry)
		require.Less(t, len(err.Error()), 400)
	}
}

// Whatever a browser sends is judged, and only what an entry says is allowed.
func FuzzAllows(f *testing.F) {
	f.Add("https://b.a.example", "a.example")
	f.Add("null", "")
	f.Add("http://[::1]:80", "[::1]")
	o, err := Parse([]string{"https://*.a.example", SameHost})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, origin, host string) {
		if !o.Allows(origin, host) {
			return
		}
		_, name, _, ok := split(origin)
		own, _ := splitHost(strings.ToLower(host))
		require.True(t, ok && (name == own || strings.HasSuffix(name, ".a.example")), "%q to %q", origin, host)
	})
}
