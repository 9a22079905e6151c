package config

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// flags returns options as flags, from pairs of a key below kafka.sasl and a value.
func saslFlags(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m["kafka.sasl."+pairs[i].(string)] = pairs[i+1]
	}
	return m
}

func TestMechanisms(t *testing.T) {
	token, secret := tempFile(t, "token", " a.b-c_d~e+f/g== \n"), tempFile(t, "secret", "hush\n")
	cert, _ := certificate(t)
	const url = "https://login.example.com/token"
	endpoint := []any{"mechanism", "oauthbearer", "oauth.token_url", url, "oauth.client_id", "c", "oauth.client_secret_file", secret}
	with := func(more ...any) map[string]any { return saslFlags(append(append([]any{}, endpoint...), more...)...) }
	tls := func(m map[string]any) map[string]any {
		m["kafka.tls.enabled"] = true
		return m
	}
	for _, c := range []struct {
		flags map[string]any
		want  string // Empty: valid.
	}{
		{saslFlags("mechanism", "OAUTHBEARER", "oauth.token_file", token), ""},
		{saslFlags("mechanism", "oauthbearer", "oauth.token_file", token, "oauth.extensions", []string{"logicalCluster=lkc-1", "poolId=a=b"}), ""},
		{with(), ""},
		{with("oauth.scopes", []string{"a", "b:c"}, "oauth.parameters", []string{"audience=x", "resource="}, "oauth.ca_file", cert), ""},
		{tls(saslFlags("mechanism", "AWS_MSK_IAM", "aws.region", "us-gov-west-1")), ""},
		{tls(saslFlags("mechanism", "aws-msk-iam")), ""},

		{saslFlags("mechanism", "gssapi"), "kafka.sasl.mechanism = gssapi (flag --kafka.sasl.mechanism): not a mechanism that wsd supports; set plain, scram-sha-256, scram-sha-512, oauthbearer or aws-msk-iam"},
		{saslFlags("oauth.token_file", token), "(default): missing, although kafka.sasl has a user name or other options"},
		{saslFlags("aws.region", "eu-west-1"), "(default): missing, although kafka.sasl has a user name or other options"},
		{saslFlags("mechanism", "oauthbearer"), "(default): missing, and kafka.sasl.mechanism needs it or kafka.sasl.oauth.token_url; set one of them"},
		{with("oauth.token_file", token), "kafka.sasl.oauth.token_url is set as well; remove one of them"},
		{saslFlags("mechanism", "oauthbearer", "oauth.token_file", token, "username", "u"), "kafka.sasl.username = u (flag --kafka.sasl.username): has no effect, because kafka.sasl.mechanism is oauthbearer"},
		{saslFlags("mechanism", "oauthbearer", "oauth.token_file", token, "oauth.scopes", []string{"a"}), "kafka.sasl.oauth.scopes = a (flag --kafka.sasl.oauth.scopes): has no effect without kafka.sasl.oauth.token_url"},
		{saslFlags("mechanism", "oauthbearer", "oauth.token_file", token+"x"), "no such file"},
		{saslFlags("mechanism", "oauthbearer", "oauth.token_file", tempFile(t, "t", "\n")), "the file is empty"},
		{saslFlags("mechanism", "oauthbearer", "oauth.token_file", tempFile(t, "t", `{"access_token":"x"}`)), "it must contain the token alone"},
		{saslFlags("mechanism", "oauthbearer", "oauth.token_file", "/dev/null"), "not a regular file"},
		{saslFlags("mechanism", "oauthbearer", "oauth.token_url", url), "(default): missing, and kafka.sasl.oauth.token_url needs it"},
		{saslFlags("mechanism", "oauthbearer", "oauth.token_url", url, "oauth.client_id", "c"), "set kafka.sasl.oauth.client_secret_file"},
		{with("oauth.client_secret", "hush"), "kafka.sasl.oauth.client_secret is set as well"},
		{with("oauth.token_url", "login.example.com/token"), "kafka.sasl.oauth.token_url = login.example.com/token (flag --kafka.sasl.oauth.token-url): not a URL"},
		{with("oauth.token_url", "https://c:hush@example.com"), "(flag --kafka.sasl.oauth.token-url): contains a user name"},
		{with("oauth.scopes", []string{"a b"}), "kafka.sasl.oauth.scopes = a b"},
		{with("oauth.parameters", []string{"audience"}), "not NAME=VALUE"},
		{with("oauth.parameters", []string{"scope=x"}), "wsd itself sets scope"},
		{with("oauth.parameters", []string{"a=1", "a=2"}), "a is listed twice"},
		{with("oauth.extensions", []string{"auth=x"}), "auth is the token itself"},
		{with("oauth.extensions", []string{"a-b=x"}), "only the letters"},
		{with("oauth.extensions", []string{"ab=\x01"}), "only those of ASCII"},
		{with("oauth.ca_file", secret), "kafka.sasl.oauth.ca_file = FILE (flag --kafka.sasl.oauth.ca-file): does not contain a certificate"},
		{saslFlags("mechanism", "aws-msk-iam"), "needs TLS, without which no MSK broker takes it; set kafka.tls.enabled to true"},
		{tls(saslFlags("mechanism", "aws-msk-iam", "aws.region", "Ireland")), "kafka.sasl.aws.region = Ireland (flag --kafka.sasl.aws.region): not the name of a region"},
		{tls(saslFlags("mechanism", "aws-msk-iam", "password", "hush")), "kafka.sasl.password (flag --kafka.sasl.password): has no effect"},
		{saslFlags("mechanism", "plain", "username", "u", "password", "p", "aws.region", "eu-west-1"), "has no effect, because kafka.sasl.mechanism is plain"},
	} {
		_, err := Load(Input{Flags: c.flags})
		if c.want == "" {
			require.NoError(t, err, c.flags)
			continue
		}
		require.Error(t, err, c.flags)
		text := err.Error()
		for _, file := range []string{token, secret} {
			text = strings.ReplaceAll(text, file, "FILE")
		}
		require.Contains(t, text, c.want)
		require.NotContains(t, text, "hush", c.flags)
	}
}

// Credentials in plain text on their way to another machine are worth a warning.
func TestUnencryptedCredentials(t *testing.T) {
	warnings := func(flags map[string]any, brokers ...string) string {
		flags["kafka.brokers"] = brokers
		l, err := Load(Input{Flags: flags})
		require.NoError(t, err)
		var list []string
		for _, w := range l.Warnings {
			list = append(list, w.String())
		}
		return strings.Join(list, "\n")
	}
	plain := saslFlags("mechanism", "plain", "username", "u", "password", "hush")
	require.Empty(t, warnings(plain, "127.0.0.1:1", "[::1]:1", "localhost:1"))
	require.Contains(t, warnings(plain, "127.0.0.1:1", "kafka-1:1"), "the password is sent to brokers on other machines without encryption")
	require.Empty(t, warnings(saslFlags("mechanism", "scram-sha-256", "username", "u", "password", "hush"), "kafka-1:1"))
	oauth := saslFlags("mechanism", "oauthbearer", "oauth.token_url", "http://login.example.com", "oauth.client_id", "c", "oauth.client_secret", "hush")
	require.Contains(t, warnings(oauth, "127.0.0.1:1"), "the client secret is sent to another machine without encryption")
	oauth["kafka.sasl.oauth.token_url"] = "http://[::1]:80/"
	require.Empty(t, warnings(oauth, "127.0.0.1:1"))
}

// No secret shows, whichever it is, and a file that everybody can read must hold none.
func TestSecretsAreRedacted(t *testing.T) {
	for _, o := range Options() {
		if strings.Contains(o.Key, "secret") || strings.Contains(o.Key, "password") {
			require.Equal(t, !strings.HasSuffix(o.Key, "_file"), o.Secret, o.Key)
		}
	}
	file := tempFile(t, "wsd.yaml", "kafka:\n  sasl: {mechanism: oauthbearer, oauth: {token_url: 'https://a.b', client_id: c, client_secret: hush}}\n")
	l, err := Load(Input{File: file})
	require.NoError(t, err)
	require.Equal(t, "hush", string(l.Config.Kafka.SASL.OAuth.ClientSecret))
	var shown strings.Builder
	require.NoError(t, l.Show(&shown))
	require.NotContains(t, shown.String(), "hush")
	require.Contains(t, shown.String(), "client_secret: (redacted)")
	require.NoError(t, os.Chmod(file, 0o644))
	_, err = Load(Input{File: file})
	require.ErrorContains(t, err, "everybody can read the configuration file, and the client secret with it")
	require.ErrorContains(t, err, "use kafka.sasl.oauth.client_secret_file")
}
