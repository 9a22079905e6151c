package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/dev"
)

func TestEdge(t *testing.T) {
	var many []string
	for i := range 600 {
		many = append(many, fmt.Sprintf("10.0.%d.%d", i/256, i%256))
	}
	cert, err := dev.MakeCertificate(t.TempDir())
	require.NoError(t, err)
	token := tempFile(t, "token", "hush-hush-0123456789\n")
	short := tempFile(t, "short", "hush-hush\n")
	for i, test := range []struct {
		flags        map[string]any
		fault, warns string // Empty: none.
	}{
		{map[string]any{"client.proxy_protocol": []string{"10.0.0.0/8", "2001:db8::1"}}, "", ""},
		{map[string]any{"client.trusted_proxies": []string{"10.0.0.1"}, "client.trusted_header": "forwarded"}, "", ""},
		{map[string]any{"client.proxy_protocol": []string{"10.0.0.1/8"}}, "has bits set after its length; the prefix is 10.0.0.0/8", ""},
		{map[string]any{"client.trusted_proxies": []string{"proxy.example"}}, "client.trusted_proxies = proxy.example (flag --client.trusted-proxies): not an address; write it like 10.0.0.0/8", ""},
		{map[string]any{"client.trusted_proxies": []string{"10.0.0.1", "10.0.0.1"}}, "listed twice", ""},
		{map[string]any{"client.trusted_proxies": []string{"::/0"}}, "", "can pretend to have any address"},
		{map[string]any{"client.trusted_proxies": many, "client.proxy_protocol": many}, "", ""},
		{map[string]any{"client.trusted_proxies": many, "steering.limits.source_exempt": append([]string{"192.0.2.0/24"}, manyOther(600)...)}, "these are 1201 prefixes; the maximum is 1024", ""},
		{map[string]any{"client.trusted_header": "x-real-ip"}, "must be x-forwarded-for or forwarded", ""},
		{map[string]any{"client.origins": []string{"same-host", "https://*.a.example"}}, "", ""},
		{map[string]any{"client.origins": []string{"a.example"}}, `"a.example" is not an origin: write such as https://app.example`, ""},

		{map[string]any{"admin.token_file": token}, "", ""},
		{map[string]any{"admin.token": "hush-hush-0123456789"}, "", ""},
		{map[string]any{"admin.token_file": token, "admin.listen": ":9000"}, "", "the token of the admin port can be read on the way"},
		{map[string]any{"admin.token_file": token, "admin.listen": ":9000", "admin.tls.cert_file": cert, "admin.tls.key_file": cert}, "", ""},
		{map[string]any{"admin.token": "hush-hush"}, "admin.token (flag --admin.token): the token has 9 characters; at least 16 are needed", ""},
		{map[string]any{"admin.token": "hush-hush 0123456789"}, "characters that a bearer token cannot have", ""},
		{map[string]any{"admin.token_file": short}, "admin.token_file = " + short + " (flag --admin.token-file): the token has 9 characters; at least 16 are needed; make one", ""},
		{map[string]any{"api.keys": []string{"hush-hush-0123456789-0123456789-x"}, "api.keys_file": short}, "", "api.keys_file = " + short + " (flag --api.keys-file): key 1 has fewer than"},
		{map[string]any{"admin.token_file": token + "x"}, "cannot be read: no such file", ""},
		{map[string]any{"admin.token_file": token, "admin.token": "hush-hush-0123456789"}, "admin.token_file is set as well", ""},
		{map[string]any{"admin.token_file": token, "admin.listen": ""}, "has no effect, because admin.listen is empty", ""},
		{map[string]any{"admin.tls.cert_file": cert}, "cert_file and key_file belong together", ""},
		{map[string]any{"admin.tls.cert_file": cert, "admin.tls.key_file": token}, "certificate and key cannot be used", ""},
		{map[string]any{"admin.hosts": []string{"wsd.example", "Wsd-2"}}, "", ""},
		{map[string]any{"admin.hosts": []string{"wsd.example:9000"}}, "not a host name; write a name without a port", ""},
		{map[string]any{"admin.hosts": []string{"a; script-src *"}}, "not a host name", ""},
	} {
		loaded, err := Load(Input{Flags: test.flags})
		if test.fault != "" {
			require.ErrorContains(t, err, test.fault, i)
			require.NotContains(t, err.Error(), "hush", i)
			continue
		}
		require.NoError(t, err, i)
		var warnings []string
		for _, w := range loaded.Warnings {
			warnings = append(warnings, w.String())
		}
		require.Contains(t, strings.Join(warnings, "\n"), test.warns, i)
		if test.warns == "" {
			require.Empty(t, warnings, i)
		}
		var shown strings.Builder
		require.NoError(t, loaded.Show(&shown))
		require.NotContains(t, shown.String(), "hush", i)
	}
}

func manyOther(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("172.16.%d.%d", i/256, i%256))
	}
	return list
}

func TestExempt(t *testing.T) {
	loaded, err := Load(Input{Flags: map[string]any{
		"client.proxy_protocol": []string{"10.0.0.0/8"}, "client.trusted_proxies": []string{"10.0.0.0/8", "::1"},
		"steering.limits.source_exempt": []string{"192.0.2.1"},
	}})
	require.NoError(t, err)
	require.Equal(t, "[192.0.2.1/32 10.0.0.0/8 ::1/128]", fmt.Sprint(loaded.Config.Exempt()))
}
