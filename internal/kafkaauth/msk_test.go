package kafkaauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/stretchr/testify/require"
)

// signature returns what a presigned URL must have as X-Amz-Signature: AWS Signature Version 4 of a GET request whose
// parameters carry the signature and whose only signed header is host. It is written from AWS's description, without
// the SDK.
func signature(t *testing.T, u *url.URL, payload, secret string) string {
	t.Helper()
	q := u.Query()
	q.Del("X-Amz-Signature")
	canonical := strings.Join([]string{"GET", u.EscapedPath(), strings.ReplaceAll(q.Encode(), "+", "%20"),
		"host:" + u.Host + "\n", "host", payload}, "\n")
	digest := sha256.Sum256([]byte(canonical))
	scope := strings.SplitN(q.Get("X-Amz-Credential"), "/", 2)[1]
	text := strings.Join([]string{"AWS4-HMAC-SHA256", q.Get("X-Amz-Date"), scope, hex.EncodeToString(digest[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range append(strings.Split(scope, "/"), text) {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// AWS's published example of a presigned request ("Authenticating Requests: Using Query Parameters", Amazon S3 API
// reference): the function above is right.
func TestSignatureOfThePublishedExample(t *testing.T) {
	u, err := url.Parse("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256" +
		"&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
		"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host")
	require.NoError(t, err)
	require.Equal(t, "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
		signature(t, u, "UNSIGNED-PAYLOAD", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
}

// parseToken returns the URL in a token, and checks its signature.
func parseToken(t *testing.T, token, secret string) *url.URL {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err)
	u, err := url.Parse(string(text))
	require.NoError(t, err)
	signed := *u
	q := signed.Query()
	require.Contains(t, q.Get("User-Agent"), "aws-msk-iam-sasl-signer-go")
	q.Del("User-Agent") // It is added after signing.
	signed.RawQuery = q.Encode()
	empty := sha256.Sum256(nil)
	require.Equal(t, signature(t, &signed, hex.EncodeToString(empty[:]), secret), q.Get("X-Amz-Signature"))
	return u
}

// withoutAWS makes AWS's SDK find nothing of this machine.
func withoutAWS(t *testing.T) (credentials string) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
		"AWS_DEFAULT_REGION", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	dir := t.TempDir()
	credentials = filepath.Join(dir, "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", credentials)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	return credentials
}

func TestMSKFromTheEnvironment(t *testing.T) {
	withoutAWS(t)
	const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("AWS_SESSION_TOKEN", "a/session+token==")
	token, err := MSK("eu-west-1").Token(t.Context())
	require.NoError(t, err)
	u := parseToken(t, token, secret)
	require.Equal(t, "kafka.eu-west-1.amazonaws.com", u.Host)
	q := u.Query()
	require.Equal(t, "kafka-cluster:Connect", q.Get("Action"))
	require.Equal(t, "a/session+token==", q.Get("X-Amz-Security-Token"))
	require.Equal(t, "900", q.Get("X-Amz-Expires"))
	require.Regexp(t, `^AKIAIOSFODNN7EXAMPLE/\d{8}/eu-west-1/kafka-cluster/aws4_request$`, q.Get("X-Amz-Credential"))

	_, err = MSK("").Token(t.Context())
	require.ErrorContains(t, err, "set kafka.sasl.aws.region")
	broker := sasl.WithMetadata(t.Context(), &sasl.Metadata{Host: "b-1.demo.abcde.c2.kafka.us-gov-west-1.amazonaws.com"})
	token, err = MSK("").Token(broker)
	require.NoError(t, err)
	require.Equal(t, "kafka.us-gov-west-1.amazonaws.com", parseToken(t, token, secret).Host)
	t.Setenv("AWS_REGION", "ap-south-1")
	token, err = MSK("").Token(t.Context())
	require.NoError(t, err)
	require.Equal(t, "kafka.ap-south-1.amazonaws.com", parseToken(t, token, secret).Host)
}

// Keys in the shared file may be replaced while wsd runs.
func TestMSKFromTheSharedFile(t *testing.T) {
	file := withoutAWS(t)
	m := MSK("eu-west-1").(*mskTokens)
	_, err := m.Token(t.Context())
	require.ErrorContains(t, err, "get AWS credentials")
	for _, id := range []string{"AKIAFIRST", "AKIASECOND"} {
		require.NoError(t, os.WriteFile(file, []byte("[default]\naws_access_key_id = "+id+"\naws_secret_access_key = of"+id+"\n"), 0o600))
		m.stale = time.Time{} // staticLife is over.
		token, err := m.Token(t.Context())
		require.NoError(t, err)
		require.Contains(t, parseToken(t, token, "of"+id).Query().Get("X-Amz-Credential"), id+"/")
		require.WithinRange(t, m.stale, time.Now(), time.Now().Add(staticLife))
	}
}

func TestRegionOf(t *testing.T) {
	for host, want := range map[string]string{
		"b-1.demo.abcde.c2.kafka.eu-west-1.amazonaws.com":        "eu-west-1",
		"boot-abcde.c1.kafka-serverless.us-east-1.amazonaws.com": "us-east-1",
		"b-1.demo.abcde.c2.kafka.cn-north-1.amazonaws.com.cn":    "cn-north-1",
		"kafka.example.com":                             "",
		"b-1.kafka.eu-west-1.amazonaws.com.example.com": "",
		"10.0.0.1": "",
		"b-1-public.demo.abcde.c2.kafka.ap-southeast-2.amazonaws.com": "ap-southeast-2",
	} {
		require.Equal(t, want, regionOf(host), host)
	}
}
