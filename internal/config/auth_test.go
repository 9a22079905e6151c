package config

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAuth(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	key := tempFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	secret := tempFile(t, "secret", "hush-hush-0123456789-0123456789-x\n")
	short := tempFile(t, "short", "hush\n")
	const jwks = "https://i.example/keys"
	for i, test := range []struct {
		flags  map[string]any
		faults string // Empty: the configuration is valid.
	}{
		{map[string]any{"mode": "token", "hmac_secret_file": secret, "rules": []string{"*=user"}}, ""},
		{map[string]any{"mode": "token", "hmac_secret": "hush-hush-0123456789-0123456789-x"}, ""},
		{map[string]any{"mode": "token", "public_key_files": []string{key}, "subscription.hmac_secret_file": secret, "rules": []string{"$*=token"}}, ""},
		{map[string]any{"mode": "token", "jwks_url": jwks, "issuer": "i"}, ""},
		{map[string]any{"mode": "token", "jwks_url": "http://127.0.0.1:1/keys", "issuer": "i"}, ""},
		{map[string]any{"mode": "jwt"}, "auth.mode = jwt (flag --auth.mode): must be none, token or proxy"},
		{map[string]any{"mode": "token"}, "needs a key that tokens are verified by"},
		{map[string]any{"hmac_secret_file": secret}, "has no effect, because auth.mode is none; set auth.mode to token, or remove it"},
		{map[string]any{"rules": []string{"a=all"}}, "auth.rules = a=all (flag --auth.rules): has no effect, because auth.mode is none"},
		{map[string]any{"mode": "token", "hmac_secret": "hush", "rules": []string{"a=all"}}, "auth.hmac_secret (flag --auth.hmac-secret): the secret has 4 bytes; at least 16 are needed"},
		{map[string]any{"mode": "token", "hmac_secret": "hush-hush-0123456789", "hmac_secret_file": secret}, "auth.hmac_secret is set as well"},
		{map[string]any{"mode": "token", "hmac_secret_file": short}, "auth.hmac_secret_file = " + short + " (flag --auth.hmac-secret-file): the secret has 4 bytes"},
		{map[string]any{"mode": "token", "subscription.hmac_secret_previous_file": short}, "auth.subscription.hmac_secret_previous_file = " + short + " ("},
		{map[string]any{"mode": "token", "hmac_secret_previous_file": secret + "x"}, "no such file or directory: name a file that exists"},
		{map[string]any{"mode": "token", "hmac_secret_file": "no-secret"}, "no such file or directory: a relative name begins at the working directory, /"},
		{map[string]any{"mode": "token", "public_key_files": []string{secret}}, "does not contain a public key in PEM form"},
		{map[string]any{"mode": "token", "public_key_files": []string{key, key}}, "listed twice"},
		{map[string]any{"mode": "token", "jwks_url": jwks}, "(default): missing, and auth.jwks_url needs it"},
		{map[string]any{"mode": "token", "jwks_url": "http://i.example/keys", "issuer": "i"}, "without TLS, whoever is on the way can replace the keys"},
		{map[string]any{"mode": "token", "jwks_url": "https://u:hush@i.example/keys", "issuer": "i"}, "(flag --auth.jwks-url): contains a user name"},
		{map[string]any{"mode": "token", "jwks_url": "i.example/keys", "issuer": "i"}, "not a URL"},
		{map[string]any{"mode": "token", "jwks_url": jwks, "issuer": "i", "jwks_ca_file": secret}, "does not contain a certificate"},
		{map[string]any{"mode": "token", "hmac_secret_file": secret, "jwks_ca_file": key}, "has no effect without auth.jwks_url"},
		{map[string]any{"mode": "token", "hmac_secret_file": secret, "subscription.issuer": "i"}, "has no effect without a key in auth.subscription"},
		{map[string]any{"mode": "token", "hmac_secret_file": secret, "rules": []string{"a=everyone"}}, `"everyone" does not say who`},
		{map[string]any{"mode": "token", "hmac_secret_file": secret, "token_bytes_max": "1MiB"}, "must be from 256 to 64KiB"},
	} {
		flags := map[string]any{}
		for name, value := range test.flags {
			flags["auth."+name] = value
		}
		if test.faults == "" {
			l, err := Load(Input{Flags: flags})
			require.NoError(t, err, i)
			require.True(t, l.Config.Auth.On())
			var shown strings.Builder
			require.NoError(t, l.Show(&shown))
			require.NotContains(t, shown.String(), "hush")
			continue
		}
		text := faults(t, Input{Flags: flags})
		require.Contains(t, text, test.faults, i)
		require.NotContains(t, text, "hush")
	}

	warnings := func(more map[string]any) string {
		flags := map[string]any{"auth.mode": "token", "auth.hmac_secret_file": secret}
		maps.Copy(flags, more)
		l, err := Load(Input{Flags: flags})
		require.NoError(t, err)
		var all []string
		for _, w := range l.Warnings {
			all = append(all, w.String())
		}
		return strings.Join(all, "\n")
	}
	require.Contains(t, warnings(nil), "clients may have only the channels that their connection tokens name")
	require.Empty(t, warnings(map[string]any{"auth.rules": []string{"*=all"}}))
	require.Contains(t, warnings(map[string]any{"auth.rules": []string{"*=all"}, "auth.subscription.public_key_files": []string{key}}), "no rule asks for a subscription token")
	weak := tempFile(t, "weak", "hush-hush-012345678")
	require.Contains(t, warnings(map[string]any{"auth.rules": []string{"*=all"}, "auth.hmac_secret_file": weak}),
		"auth.hmac_secret_file = "+weak+" (flag --auth.hmac-secret-file): the secret is shorter than the 32 bytes")
}

// The head of a raw client has room for a token, and users are limited only where there are some.
func TestAuthLimits(t *testing.T) {
	secret := tempFile(t, "secret", "hush-hush-0123456789-0123456789-x\n")
	flags := map[string]any{"auth.mode": "token", "auth.hmac_secret_file": secret, "auth.rules": []string{"*=all"}, "auth.token_bytes_max": "64KiB"}
	with, err := Load(Input{Flags: flags})
	require.NoError(t, err)
	without, err := Load(Input{})
	require.NoError(t, err)
	require.Equal(t, without.Config.Client.HeadMax+64<<10, with.Config.Client.HeadMax)
	l, err := Load(Input{Flags: map[string]any{"limits.user_connections": "5"}})
	require.NoError(t, err)
	require.Contains(t, l.Warnings[0].String(), "clients have no users (auth.mode is none)")
}
