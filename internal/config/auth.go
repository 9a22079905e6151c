package config

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"wsd/internal/auth"
	"wsd/internal/reload"
	"wsd/internal/rules"
)

// Auth is how clients say who they are, and which channels they may have (docs/security.md).
type Auth struct {
	Mode string `key:"mode" def:"none" help:"none: everyone who reaches the client port may subscribe to every channel, and tokens are ignored. token: clients need a JSON Web Token, and may have what rules allows and nothing else. proxy: the backend at proxy.connect_endpoint says who clients are, instead of tokens."`
	Keys
	Leeway        time.Duration `key:"leeway" def:"5s" help:"How far the clocks of wsd and of the issuer of tokens may differ, at most 5m."`
	TokenBytesMax Bytes         `key:"token_bytes_max" def:"8KiB" help:"Largest token, 256 to 64KiB. A larger one is refused without a look at it."`
	Anonymous     bool          `key:"anonymous" def:"false" help:"Let clients in that send no token. They have no user, and may have the channels that rules gives to all."`
	ExpiryGrace   time.Duration `key:"expiry_grace" def:"25s" help:"How long a connection or subscription goes on after its token has expired, so that the client can refresh it, at most 1h. Ends are spread over the last quarter of it. Then the connection is closed with 3005 (raw: 1008), and a subscription ends with 2501."`
	Workers       int           `key:"workers" def:"0" help:"Goroutines that verify tokens, at most 256. 0: half as many as the CPUs that wsd may use (GOMAXPROCS), at least one."`
	WaitingMax    int           `key:"waiting_max" def:"10000" help:"Maximum tokens that may wait to be verified. Clients with further ones are asked to try again."`
	UserChannel   string        `key:"user_channel" help:"Channel to which every client with a user is subscribed when it connects, in which {sub} stands for the user, such as #{sub}. Clients recover it like channels of their token. Default: none."`
	Rules         []string      `key:"rules" help:"Who may have which channel, as PATTERN=WHO; the first rule whose pattern matches decides, and a channel that none matches is refused. PATTERN is a channel or a prefix followed by *, and {sub} in it stands for the client's user. WHO is all, user, claim:NAME (whoever has a token with a claim NAME that lists the channel), token (whoever has a subscription token), proxy (whoever the backend at proxy.subscribe_endpoint allows it), nobody, or several of them separated by |. Default: none, so that clients have only the channels that their tokens name."`
	Subscription  Subscription  `key:"subscription"`
}

// Subscription is the keys for subscription tokens, if they have their own.
type Subscription struct{ Keys }

// Keys is what tokens are verified by.
type Keys struct {
	HMACSecret             Secret        `key:"hmac_secret" secret:"true" help:"Secret of at least 16 bytes for tokens signed by HS256, HS384 or HS512. Prefer hmac_secret_file, which does not show in ps."`
	HMACSecretFile         string        `key:"hmac_secret_file" help:"File that contains the secret. A line break at its end does not count. It is read again when it changes."`
	HMACSecretPrevious     Secret        `key:"hmac_secret_previous" secret:"true" help:"Secret that tokens may still be signed by, while the secret is replaced. Prefer hmac_secret_previous_file."`
	HMACSecretPreviousFile string        `key:"hmac_secret_previous_file" help:"File that contains the previous secret. It is read again when it changes."`
	PublicKeyFiles         []string      `key:"public_key_files" help:"PEM files with public keys or certificates, for tokens signed by RS, PS, ES 256, 384 and 512 or EdDSA. They are read again when they change."`
	JWKSURL                Address       `key:"jwks_url" help:"HTTPS address of a JSON Web Key Set (RFC 7517), which is fetched again at every jwks_interval. Needs issuer. While it cannot be fetched, the keys that it had stay in use."`
	JWKSInterval           time.Duration `key:"jwks_interval" def:"5m" help:"Time between two fetches of the key set, 1s to 24h. A token of a key that is not in the set yet is refused until then, with an error after which clients try again."`
	JWKSCAFile             string        `key:"jwks_ca_file" help:"PEM file with the authorities that may sign the certificate of jwks_url. Default: the system's."`
	Issuer                 string        `key:"issuer" help:"Issuer (claim iss) that tokens must have. Default: any."`
	Audience               string        `key:"audience" help:"Audience (claim aud) that tokens must name. Default: any."`
}

// The modes.
const (
	AuthNone  = "none"
	AuthToken = "token"
	AuthProxy = "proxy"
)

// On reports whether clients have identities.
func (a *Auth) On() bool { return a.Mode != AuthNone }

// Given reports whether there is anything that verifies tokens.
func (k *Keys) Given() bool {
	return k.HMACSecret != "" || k.HMACSecretPrevious != "" || len(k.PublicKeyFiles) > 0 || k.JWKSURL != ""
}

// Files returns the files that the keys are made from, in the order in which Parse takes them.
func (k *Keys) Files() (files []string) {
	for _, f := range []string{k.HMACSecretFile, k.HMACSecretPreviousFile} {
		if f != "" {
			files = append(files, f)
		}
	}
	return append(files, k.PublicKeyFiles...)
}

// Parse returns the keys that are made from the contents of Files, and from the secrets that are given as options.
// Those of jwks_url are not among them.
func (k *Keys) Parse(contents [][]byte) (keys []auth.Key, err error) {
	for _, s := range []struct {
		name, file string
		value      Secret
	}{
		{"hmac_secret", k.HMACSecretFile, k.HMACSecret},
		{"hmac_secret_previous", k.HMACSecretPreviousFile, k.HMACSecretPrevious},
	} {
		text := string(s.value)
		if s.file != "" {
			if text, err = ParseSecret(contents[0]); err != nil {
				return nil, fmt.Errorf("%s_file: %w", s.name, err)
			}
			contents = contents[1:]
		}
		if text == "" {
			continue
		}
		key, err := auth.ParseSecret(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		keys = append(keys, key)
	}
	for i, file := range k.PublicKeyFiles {
		list, err := auth.ParsePEM(contents[i])
		if err != nil {
			return nil, fmt.Errorf("%s %w", file, err)
		}
		keys = append(keys, list...)
	}
	return keys, nil
}

// ChannelRules returns auth.rules. Load has checked them.
func (a *Auth) ChannelRules() (*rules.Rules, error) { return rules.Parse(a.Rules) }

// Files returns the files that are read again while wsd runs.
func (a *Auth) Files() []string { return append(a.Keys.Files(), a.Subscription.Files()...) }

// userChannelMax bounds auth.user_channel in bytes.
const userChannelMax = 100

func (l *loader) checkAuth(a *Auth) {
	const section = "auth."
	number(l, "auth.leeway", a.Leeway, 0, 5*time.Minute)
	number(l, "auth.token_bytes_max", a.TokenBytesMax, 256, 64<<10)
	number(l, "auth.expiry_grace", a.ExpiryGrace, 0, time.Hour)
	number(l, "auth.workers", a.Workers, 0, 256)
	number(l, "auth.waiting_max", a.WaitingMax, 1, 1_000_000)
	switch a.Mode {
	case AuthToken, AuthProxy:
	case AuthNone:
		// A server that is open by mistake is worse than one that does not start. Options that have a default may be
		// there because the file has all of them.
		for _, key := range l.given(section) {
			if l.options[key].Default == "" {
				l.complain(key, strings.Join(l.loaded.given[key].texts, ","), "has no effect, because auth.mode is "+
					"none", "set auth.mode to token, or remove it")
			}
		}
		return
	default:
		l.complain("auth.mode", a.Mode, "must be none, token or proxy", "")
		return
	}
	if c := a.UserChannel; c != "" && (strings.Count(c, "{sub}") != 1 || len(c) > userChannelMax ||
		strings.ContainsAny(strings.ReplaceAll(c, "{sub}", ""), "{}*")) {
		l.complain("auth.user_channel", c, "must contain {sub} once, no * or other placeholder, and few characters",
			"write such as #{sub}")
	}
	l.checkKeys(section, &a.Keys)
	l.checkKeys("auth.subscription.", &a.Subscription.Keys)
	if a.Mode == AuthToken && !a.Keys.Given() && len(l.faults) == 0 {
		l.complain("auth.mode", a.Mode, "needs a key that tokens are verified by",
			"set auth.hmac_secret_file, auth.public_key_files or auth.jwks_url")
	}
	if !a.Subscription.Given() {
		for _, key := range l.given("auth.subscription.") {
			if l.options[key].Default == "" && len(l.faults) == 0 {
				l.complain(key, strings.Join(l.loaded.given[key].texts, ","), "has no effect without a key in "+
					"auth.subscription", "set one, or remove it")
			}
		}
	}
	parsed, err := a.ChannelRules()
	switch {
	case err != nil:
		l.complain("auth.rules", strings.Join(a.Rules, ","), err.Error(), "")
	case len(a.Rules) == 0:
		l.warn("auth.rules", "", "clients may have only the channels that their connection tokens name",
			"add rules, such as public.*=all")
	case a.Subscription.Given() && !parsed.NeedTokens():
		l.warn("auth.subscription", "", "no rule asks for a subscription token", "add a rule, such as $*=token")
	}
}

// checkKeys checks the keys of a section, and reads their files.
func (l *loader) checkKeys(section string, k *Keys) {
	number(l, section+"jwks_interval", k.JWKSInterval, time.Second, 24*time.Hour)
	l.optionalSecret(section+"hmac_secret", &k.HMACSecret, k.HMACSecretFile)
	l.optionalSecret(section+"hmac_secret_previous", &k.HMACSecretPrevious, k.HMACSecretPreviousFile)
	l.checkHMAC(section+"hmac_secret", k.HMACSecret, k.HMACSecretFile)
	l.checkHMAC(section+"hmac_secret_previous", k.HMACSecretPrevious, k.HMACSecretPreviousFile)
	l.unique(section+"public_key_files", k.PublicKeyFiles)
	for _, file := range k.PublicKeyFiles {
		content, err := reload.ReadRegular(file)
		if err != nil {
			l.complain(section+"public_key_files", file, "cannot be read: "+explainFile(err), "")
		} else if _, err := auth.ParsePEM(content); err != nil {
			l.complain(section+"public_key_files", file, err.Error(), "")
		}
	}
	if k.JWKSURL != "" {
		l.checkJWKS(section, k)
	} else if k.JWKSCAFile != "" {
		l.complain(section+"jwks_ca_file", k.JWKSCAFile, "has no effect without "+section+"jwks_url", "remove it")
	}
}

// checkHMAC checks the length of a secret, which is of the option key, or of a file if there is one.
func (l *loader) checkHMAC(key string, secret Secret, file string) {
	const makeOne = "make one by openssl rand -base64 32"
	if file != "" {
		key += "_file"
	}
	if secret == "" {
		return
	}
	if _, err := auth.ParseSecret(string(secret)); err != nil {
		l.complain(key, file, err.Error(), makeOne)
	} else if len(secret) < 32 {
		l.warn(key, file, "the secret is shorter than the 32 bytes that RFC 7518 asks for", makeOne)
	}
}

func (l *loader) checkJWKS(section string, k *Keys) {
	key := section + "jwks_url"
	u, err := url.Parse(string(k.JWKSURL))
	switch {
	case strings.Contains(string(k.JWKSURL), "@"): // The value may contain a password.
		l.complain(key, "", "contains a user name", "remove it")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		l.complain(key, k.JWKSURL.String(), "not a URL",
			"write such as https://login.example.com/.well-known/jwks.json")
	case u.Scheme == "http" && u.Hostname() != "localhost" && remote(net.JoinHostPort(u.Hostname(), "0")):
		l.complain(key, k.JWKSURL.String(), "without TLS, whoever is on the way can replace the keys", "use https")
	}
	if k.Issuer == "" {
		l.complain(section+"issuer", "", "missing, and "+key+" needs it: a key set verifies tokens of its issuer only",
			"set it to the iss of the tokens")
	}
	if k.JWKSCAFile == "" {
		return
	}
	pem, err := reload.ReadRegular(k.JWKSCAFile)
	if err != nil {
		l.complain(section+"jwks_ca_file", k.JWKSCAFile, "cannot be read: "+explainFile(err), "")
	} else if _, err := ParseAuthorities(pem); err != nil {
		l.complain(section+"jwks_ca_file", k.JWKSCAFile, err.Error(), "")
	}
}

// optionalSecret checks a secret that may be given by the option key, by a file, which it reads, or not at all.
func (l *loader) optionalSecret(key string, value *Secret, file string) {
	if *value != "" || file != "" {
		l.secret(key, value, file, "")
	}
}
