package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
)

func tokenConfig(t *testing.T) (file, key string) {
	t.Helper()
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	key = write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}))
	pub := write("pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}))
	secret := write("secret", []byte("hush-hush-0123456789-0123456789-x\n"))
	return write("wsd.yaml", []byte(`
kafka: {topics: [a]}
auth:
  mode: token
  hmac_secret_file: `+secret+`
  public_key_files: [`+pub+`]
  issuer: https://issuer.example
  audience: wsd
  rules: ["public.*=all", "user.{sub}=user", "team.*=claim:teams", "$*=token"]
`)), key
}

// callWith is call with an input.
func callWith(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, env{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

func TestToken(t *testing.T) {
	file, key := tokenConfig(t)
	token := func(args ...string) string {
		code, stdout, stderr := call(append([]string{"token", "--config", file}, args...)...)
		require.Equal(t, command.OK, code, stderr)
		return strings.TrimSpace(stdout)
	}
	alice := token("--user", "alice", "--claim", `teams=["team.red"]`, "--channels", "news,sport")
	code, stdout, stderr := callWith(alice+"\n", "token", "check", "--config", file)
	require.Equal(t, command.OK, code, stderr)
	for _, line := range []string{
		`for      a connection`, `header   {"alg":"HS256","typ":"JWT"}`, `user     "alice"`, "channels news, sport, subscribed to by the server",
		"expires  20", "accepted",
	} {
		require.Contains(t, stdout, line)
	}
	_, stdout, _ = call("token", "check", "--config", file, token("--user", "bob", "--key", key, "--ttl", "0"))
	require.Contains(t, stdout, `"alg":"EdDSA"`)
	require.Contains(t, stdout, "expires  never")
	_, stdout, _ = call("token", "check", "--config", file, token("--user", "bob", "--channel", "$x"))
	require.Contains(t, stdout, "for      a subscription")
	require.Contains(t, stdout, "channel  $x")
	code, stdout, _ = call("token", "check", "--config", file, alice+"x")
	require.Equal(t, command.Failed, code)
	require.Contains(t, stdout, "refused  signature: ")
	code, _, stderr = call("token", "check", "--config", file, "x.y")
	require.Equal(t, command.Failed, code)
	require.Contains(t, stderr, "2 parts")
	code, _, stderr = call("token", "make", "--config", file, "--claim", "a")
	require.Equal(t, command.Usage, code)
	require.Contains(t, stderr, "not NAME=JSON")
	code, _, stderr = call("token", "--user", "x")
	require.Equal(t, command.Usage, code)
	require.Contains(t, stderr, "nothing to sign by")
	code, _, stderr = call("token", "check", alice)
	require.Equal(t, command.Failed, code)
	require.Contains(t, stderr, "auth.mode is none")
}

func TestTestAccess(t *testing.T) {
	file, _ := tokenConfig(t)
	token := func(args ...string) string {
		_, stdout, _ := call(append([]string{"token", "--config", file}, args...)...)
		return strings.TrimSpace(stdout)
	}
	alice := token("--user", "alice", "--claim", `teams=["team.red"]`, "--channels", "news")
	private := token("--user", "alice", "--channel", "$x")
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"public.x --token " + alice, 0, "allowed\nby   auth.rules[0]: public.*=all\nwhy  everybody may have it\n"},
		{"user.alice --token " + alice, 0, "allowed\nby   auth.rules[1]: user.{sub}=user\nwhy  it is the user's own\n"},
		{"user.bob --token " + alice, 1, "refused\nby   auth.rules[1]: user.{sub}=user\nwhy  the user \"bob\" may have it\n"},
		{"team.red --token " + alice, 0, "allowed\nby   auth.rules[2]: team.*=claim:teams\nwhy  the claim teams contains it\n"},
		{"$x --token " + alice, 1, "refused\nby   auth.rules[3]: $*=token\nwhy  a client may have it with a subscription token for it\n"},
		{"$x --token " + alice + " --subscription-token " + private, 0, "allowed\n"},
		{"$y --token " + alice + " --subscription-token " + private, 1, "why  the subscription token is for another channel\n"},
		{"$x --token " + token("--user", "bob") + " --subscription-token " + private, 1, "another user (sub)\n"},
		{"news --token " + alice, 0, "the server subscribes the client to it\n"},
		{"other --token " + alice, 1, "refused\nwhy  no rule fits the channel"},
		{"public.x", 1, "it has no token, and auth.anonymous is false\n"},
		{"public.x --auth.anonymous", 0, "allowed\n"},
		{"public.x --token " + private, 1, "may not connect: the token is for another purpose"},
		{"public.x --json --token " + alice, 0, `{"allowed":true,"rule":0,"text":"public.*=all","why":"everybody may have it"}` + "\n"},
	} {
		code, stdout, stderr := call(append([]string{"config", "test-access", "--config", file}, strings.Fields(test.args)...)...)
		require.Equal(t, test.code, code, "%s %s", test.args, stderr)
		require.Contains(t, stdout, test.want, test.args)
	}
	_, stdout, _ := call("config", "test-access", "x")
	require.Contains(t, stdout, "everybody may have every channel")
}
