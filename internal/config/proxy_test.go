package config

import (
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProxyFaults(t *testing.T) {
	base := map[string]any{"kafka.topics": []string{"a"}}
	load := func(flags map[string]any) (*Loaded, error) {
		all := maps.Clone(base)
		maps.Copy(all, flags)
		return Load(Input{Flags: all})
	}
	const url = "http://127.0.0.1:3000/x"
	for _, test := range []struct {
		flags map[string]any
		want  string
	}{
		{map[string]any{"proxy.connect_endpoint": url}, "has no effect, because auth.mode is none; set auth.mode to proxy, or to token"},
		{map[string]any{"auth.mode": "proxy"}, "auth.mode = proxy (flag --auth.mode): needs proxy.connect_endpoint"},
		{map[string]any{"auth.mode": "proxy", "proxy.connect_endpoint": url, "auth.hmac_secret": "0123456789abcdef0123456789abcdef"}, "verifies no connection tokens"},
		{map[string]any{"auth.mode": "proxy", "proxy.connect_endpoint": "127.0.0.1:3000"}, "not an HTTP URL"},
		{map[string]any{"auth.mode": "proxy", "proxy.connect_endpoint": "http://user:hush@a/"}, "contains a user name; set proxy.static_headers"},
		{map[string]any{"auth.mode": "proxy", "proxy.connect_endpoint": url, "auth.rules": []string{"a=proxy"}}, "proxy.subscribe_endpoint is not set; set it"},
		{map[string]any{"rpc.endpoint": []string{url}}, "not PATTERN=URL"},
		{map[string]any{"rpc.endpoint": []string{"a*b=" + url + "?key=hush"}}, "not PATTERN=URL"},
		{map[string]any{"rpc.endpoint": []string{"a=b?key=hush"}}, "not PATTERN=URL"},
		{map[string]any{"rpc.endpoint": []string{"a=http://?key=hush"}}, "not an HTTP URL"},
		{map[string]any{"auth.mode": "proxy", "proxy.connect_endpoint": "user:hush@a/"}, "contains a user name"},
		{map[string]any{"auth.mode": "proxy", "proxy.connect_endpoint": "ftp://a/?key=hush"}, "not an HTTP URL"},
		{map[string]any{"proxy.connect_endpoint": url + "?key=hush"}, "has no effect, because auth.mode is none"},
		{map[string]any{"proxy.headers": []string{"idempotency-key"}}, "not the name of a header field"},
		{map[string]any{"proxy.emulated_headers": []string{"Accept-encoding"}}, "not the name of a header field"},
		{map[string]any{"rpc.endpoint": []string{"a.*=" + url, "a.b=" + url}}, "a.b (flag --rpc.endpoint): has no effect after a pattern"},
		{map[string]any{"rpc.endpoint": []string{"a=http://"}}, "not an HTTP URL"},
		{map[string]any{"proxy.headers": []string{"X Y"}}, "not the name of a header field"},
		{map[string]any{"proxy.headers": []string{"Content-length"}}, "not the name of a header field"},
		{map[string]any{"proxy.static_headers": []string{"hush"}}, "not NAME=VALUE"},
		{map[string]any{"proxy.ca_file": "/missing.pem"}, "cannot be read"},
		{map[string]any{"send.topic": "sent", "send.endpoint": url}, "send.endpoint is set as well"},
		{map[string]any{"send.topic": "a b"}, "not the name of a topic"},
		{map[string]any{"send.topic": "a"}, "wsd reads it (kafka.topics)"},
		{map[string]any{"send.topic": "wsd.commands", "commands.topic": "wsd.commands"}, "it is commands.topic"},
		{map[string]any{"commands.topic": "a"}, `found by "a" in kafka.topics`},
		{map[string]any{"commands.topic": "wsd.commands", "kafka.topics": []string{"re:.*"}}, `found by "re:.*" in kafka.topics`},
		{map[string]any{"send.topic": "sent.x", "kafka.topics": []string{"re:sent.*"}}, "wsd reads it (kafka.topics)"},
		{map[string]any{"publish.rules": []string{"a=proxy"}}, "the backend is not asked about publications"},
		{map[string]any{"proxy.timeout": "1m"}, "must be from 10ms to 30s"},
	} {
		_, err := load(test.flags)
		require.ErrorContains(t, err, test.want)
		require.NotContains(t, err.Error(), "hush")
	}
	loaded, err := load(map[string]any{
		"auth.mode": "proxy", "proxy.connect_endpoint": url, "proxy.subscribe_endpoint": url + "?a=hush", "auth.rules": []string{"a=user"},
		"rpc.endpoint": []string{"a=b=" + url, "m=https://a/@?b=http://c", "*=" + url + "?c=hush"}, "proxy.static_headers": []string{"Authorization=Bearer hush=="},
	})
	require.NoError(t, err)
	require.Equal(t, []Endpoint{{"a=b", url}, {"m", "https://a/@?b=http://c"}, {"*", url + "?c=hush"}}, loaded.Config.RPC.Endpoints())
	require.Equal(t, [][2]string{{"Authorization", "Bearer hush=="}}, loaded.Config.Proxy.Static())
	require.True(t, loaded.Config.Calls())
	require.Len(t, loaded.Warnings, 1)
	require.Contains(t, loaded.Warnings[0].String(), "no rule asks it")
	require.NotContains(t, loaded.Warnings[0].String(), "hush")
	var b strings.Builder
	require.NoError(t, loaded.Show(&b))
	require.NotContains(t, b.String(), "hush")
	loaded, err = load(map[string]any{
		"rpc.endpoint": []string{"*=" + url}, "proxy.static_headers": []string{"Authorization=hush", "X-Key=hush"},
		"proxy.headers": []string{"cookie", "x-key"}, "proxy.emulated_headers": []string{"authorization"}, "proxy.answer_bytes_max": "33MiB",
	})
	require.NoError(t, err)
	require.Len(t, loaded.Warnings, 3)
	require.Contains(t, loaded.Warnings[0].String(), "larger than half of proxy.bytes_max (64MiB)")
	require.Contains(t, loaded.Warnings[1].String(), "authorization (flag --proxy.emulated-headers): it is in proxy.static_headers, too")
	require.Contains(t, loaded.Warnings[2].String(), "x-key (flag --proxy.headers): it is in proxy.static_headers, too")
	none, err := load(nil)
	require.NoError(t, err)
	require.False(t, none.Config.Calls())
}

// A remedy names no option that does not exist.
func TestStaticHeadersInAPublicFile(t *testing.T) {
	public := tempFile(t, "wsd.yaml", "kafka: {topics: [a]}\nrpc: {endpoint: ['*=http://a/']}\nproxy: {static_headers: [X-Key=hush]}\n")
	require.NoError(t, os.Chmod(public, 0o644))
	text := faults(t, Input{File: public})
	require.Contains(t, text, "everybody can read the configuration file, and the static headers with it; run chmod o-r FILE")
	require.NotContains(t, text, "static_headers_file")
	require.NotContains(t, text, "hush")
}
