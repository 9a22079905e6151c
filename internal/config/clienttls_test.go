package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/dev"
)

func TestClientTLS(t *testing.T) {
	dir := t.TempDir()
	file, err := dev.MakeCertificate(dir)
	require.NoError(t, err)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	key, second := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	keys := write("keys", "# the newest first\n"+key+"\n\n"+second+"\n")
	other, err := dev.MakeCertificate(t.TempDir())
	require.NoError(t, err)
	half := write("half", string(text[:100]))

	listen := []string{":8443"}
	for name, test := range map[string]struct {
		flags map[string]any
		want  string // Part of the fault; empty: none.
	}{
		"one file":      {map[string]any{"client.tls_listen": listen, "client.tls.certificates": []string{file}}, ""},
		"two files":     {map[string]any{"client.tls_listen": listen, "client.tls.certificates": []string{file + "=" + file, other}}, ""},
		"TLS alone":     {map[string]any{"client.listen": []string{}, "client.tls_listen": listen, "client.tls.certificates": []string{file}}, ""},
		"ticket keys":   {map[string]any{"client.tls_listen": listen, "client.tls.certificates": []string{file}, "client.tls.ticket_keys": keys}, ""},
		"nothing":       {map[string]any{"client.listen": []string{}}, "client.listen = \"\" (flag --client.listen): empty"},
		"none":          {map[string]any{"client.tls_listen": listen}, "client.tls_listen = :8443 (flag --client.tls-listen): needs client.tls.certificates"},
		"not listening": {map[string]any{"client.tls.certificates": []string{file}}, "has no effect, because client.tls_listen is empty"},
		"no file":       {map[string]any{"client.tls_listen": listen, "client.tls.certificates": []string{"/no/file"}}, "client.tls.certificates = /no/file (flag --client.tls.certificates): cannot be read: no such file"},
		"half a file":   {map[string]any{"client.tls_listen": listen, "client.tls.certificates": []string{half}}, "certificate and key cannot be used"},
		"no pair":       {map[string]any{"client.tls_listen": listen, "client.tls.certificates": []string{file + "=" + other}}, "private key does not match public key"},
		"address twice": {map[string]any{"client.listen": listen, "client.tls_listen": listen, "client.tls.certificates": []string{file}}, "listed in client.listen as well"},
		"no port":       {map[string]any{"client.tls_listen": []string{"a"}, "client.tls.certificates": []string{file}}, "write 127.0.0.1:8443"},
		"bad keys":      {map[string]any{"client.tls_listen": listen, "client.tls.certificates": []string{file}, "client.tls.ticket_keys": write("bad", key+"\nsecret\n")}, "line 2 is not a key of 32 bytes"},
		"no keys":       {map[string]any{"client.tls_listen": listen, "client.tls.certificates": []string{file}, "client.tls.ticket_keys": write("empty", "# none\n")}, "has no key"},
		"many keys":     {map[string]any{"client.tls_listen": listen, "client.tls.certificates": []string{file}, "client.tls.ticket_keys": write("many", strings.Repeat(key+"\n", 17))}, "more than 16 keys"},
		"handshakes":    {map[string]any{"client.tls.handshakes_max": "0"}, "must be from 1 to 1000000"},
	} {
		t.Run(name, func(t *testing.T) {
			loaded, err := Load(Input{Flags: test.flags})
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				require.NotContains(t, err.Error(), "secret")
				return
			}
			require.NoError(t, err)
			require.Empty(t, loaded.Warnings)
			got, err := loaded.Config.Client.TLS.Read()
			require.NoError(t, err)
			at, name := got.Expires()
			require.WithinDuration(t, time.Now().Add(30*24*time.Hour), at, time.Hour)
			require.Contains(t, name, "localhost")
			if name == "ticket keys" {
				require.Len(t, got.TicketKeys, 2)
				require.EqualValues(t, 0xab, got.TicketKeys[0][0])
			}
		})
	}
}
