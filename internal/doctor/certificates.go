package doctor

import (
	"cmp"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Pair is a certificate of client.tls.certificates and its key, as the names of their files, which may be the same.
type Pair struct{ Certificate, Key string }

const (
	expirySoon = 7 * 24 * time.Hour // As /health has it.
	rsaBitsMin = 2048               // Clients refuse shorter keys.
)

// certificates checks each pair: whether it can be used, when it expires, whom it names, and who may read its key.
func (in *inspector) certificates() (list []Result) {
	for _, pair := range in.Pairs {
		r := in.certificate(pair, time.Now())
		if r.Status == OK {
			r.Remedy, r.Fix = "", nil
		}
		list = append(list, r)
	}
	if in.TicketKeys != "" {
		r := Result{Check: "ticket keys", Found: in.TicketKeys, Wanted: "a file that only wsd's user can read"}
		in.private(&r, in.TicketKeys)
		list = append(list, r)
	}
	return list
}

func (in *inspector) certificate(pair Pair, now time.Time) Result {
	r := Result{Check: "certificate", Found: pair.Certificate,
		Wanted: "valid for more than 7 days, with names, and a key that only wsd's user can read"}
	var texts [2][]byte
	for i, path := range []string{pair.Certificate, pair.Key} {
		var err error
		if texts[i], err = os.ReadFile(in.under(path)); err != nil {
			r.fail(unreadable(err), "let wsd's user read "+path)
			return r
		}
	}
	both, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		r.fail(err.Error(), "client.tls.certificates needs CERT_FILE=KEY_FILE in PEM form, the certificate first, "+
			"with its own key")
		return r
	}
	leaf := both.Leaf
	names := strings.Join(leaf.DNSNames, ", ")
	for _, ip := range leaf.IPAddresses {
		names = strings.TrimPrefix(names+", "+ip.String(), ", ")
	}
	r.Check = "certificate for " + cmp.Or(names, "no name")
	r.Found = fmt.Sprintf("%s, valid until %s", pair.Certificate, leaf.NotAfter.UTC().Format(time.DateTime))
	switch key, _ := leaf.PublicKey.(*rsa.PublicKey); {
	case now.After(leaf.NotAfter):
		r.fail("expired", "renew it: clients refuse to connect")
	case now.Before(leaf.NotBefore):
		r.fail("not valid before "+leaf.NotBefore.UTC().Format(time.DateTime), "set the clock, or wait")
	case key != nil && key.N.BitLen() < rsaBitsMin:
		r.fail(fmt.Sprintf("an RSA key of %d bits", key.N.BitLen()), "take an ECDSA key on P-256, or one of 2,048 bits")
	case names == "":
		r.fail("it names no host", "take one with the names of this server as subject alternative names: clients do "+
			"not look at the common name")
	case leaf.NotAfter.Sub(now) < expirySoon:
		r.warn("expires soon", "renew it; wsd looks at the files every ten seconds")
	case selfSigned(leaf):
		r.warn("signed by itself", "clients connect only if they are told to trust it")
	}
	if r.Status != Fail {
		in.private(&r, pair.Key)
	}
	return r
}

// selfSigned reports whether a certificate is signed by its own key, also one that may not sign others.
func selfSigned(c *x509.Certificate) bool {
	return c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// private adds what is wrong with the permissions of a secret file.
func (in *inspector) private(r *Result, path string) {
	info, err := os.Stat(in.under(path))
	if err != nil {
		r.fail(unreadable(err), "let wsd's user read "+path)
		return
	}
	// A group may be meant, such as that of a tool that renews certificates.
	if mode := info.Mode().Perm(); mode&0o007 != 0 || mode&0o020 != 0 {
		r.warn(fmt.Sprintf("%s has the mode %04o", path, uint32(mode&fs.ModePerm)),
			"chmod 600 "+path+", or 640 for a group")
	}
}

func (r *Result) fail(found, remedy string) { r.worse(Fail, found, remedy) }
func (r *Result) warn(found, remedy string) { r.worse(Warn, found, remedy) }

// worse adds a finding. What is worse than before comes with its remedy first.
func (r *Result) worse(s Status, found, remedy string) {
	r.Found += ": " + found
	r.Remedy = strings.TrimPrefix(r.Remedy+"; "+remedy, "; ")
	r.Status = max(r.Status, s)
}
