package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"wsd/internal/reload"
)

// AdminAccess is who may use the admin port, and how.
type AdminAccess struct {
	Hosts     []string `key:"hosts" help:"Host names under which the demo page and what belongs to it may be reached, beside localhost and IP addresses. Requests for others are refused, as a page elsewhere could let its own name lead here (DNS rebinding)."`
	Token     Secret   `key:"token" secret:"true" help:"Token of at least 16 characters that everything but /health, /ready and /metrics then needs, as Authorization: Bearer TOKEN or as the password of a browser, with any user name. Prefer token_file, which does not show in ps."`
	TokenFile string   `key:"token_file" help:"File that contains the token. It is read again when it changes. Without a token, everything else is served on loopback only."`
	TLS       AdminTLS `key:"tls"`
}

// AdminTLS is TLS on the admin port.
type AdminTLS struct {
	CertFile string `key:"cert_file" help:"PEM file with the certificate of the admin port, which then speaks TLS only (https://). Needs key_file. Both files are read again when they change."`
	KeyFile  string `key:"key_file" help:"PEM file with the key of that certificate."`
}

// AdminSecrets are the token and the certificate of the admin port.
type AdminSecrets struct {
	Token       string           // Empty: none.
	Certificate *tls.Certificate // Nil: the port does not speak TLS.
}

// Files returns the files that Parse needs.
func (a *AdminAccess) Files() (files []string) {
	for _, f := range []string{a.TokenFile, a.TLS.CertFile, a.TLS.KeyFile} {
		if f != "" {
			files = append(files, f)
		}
	}
	return files
}

// adminTokenMin is the length of the shortest token, in bytes.
const adminTokenMin = 16

// Parse returns what the contents of Files, and the token that is given as an option, are.
func (a *AdminAccess) Parse(contents [][]byte) (*AdminSecrets, error) {
	s := &AdminSecrets{Token: string(a.Token)}
	if a.TokenFile != "" {
		token, err := ParseToken(contents[0])
		if err != nil {
			return nil, fmt.Errorf("admin.token_file: %w", err)
		}
		s.Token, contents = token, contents[1:]
		if err := checkAdminToken(token); err != nil {
			return nil, fmt.Errorf("admin.token_file: %w", err)
		}
	}
	if a.TLS.CertFile != "" {
		cert, err := tls.X509KeyPair(contents[0], contents[1])
		if err != nil {
			return nil, fmt.Errorf("admin.tls: certificate and key cannot be used: %w", err)
		}
		s.Certificate = &cert
	}
	return s, nil
}

// Read reads the files. Load has read them before, so an error means that they have changed since.
func (a *AdminAccess) Read() (*AdminSecrets, error) {
	var contents [][]byte
	for _, path := range a.Files() {
		content, err := reload.Read(path)
		if err != nil {
			return nil, err
		}
		contents = append(contents, content)
	}
	return a.Parse(contents)
}

func checkAdminToken(token string) error {
	switch {
	case len(token) < adminTokenMin:
		return fmt.Errorf("the token has %d characters; at least %d are needed", len(token), adminTokenMin)
	case !tokenSyntax.MatchString(token):
		return errors.New("the token has characters that a bearer token cannot have")
	}
	return nil
}

var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)

func (l *loader) checkAdmin(a *Admin) {
	const makeOne = "make one by openssl rand -hex 32"
	l.unique("admin.hosts", a.Hosts)
	for _, host := range a.Hosts {
		if len(host) > 253 || !hostName.MatchString(strings.ToLower(host)) {
			l.complain("admin.hosts", host, "not a host name", "write a name without a port, such as wsd.example")
		}
	}
	if a.Listen == "" {
		for _, key := range l.given("admin.") {
			if key != "admin.listen" {
				l.complain(key, strings.Join(l.loaded.given[key].texts, ","), "has no effect, because admin.listen is "+
					"empty", "set it, or remove this")
			}
		}
		return
	}
	if a.Token != "" && a.TokenFile != "" {
		l.complain("admin.token", "", "admin.token_file is set as well", "remove one of them")
		return
	}
	if a.Token != "" {
		if err := checkAdminToken(string(a.Token)); err != nil {
			l.complain("admin.token", "", err.Error(), makeOne)
		}
	}
	if (a.TLS.CertFile == "") != (a.TLS.KeyFile == "") {
		l.complain("admin.tls.cert_file", a.TLS.CertFile, "cert_file and key_file belong together", "set both")
		return
	}
	for key, path := range map[string]string{
		"admin.token_file": a.TokenFile, "admin.tls.cert_file": a.TLS.CertFile, "admin.tls.key_file": a.TLS.KeyFile,
	} {
		if path == "" {
			continue
		}
		if _, err := reload.ReadRegular(path); err != nil {
			l.complain(key, path, "cannot be read: "+explainFile(err), "")
			return
		}
	}
	if _, err := a.Read(); err != nil {
		key, file, remedy := "admin.tls.cert_file", a.TLS.CertFile, "name a certificate and its key, both in PEM form"
		if strings.HasPrefix(err.Error(), "admin.token_file") {
			key, file, remedy = "admin.token_file", a.TokenFile, makeOne
		}
		_, what, _ := strings.Cut(err.Error(), ": ")
		l.complain(key, file, what, remedy)
	}
	if (a.Token != "" || a.TokenFile != "") && a.TLS.CertFile == "" && !onLoopback(a.Listen) {
		l.warn("admin.listen", a.Listen, "the token of the admin port can be read on the way, as the port does not "+
			"speak TLS", "set admin.tls.cert_file and key_file, or listen on loopback")
	}
}

// onLoopback reports whether an address to listen on is one that only this machine can reach.
func onLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
