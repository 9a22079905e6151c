package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func TestEveryAlgorithm(t *testing.T) {
	v := verifierOf(t, nil)
	for _, alg := range Algorithms() {
		c, err := v.Verify(sign(t, alg, claimsOf()))
		require.NoError(t, err, alg)
		require.Equal(t, "alice", c.User)
		require.Equal(t, now.Unix()+60, c.ExpireAt.Unix())
	}
}

func TestClaims(t *testing.T) {
	v := verifierOf(t, func(o *Options) { o.Lists = []string{"teams", "absent"} })
	c, err := v.Verify(sign(t, "HS256", claimsOf("aud", []string{"x", "wsd"}, "channels", []string{"b", "a", "b"},
		"subs", map[string]any{"c": map[string]any{}, "a": map[string]any{}}, "info", map[string]any{"n": 1}, "meta", []int{1},
		"teams", []string{"team.*"}, "expire_at", 0)))
	require.NoError(t, err)
	require.Equal(t, []string{"b", "a", "c"}, c.Channels)
	require.JSONEq(t, `{"n":1}`, string(c.Info))
	require.JSONEq(t, `[1]`, string(c.Meta))
	require.Equal(t, map[string][]string{"teams": {"team.*"}}, c.Lists)
	require.True(t, c.ExpireAt.IsZero(), "0 stands for never")
	c, err = v.Verify(sign(t, "HS256", claimsOf("sub", nil, "b64info", "eyJhIjoyfQ==", "expire_at", now.Unix()+5)))
	require.NoError(t, err)
	require.Empty(t, c.User)
	require.Equal(t, `{"a":2}`, string(c.Info))
	require.Equal(t, now.Unix()+5, c.ExpireAt.Unix())
}

// What a token says is wall time. What is left of it is counted once, so that a step of the clock changes nothing later.
func TestExpiryIsMonotonic(t *testing.T) {
	v := verifierOf(t, func(o *Options) { o.Now = nil })
	exp := time.Now().Add(time.Minute).Unix()
	c, err := v.Verify(sign(t, "HS256", claimsOf("exp", exp, "nbf", nil)))
	require.NoError(t, err)
	require.Equal(t, exp, c.ExpireAt.Unix())
	require.Contains(t, c.ExpireAt.String(), " m=")
}

// Tokens that must not be accepted, and why. Each is signed by a configured key unless it says otherwise.
func TestBadTokens(t *testing.T) {
	v := verifierOf(t, nil)
	good := sign(t, "HS256", claimsOf())
	parts := strings.Split(good, ".")
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claimsOf()).SignedString(jwt.UnsafeAllowNoneSignatureType)
	require.NoError(t, err)
	confused, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claimsOf()).SignedString(pemOf(t, private()["RS256"]))
	require.NoError(t, err)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	stranger, err := jwt.NewWithClaims(jwt.SigningMethodES256, claimsOf()).SignedString(other)
	require.NoError(t, err)
	header := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	const hs = `{"alg":"HS256","typ":"JWT"}`
	payload := func(more string) string {
		return fmt.Sprintf(`{"sub":"alice","iss":"https://issuer.example","aud":"wsd","exp":%d%s}`, now.Unix()+60, more)
	}
	for name, test := range map[string]struct {
		token string
		fault Fault
	}{
		"empty":                        {"", FaultMalformed},
		"two parts":                    {parts[0] + "." + parts[1], FaultMalformed},
		"four parts":                   {good + ".", FaultMalformed},
		"not base64":                   {"!." + parts[1] + "." + parts[2], FaultMalformed},
		"padded":                       {parts[0] + "=." + parts[1] + "." + parts[2], FaultMalformed},
		"header is no object":          {header("[]") + "." + parts[1] + "." + parts[2], FaultMalformed},
		"alg none":                     {none, FaultAlgorithm},
		"alg None":                     {header(`{"alg":"None"}`) + "." + parts[1] + ".", FaultAlgorithm},
		"alg is a number":              {header(`{"alg":1}`) + "." + parts[1] + ".", FaultMalformed},
		"no alg":                       {header(`{}`) + "." + parts[1] + ".", FaultMalformed},
		"alg of encryption":            {header(`{"alg":"RSA-OAEP"}`) + "." + parts[1] + "." + parts[2], FaultAlgorithm},
		"public key as a secret":       {confused, FaultSignature},
		"another alg than the key's":   {header(`{"alg":"RS256"}`) + "." + parts[1] + "." + parts[2], FaultSignature},
		"no signature":                 {parts[0] + "." + parts[1] + ".", FaultSignature},
		"signature of another":         {stranger, FaultSignature},
		"payload of another":           {parts[0] + "." + header(payload(`,"x":1`)) + "." + parts[2], FaultSignature},
		"expired":                      {sign(t, "HS256", claimsOf("exp", now.Unix()-2)), FaultExpired},
		"exp 0":                        {sign(t, "HS256", claimsOf("exp", 0)), FaultExpired},
		"expire_at has passed":         {sign(t, "HS256", claimsOf("expire_at", now.Unix()-2)), FaultExpired},
		"expired, of another issuer":   {sign(t, "HS256", claimsOf("exp", 1, "iss", "evil")), FaultIssuer},
		"exp is a text":                {sign(t, "HS256", claimsOf("exp", "1900000000")), FaultClaims},
		"exp is null":                  {signText(t, hs, `{"exp":null}`), FaultClaims},
		"exp is huge":                  {signText(t, hs, `{"exp":1e300}`), FaultClaims},
		"exp is negative":              {sign(t, "HS256", claimsOf("exp", -1)), FaultClaims},
		"exp is milliseconds":          {sign(t, "HS256", claimsOf("exp", now.UnixMilli())), FaultClaims},
		"nbf is to come":               {sign(t, "HS256", claimsOf("nbf", now.Unix()+2)), FaultNotYet},
		"wrong issuer":                 {sign(t, "HS256", claimsOf("iss", "https://issuer.example/")), FaultIssuer},
		"no issuer":                    {sign(t, "HS256", claimsOf("iss", nil)), FaultIssuer},
		"wrong audience":               {sign(t, "HS256", claimsOf("aud", []string{"x"})), FaultAudience},
		"no audience":                  {sign(t, "HS256", claimsOf("aud", nil)), FaultAudience},
		"aud is a number":              {sign(t, "HS256", claimsOf("aud", 1)), FaultClaims},
		"100 KB":                       {sign(t, "HS256", claimsOf("info", strings.Repeat("x", 100_000))), FaultTooLong},
		"b64info is no JSON":           {sign(t, "HS256", claimsOf("b64info", "aGk=")), FaultClaims},
		"b64info is two values":        {sign(t, "HS256", claimsOf("b64info", "e30Ke30=")), FaultClaims},
		"sub is a number":              {sign(t, "HS256", claimsOf("sub", 42)), FaultClaims},
		"sub is long":                  {sign(t, "HS256", claimsOf("sub", strings.Repeat("u", UserBytesMax+1))), FaultClaims},
		"sub has a lone surrogate":     {signText(t, hs, payload(``)[:7]+`"\ud800"}`), FaultClaims},
		"sub is not UTF-8":             {signText(t, hs, "{\"sub\":\"\xff\"}"), FaultMalformed},
		"sub twice":                    {signText(t, hs, payload(`,"sub":"root"`)), FaultMalformed},
		"sub twice, escaped":           {signText(t, hs, payload(`,"s\u0075b":"root"`)), FaultMalformed},
		"exp twice":                    {signText(t, hs, payload(`,"exp":9000000000`)), FaultMalformed},
		"text after the claims":        {signText(t, hs, payload(``)+"{}"), FaultMalformed},
		"claims are a list":            {signText(t, hs, `[]`), FaultMalformed},
		"alg twice":                    {signText(t, `{"alg":"HS256","alg":"none"}`, payload(``)), FaultMalformed},
		"crit":                         {signText(t, `{"alg":"HS256","crit":["b64"],"b64":false}`, payload(``)), FaultMalformed},
		"kid is a number":              {signText(t, `{"alg":"HS256","kid":1}`, payload(``)), FaultMalformed},
		"kid is long":                  {signText(t, `{"alg":"HS256","kid":"`+strings.Repeat("k", 2000)+`"}`, payload(``)), FaultMalformed},
		"a list of too many":           {sign(t, "HS256", claimsOf("channels", make([]string, 3))), FaultClaims},
		"channels is a text":           {sign(t, "HS256", claimsOf("channels", "a")), FaultClaims},
		"channels has a long name":     {sign(t, "HS256", claimsOf("channels", []string{strings.Repeat("c", 256)})), FaultClaims},
		"channels has a number":        {sign(t, "HS256", claimsOf("channels", []any{"a", 1})), FaultClaims},
		"subs is a list":               {sign(t, "HS256", claimsOf("subs", []string{"a"})), FaultClaims},
		"subs has a name twice":        {signText(t, hs, payload(`,"subs":{"a":{},"a":{}}`)), FaultClaims},
		"b64info is not base64":        {sign(t, "HS256", claimsOf("b64info", "!")), FaultClaims},
		"a subscription's token":       {sign(t, "HS256", claimsOf("channel", "$a")), FaultPurpose},
		"nested deeply":                {signText(t, hs, `{"info":`+strings.Repeat("[", 4000)), FaultMalformed},
		"another letter's case counts": {signText(t, hs, fmt.Sprintf(`{"Sub":"root","ISS":"https://issuer.example","exp":%d}`, now.Unix()+60)), FaultIssuer},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := v.Verify(test.token)
			require.Nil(t, c)
			var own *Error
			require.ErrorAs(t, err, &own)
			require.Equal(t, test.fault.String(), own.Fault.String(), err)
		})
	}
}

// A kid only chooses among keys: whatever it looks like, it opens and asks for nothing.
func TestKeyID(t *testing.T) {
	for _, kid := range []string{"../../../../dev/null", "/etc/passwd", "http://evil.example/jwks", "'; drop table keys", ""} {
		store := &KeyStore{}
		key, err := ParseSecret(secret)
		require.NoError(t, err)
		key.id = "k1"
		store.Fetched([]Key{key})
		v := verifierOf(t, func(o *Options) { o.Keys = store })
		_, err = v.Verify(sign(t, "HS256", claimsOf(), "kid", kid))
		if kid == "" {
			require.NoError(t, err, "a token without an id is tried with all keys of its algorithm")
			continue
		}
		require.Equal(t, FaultKey, faultOf(err))
	}
}

func TestSubscriptionToken(t *testing.T) {
	v := verifierOf(t, func(o *Options) { o.Purpose = ForSubscription })
	c, err := v.Verify(sign(t, "ES256", claimsOf("channel", "$a")))
	require.NoError(t, err)
	require.Equal(t, "$a", c.Channel)
	_, err = v.Verify(sign(t, "ES256", claimsOf()))
	require.Equal(t, FaultPurpose, faultOf(err))
}

// The previous secret is accepted beside the new one while tokens are renewed.
func TestPreviousSecret(t *testing.T) {
	old, err := ParseSecret(secret)
	require.NoError(t, err)
	fresh, err := ParseSecret(strings.Repeat("n", 32))
	require.NoError(t, err)
	store := &KeyStore{}
	v := verifierOf(t, func(o *Options) { o.Keys = store })
	token := sign(t, "HS256", claimsOf())
	_, err = v.Verify(token)
	require.Equal(t, FaultKey, faultOf(err), "there are no keys")
	store.Configure([]Key{fresh, old})
	_, err = v.Verify(token)
	require.NoError(t, err)
	store.Configure([]Key{fresh})
	_, err = v.Verify(token)
	require.Equal(t, FaultSignature, faultOf(err))
}

func FuzzVerify(f *testing.F) {
	v := verifierOf(f, func(o *Options) { o.Lists = []string{"teams"} })
	f.Add(sign(f, "HS256", claimsOf("channels", []string{"a"})), `{"sub":"a"}`)
	f.Add("a.b.c", `{"aud":["wsd"],"subs":{"a":{}},"exp":1e3}`)
	f.Fuzz(func(t *testing.T, token, payload string) {
		for _, text := range []string{token, signText(t, `{"alg":"HS256"}`, payload)} {
			c, err := v.Verify(text)
			if err == nil {
				require.NotNil(t, c)
				require.LessOrEqual(t, len(c.User), UserBytesMax)
				require.LessOrEqual(t, len(c.Channels), ListMax)
				require.True(t, c.ExpireAt.IsZero() || c.ExpireAt.After(now.Add(-2*1e9)))
				continue
			}
			var own *Error
			require.ErrorAs(t, err, &own)
			require.NotZero(t, own.Fault)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := verifierOf(b, nil)
	for _, alg := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		token := sign(b, alg, claimsOf())
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A client that was away while its key was replaced has a token that cannot be verified any more. It is told that the
// token has expired, by which it asks for another one, if that is what the token says itself.
func TestExpiredByAKeyThatIsGone(t *testing.T) {
	v := verifierOf(t, nil)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	for _, test := range []struct {
		claims  jwt.MapClaims
		expired bool
	}{
		{claimsOf("exp", now.Unix()-2), true},
		{claimsOf(), false},
		{claimsOf("exp", nil), false},
		{claimsOf("exp", now.Unix()-2, "iss", "https://other.example"), false},
	} {
		token, err := jwt.NewWithClaims(jwt.SigningMethodES256, test.claims).SignedString(other)
		require.NoError(t, err)
		for _, keys := range []*KeyStore{v.o.Keys, {}} {
			o := v.o
			o.Keys = keys
			_, err = New(o).Verify(token)
			e, ok := errors.AsType[*Error](err)
			require.True(t, ok)
			require.Contains(t, []Fault{FaultKey, FaultSignature}, e.Fault)
			require.Equal(t, test.expired, e.Expired, "%v", test.claims)
		}
	}
}
