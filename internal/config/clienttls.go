package config

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"wsd/internal/reload"
)

// ClientTLS is TLS on the client port.
type ClientTLS struct {
	Certificates  []string `key:"certificates" help:"Certificates for client.tls_listen, as CERT_FILE=KEY_FILE in PEM form, or the name of a file with both. A client gets the first one that fits the name it asks for, or else the first of all. New connections use the files as they are then."`
	TicketKeys    string   `key:"ticket_keys" help:"File with keys for session tickets, one a line, as 64 hexadecimal digits: openssl rand -hex 32. The first key seals new tickets; all of them open. To share sessions between machines, give all the same file; to rotate keys, add a new first line. Default: random keys, a new one every 12 hours."`
	HandshakesMax int      `key:"handshakes_max" def:"4096" help:"Maximum TLS handshakes that wait for their client, and also of those that wait for CPU time, 1 to 1000000. Each takes about 26 KB. Beyond it the one that has waited longest for its client ends."`
	Workers       int      `key:"workers" def:"0" help:"TLS handshakes that compute at the same time, at most 256. 0: half as many as the CPUs that wsd may use (GOMAXPROCS), at least one."`
}

// ClientKeys is what the files of ClientTLS contain.
type ClientKeys struct {
	Certificates []tls.Certificate // With their leaf parsed.
	TicketKeys   [][32]byte        // Empty without a file.
}

// Expires returns when the first of the certificates expires, and its name.
func (k *ClientKeys) Expires() (at time.Time, name string) {
	for i := range k.Certificates {
		if leaf := k.Certificates[i].Leaf; at.IsZero() || leaf.NotAfter.Before(at) {
			at = leaf.NotAfter
			name = cmp.Or(strings.Join(leaf.DNSNames, ", "), leaf.Subject.CommonName, leaf.SerialNumber.String())
		}
	}
	return at, name
}

// Addresses returns all addresses that clients connect to: those of listen, then those of tls_listen.
func (c *Client) Addresses() []string { return slices.Concat(c.Listen, c.TLSListen) }

// Files returns the files that Parse needs, each once.
func (t *ClientTLS) Files() (paths []string) {
	for _, pair := range t.Certificates {
		cert, key := certificateFiles(pair)
		paths = append(paths, cert, key)
	}
	if t.TicketKeys != "" {
		paths = append(paths, t.TicketKeys)
	}
	return paths
}

// certificateFiles returns the files of one of the certificates.
func certificateFiles(pair string) (cert, key string) {
	cert, key, found := strings.Cut(pair, "=")
	if !found {
		key = cert
	}
	return cert, key
}

// Read reads the files. Load has read them before, so an error means that they have changed since.
func (t *ClientTLS) Read() (*ClientKeys, error) {
	k, key, _, err := t.read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return k, nil
}

// Parse returns what the contents of Files are.
func (t *ClientTLS) Parse(contents [][]byte) (*ClientKeys, error) {
	k, key, value, err := t.parse(contents)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", key, value, err)
	}
	return k, nil
}

// read reads the files. With an error it also returns the key of the option that is wrong, and its value.
func (t *ClientTLS) read() (k *ClientKeys, key, value string, err error) {
	var contents [][]byte
	for i, path := range t.Files() {
		content, err := reload.ReadRegular(path)
		if err != nil {
			key = "client.tls.certificates"
			if i == 2*len(t.Certificates) {
				key = "client.tls.ticket_keys"
			}
			return nil, key, path, errors.New("cannot be read: " + explainFile(err))
		}
		contents = append(contents, content)
	}
	return t.parse(contents)
}

func (t *ClientTLS) parse(contents [][]byte) (k *ClientKeys, key, value string, err error) {
	k = new(ClientKeys)
	for _, pair := range t.Certificates {
		cert, err := tls.X509KeyPair(contents[0], contents[1])
		if err != nil {
			return nil, "client.tls.certificates", pair, fmt.Errorf("certificate and key cannot be used: %w", err)
		}
		k.Certificates = append(k.Certificates, cert)
		contents = contents[2:]
	}
	if t.TicketKeys != "" {
		if k.TicketKeys, err = parseTicketKeys(contents[0]); err != nil {
			return nil, "client.tls.ticket_keys", t.TicketKeys, err
		}
	}
	return k, "", "", nil
}

// ticketKeysMax is how many ticket keys a file may have. Each ticket is tried with all of them.
const ticketKeysMax = 16

// parseTicketKeys reads keys of 32 bytes, one a line, in hexadecimal or base64. Its errors do not contain any of it.
func parseTicketKeys(content []byte) (keys [][32]byte, err error) {
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		b, err := hex.DecodeString(text)
		if err != nil {
			b, err = base64.StdEncoding.DecodeString(text)
		}
		if err != nil || len(b) != 32 {
			return nil, fmt.Errorf("line %d is not a key of 32 bytes in hexadecimal: make one by openssl rand -hex 32",
				n)
		}
		if keys = append(keys, [32]byte(b)); len(keys) > ticketKeysMax {
			return nil, fmt.Errorf("has more than %d keys: remove the oldest ones", ticketKeysMax)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, errors.New("has a line that is too long for a key")
	}
	if len(keys) == 0 {
		return nil, errors.New("has no key: write one by openssl rand -hex 32")
	}
	return keys, nil
}

func (l *loader) checkClientTLS(c *Config) {
	t := &c.Client.TLS
	number(l, "client.tls.handshakes_max", t.HandshakesMax, 1, 1_000_000)
	number(l, "client.tls.workers", t.Workers, 0, 256)
	if len(c.Client.TLSListen) == 0 && !c.Dev.TLS {
		const remedy = "set client.tls_listen, such as :8443, or remove this"
		for _, pair := range t.Certificates {
			l.complain("client.tls.certificates", pair, "has no effect, because client.tls_listen is empty", remedy)
		}
		if t.TicketKeys != "" {
			l.complain("client.tls.ticket_keys", t.TicketKeys, "has no effect, because client.tls_listen is empty",
				remedy)
		}
		return
	}
	if len(t.Certificates) == 0 {
		if !c.Dev.TLS {
			l.complain("client.tls_listen", strings.Join(c.Client.TLSListen, ","), "needs client.tls.certificates",
				"name a certificate and its key as CERT_FILE=KEY_FILE")
		}
		return
	}
	k, key, value, err := t.read()
	if err != nil {
		l.complain(key, value, err.Error(), "")
		return
	}
	if at, name := k.Expires(); time.Now().After(at) {
		l.loaded.Warnings = append(l.loaded.Warnings, Fault{Key: "client.tls.certificates", Value: name,
			Origin: l.loaded.Origin("client.tls.certificates"), Problem: "has expired on " + at.Format(time.DateOnly),
			Remedy: "renew it: clients refuse to connect"})
	}
}
