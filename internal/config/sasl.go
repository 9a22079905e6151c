package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"wsd/internal/reload"
)

// SASL is how to authenticate to brokers.
type SASL struct {
	Mechanism    string `key:"mechanism" help:"plain, scram-sha-256, scram-sha-512, oauthbearer or aws-msk-iam. Empty: no authentication."`
	Username     string `key:"username" help:"User name, for plain and SCRAM."`
	Password     Secret `key:"password" secret:"true" help:"Password. Prefer password_file, which does not show in ps."`
	PasswordFile string `key:"password_file" help:"File that contains the password. A line break at its end does not count. Each login uses the file as it is then."`
	OAuth        OAuth  `key:"oauth"`
	AWS          AWS    `key:"aws"`
}

// OAuth is where the tokens for the mechanism oauthbearer come from.
type OAuth struct {
	TokenFile        string   `key:"token_file" help:"File that contains a token for oauthbearer, which something else renews, such as a service account token of Kubernetes. Each login uses the file as it is then. Either this or token_url."`
	TokenURL         string   `key:"token_url" help:"Endpoint that issues tokens for client credentials (RFC 6749, section 4.4), as an https URL. Needs client_id and client_secret_file."`
	ClientID         string   `key:"client_id" help:"Client id for token_url."`
	ClientSecret     Secret   `key:"client_secret" secret:"true" help:"Client secret. Prefer client_secret_file, which does not show in ps."`
	ClientSecretFile string   `key:"client_secret_file" help:"File that contains the client secret. A line break at its end does not count. Each request for a token uses the file as it is then."`
	Scopes           []string `key:"scopes" help:"Scopes to ask token_url for. Default: none."`
	Parameters       []string `key:"parameters" help:"Further parameters for token_url as NAME=VALUE, such as audience=https://kafka.example.com. Default: none."`
	CAFile           string   `key:"ca_file" help:"PEM file with the authorities that may sign the certificate of token_url. Default: the system's."`
	Extensions       []string `key:"extensions" help:"SASL extensions to send to brokers with the token, as NAME=VALUE (KIP-342). Default: none."`
}

// AWS is the mechanism aws-msk-iam.
type AWS struct {
	Region string `key:"region" help:"AWS region of the MSK cluster. Default: the one in the broker's name, else that of AWS's own settings (AWS_REGION, the profile)."`
}

// The mechanisms.
const (
	MechanismPlain    = "plain"
	MechanismSCRAM256 = "scram-sha-256"
	MechanismSCRAM512 = "scram-sha-512"
	MechanismOAuth    = "oauthbearer"
	MechanismMSKIAM   = "aws-msk-iam"
)

const mechanismsAccepted = "set plain, scram-sha-256, scram-sha-512, oauthbearer or aws-msk-iam"

// ParseSecret returns the password or client secret that a file contains.
func ParseSecret(content []byte) (string, error) {
	text := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if text == "" {
		return "", errors.New("the file is empty")
	}
	return text, nil
}

// tokenSyntax is the syntax of a bearer token (RFC 6750, section 2.1).
var tokenSyntax = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// ParseToken returns the bearer token that a file contains. White space around it does not count.
func ParseToken(content []byte) (string, error) {
	text := strings.TrimSpace(string(content))
	switch {
	case text == "":
		return "", errors.New("the file is empty")
	case !tokenSyntax.MatchString(text):
		return "", errors.New("the file has characters that a bearer token cannot have: it must contain the token " +
			"alone")
	}
	return text, nil
}

// Authorities returns the certificates of CAFile, or nil for the system's.
func (o *OAuth) Authorities() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil //nolint:nilnil // Nil is the system's.
	}
	pem, err := reload.ReadRegular(o.CAFile)
	if err != nil {
		return nil, errors.New("cannot be read: " + explainFile(err))
	}
	return ParseAuthorities(pem)
}

// Pair returns the name and the value of an element of Parameters or Extensions.
func Pair(text string) (name, value string) {
	name, value, _ = strings.Cut(text, "=")
	return name, value
}

// checkSASL also reads the files, because an error there is an error of the configuration.
func (l *loader) checkSASL(k *Kafka) {
	const key = "kafka.sasl.mechanism"
	s := &k.SASL
	given := s.Mechanism
	s.Mechanism = strings.ReplaceAll(strings.ToLower(s.Mechanism), "_", "-") // Java's clients write AWS_MSK_IAM.
	switch s.Mechanism {
	case "":
		if len(l.given("kafka.sasl.")) > 0 {
			l.complain(key, "", "missing, although kafka.sasl has a user name or other options", mechanismsAccepted)
		}
		return
	case MechanismPlain, MechanismSCRAM256, MechanismSCRAM512:
		l.checkPassword(s)
		l.withoutEffect(s.Mechanism, "kafka.sasl.oauth.", "kafka.sasl.aws.")
	case MechanismOAuth:
		l.checkOAuth(&s.OAuth)
		l.withoutEffect(s.Mechanism, "kafka.sasl.username", "kafka.sasl.password", "kafka.sasl.aws.")
	case MechanismMSKIAM:
		if r := s.AWS.Region; r != "" && !region.MatchString(r) {
			l.complain("kafka.sasl.aws.region", r, "not the name of a region", "write such as eu-central-1")
		}
		l.withoutEffect(s.Mechanism, "kafka.sasl.username", "kafka.sasl.password", "kafka.sasl.oauth.")
		if !k.TLS.Enabled && !l.bad["kafka.tls.enabled"] {
			l.complain(key, s.Mechanism, "needs TLS, without which no MSK broker takes it",
				"set kafka.tls.enabled to true")
		}
	default:
		l.complain(key, given, "not a mechanism that wsd supports", mechanismsAccepted)
		return
	}
	secret := map[string]string{MechanismPlain: "the password", MechanismOAuth: "the token"}[s.Mechanism]
	if secret != "" && !k.TLS.Enabled && slices.ContainsFunc(k.Brokers, remote) {
		l.warn("kafka.tls.enabled", "false", secret+" is sent to brokers on other machines without encryption",
			"set kafka.tls.enabled to true, if the brokers have a port for SASL with TLS")
	}
}

var region = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)

// remote reports whether a broker is not on this machine, by its address.
func remote(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip, notIP := netip.ParseAddr(host)
	return err == nil && host != "localhost" && (notIP != nil || !ip.IsLoopback())
}

// given returns the options that begin with prefix and have a value.
func (l *loader) given(prefix string) (keys []string) {
	for _, key := range l.keys {
		if strings.HasPrefix(key, prefix) && l.loaded.written(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// withoutEffect complains about given options that belong to another mechanism.
func (l *loader) withoutEffect(mechanism string, prefixes ...string) {
	for _, prefix := range prefixes {
		for _, key := range l.given(prefix) {
			l.complain(key, strings.Join(l.loaded.given[key].texts, ","), fmt.Sprintf("has no effect, because "+
				"kafka.sasl.mechanism is %s", mechanism), "remove it, or set another mechanism")
		}
	}
}

func (l *loader) checkPassword(s *SASL) {
	if s.Username == "" {
		l.complain("kafka.sasl.username", "", "missing, and kafka.sasl.mechanism needs it", "")
	}
	l.secret("kafka.sasl.password", &s.Password, s.PasswordFile, "kafka.sasl.mechanism")
}

// secret checks a secret that is given by the option key or by a file, which it reads. by is the option that needs it.
func (l *loader) secret(key string, value *Secret, file, by string) {
	fileKey := key + "_file"
	switch {
	case *value != "" && file != "":
		l.complain(fileKey, file, key+" is set as well", "remove one of them")
	case file != "":
		content, err := reload.Read(file)
		if err != nil {
			l.complain(fileKey, file, "cannot be read: "+explainFile(err), "")
			return
		}
		text, err := ParseSecret(content)
		if err != nil {
			l.complain(fileKey, file, err.Error(), "")
		}
		*value = Secret(text)
	case *value == "":
		l.complain(key, "", "missing, and "+by+" needs it", "set "+fileKey)
	}
}

func (l *loader) checkOAuth(o *OAuth) {
	const fileKey, urlKey, section = "kafka.sasl.oauth.token_file", "kafka.sasl.oauth.token_url", "kafka.sasl.oauth."
	l.pairs(section+"extensions", o.Extensions, extensionFault)
	switch {
	case o.TokenFile != "" && o.TokenURL != "":
		l.complain(fileKey, o.TokenFile, urlKey+" is set as well", "remove one of them")
		return
	case o.TokenFile == "" && o.TokenURL == "":
		l.complain(fileKey, "", "missing, and kafka.sasl.mechanism needs it or "+urlKey, "set one of them")
		return
	case o.TokenFile != "":
		for _, name := range []string{"client_id", "client_secret", "client_secret_file", "scopes", "parameters",
			"ca_file"} {
			if l.loaded.written(section + name) {
				l.complain(section+name, strings.Join(l.loaded.given[section+name].texts, ","),
					"has no effect without "+urlKey, "remove it, or set that instead of token_file")
			}
		}
		content, err := reload.ReadRegular(o.TokenFile)
		if err != nil {
			l.complain(fileKey, o.TokenFile, "cannot be read: "+explainFile(err), "")
		} else if _, err := ParseToken(content); err != nil {
			l.complain(fileKey, o.TokenFile, err.Error(), "")
		}
		return
	}
	u, err := url.Parse(o.TokenURL)
	switch {
	case strings.Contains(o.TokenURL, "@"): // The value may contain a password.
		l.complain(urlKey, "", "contains a user name",
			"remove it, and set kafka.sasl.oauth.client_id and client_secret_file")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		l.complain(urlKey, o.TokenURL, "not a URL", "write such as https://login.example.com/oauth2/token")
	case u.Scheme == "http" && u.Hostname() != "localhost" && remote(net.JoinHostPort(u.Hostname(), "0")):
		l.warn(urlKey, o.TokenURL, "the client secret is sent to another machine without encryption", "use https")
	}
	if o.ClientID == "" {
		l.complain(section+"client_id", "", "missing, and "+urlKey+" needs it", "")
	}
	l.secret(section+"client_secret", &o.ClientSecret, o.ClientSecretFile, urlKey)
	for _, scope := range o.Scopes {
		if !scopeSyntax.MatchString(scope) {
			l.complain(section+"scopes", scope, "not a scope", "list the scopes one by one, without spaces and quotes")
		}
	}
	l.pairs(section+"parameters", o.Parameters, func(name, _ string) string {
		if slices.Contains([]string{"grant_type", "scope", "client_id", "client_secret"}, name) {
			return "wsd itself sets " + name
		}
		return ""
	})
	if _, err := o.Authorities(); err != nil {
		l.complain(section+"ca_file", o.CAFile, err.Error(), "")
	}
}

// scopeSyntax is the syntax of a scope (RFC 6749, appendix A.4).
var scopeSyntax = regexp.MustCompile(`^[!#-\[\]-~]+$`)

// pairs checks a list of NAME=VALUE. fault returns what is wrong with a pair, or "".
func (l *loader) pairs(key string, list []string, fault func(name, value string) string) {
	seen := make(map[string]bool)
	for _, text := range list {
		name, value := Pair(text)
		problem := fault(name, value)
		switch {
		case name == "" || !strings.Contains(text, "="):
			problem = "not NAME=VALUE"
		case seen[name]:
			problem = name + " is listed twice"
		}
		if problem != "" {
			l.complain(key, text, problem, "")
		}
		seen[name] = true
	}
}

var (
	extensionName  = regexp.MustCompile(`^[A-Za-z]+$`)
	extensionValue = regexp.MustCompile(`^[ -~\t\r\n]+$`)
)

// extensionFault returns what is wrong with a SASL extension, by the rules of KIP-342 and RFC 7628.
func extensionFault(name, value string) string {
	switch {
	case name == "auth":
		return "auth is the token itself"
	case !extensionName.MatchString(name):
		return "the name of an extension has only the letters a-z and A-Z"
	case !extensionValue.MatchString(value):
		return "the value of an extension has at least one character, and only those of ASCII"
	}
	return ""
}
