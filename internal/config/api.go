package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"wsd/internal/apikey"
	"wsd/internal/reload"
	"wsd/internal/route"
)

// API is the server API (docs/api.md).
type API struct {
	Keys           []Secret      `key:"keys" secret:"true" help:"Keys of the server API, as KEY [methods=METHOD|…] [channels=PATTERN|…]; without the latter two a key allows everything. PATTERN is a channel or a prefix followed by *. Prefer keys_file, which does not show in ps. Without a key there is no server API."`
	KeysFile       string        `key:"keys_file" help:"File that contains keys in the same form, one a line, besides those of keys. It is read again when it changes."`
	Listen         string        `key:"listen" help:"Address that serves the server API, as HOST:PORT. Default: the admin port serves it, at /api."`
	TLS            APITLS        `key:"tls"`
	BodyMax        Bytes         `key:"body_max" def:"1MiB" help:"Largest body of a request, 1KiB to 64MiB. A larger one gets status 413."`
	Timeout        time.Duration `key:"timeout" def:"10s" help:"How long a request may take, 100ms to 1m. After that its response says so."`
	ConnectionsMax int           `key:"connections_max" def:"1024" help:"Maximum open connections to api.listen, 32 to 65536. A further one takes the place of one that is idle."`
	ChannelsMax    int           `key:"channels_max" def:"10000" help:"Maximum channels in a response to the method channels, 1 to 100000. If more match, the request gets error 106."`
}

// APITLS is TLS on api.listen.
type APITLS struct {
	Certificates []string `key:"certificates" help:"Certificates for api.listen, in the form of client.tls.certificates. Then it speaks TLS. They are read again when they change."`
}

// Commands is the topic by which commands of the server API reach other machines.
type Commands struct {
	Topic   string        `key:"topic" help:"Topic by which disconnect, subscribe, unsubscribe and refresh reach clients of all machines; every wsd of a cluster needs the same one, and wsd topics create makes it. Default: none, and commands reach clients of the machine that gets them."`
	AgeMax  time.Duration `key:"age_max" def:"2m" help:"Commands that are older than this when they are read, after an outage of Kafka for example, are dropped, 1s to 24h."`
	Timeout time.Duration `key:"timeout" def:"5s" help:"How long Kafka may take to acknowledge a command, 100ms to 1m. After that the request gets error 100; the command may be carried out later."`
}

// On reports whether there is a server API.
func (a *API) On() bool { return len(a.Keys) > 0 || a.KeysFile != "" }

// Files returns the files that Parse needs.
func (a *API) Files() []string {
	if a.KeysFile == "" {
		return nil
	}
	return []string{a.KeysFile}
}

// Parse returns the keys of the options, and of the contents of Files.
func (a *API) Parse(contents [][]byte) ([]apikey.Key, error) {
	var texts []string
	for _, key := range a.Keys {
		texts = append(texts, string(key))
	}
	for _, content := range contents {
		if _, err := apikey.ParseFile(content); err != nil {
			return nil, err
		}
		texts = append(texts, strings.Split(string(content), "\n")...)
	}
	return apikey.Parse(texts)
}

// certificates returns what reads the certificates.
func (a *API) certificates() *ClientTLS { return &ClientTLS{Certificates: a.TLS.Certificates} }

// CertificateFiles returns the files that ParseCertificates needs.
func (a *API) CertificateFiles() []string { return a.certificates().Files() }

// ParseCertificates returns the certificates that the contents of CertificateFiles are.
func (a *API) ParseCertificates(contents [][]byte) ([]tls.Certificate, error) {
	k, _, value, err := a.certificates().parse(contents)
	if err != nil {
		return nil, fmt.Errorf("api.tls.certificates %s: %w", value, err)
	}
	return k.Certificates, nil
}

func (l *loader) checkAPI(c *Config) {
	a := &c.API
	number(l, "api.body_max", a.BodyMax, 1<<10, 64<<20)
	number(l, "api.timeout", a.Timeout, 100*time.Millisecond, time.Minute)
	number(l, "api.connections_max", a.ConnectionsMax, 32, 65536)
	number(l, "api.channels_max", a.ChannelsMax, 1, 100_000)
	if a.Listen != "" {
		l.address("api.listen", a.Listen, true)
	}
	if !a.On() {
		for _, key := range l.given("api.") {
			if l.options[key].Default == "" {
				l.complain(key, strings.Join(l.loaded.given[key].texts, ","), "has no effect, because there is no key",
					"set api.keys_file, or remove it")
			}
		}
		return
	}
	if c.Admin.Listen == "" && a.Listen == "" {
		l.complain("api.listen", "", "empty, and there is no admin port", "set an address, such as 127.0.0.1:9001")
	}
	l.checkAPIKeys(a)
	if len(a.TLS.Certificates) == 0 {
		if remote(a.Listen) {
			l.warn("api.listen", a.Listen, "without TLS, whoever is on the way can read the keys",
				"set api.tls.certificates")
		}
		return
	}
	if a.Listen == "" {
		l.complain("api.tls.certificates", strings.Join(a.TLS.Certificates, ","), "has no effect, because api.listen "+
			"is empty", "set it, or remove this")
		return
	}
	if _, _, value, err := a.certificates().read(); err != nil {
		l.complain("api.tls.certificates", value, err.Error(), "")
	}
}

func (l *loader) checkAPIKeys(a *API) {
	if _, err := (&API{Keys: a.Keys}).Parse(nil); err != nil {
		l.complain("api.keys", "", err.Error(), "write KEY [methods=METHOD|…] [channels=PATTERN|…]")
		return
	}
	var contents [][]byte
	for _, file := range a.Files() {
		content, err := reload.ReadRegular(file)
		if err != nil {
			l.complain("api.keys_file", file, "cannot be read: "+explainFile(err), "")
			return
		}
		contents = append(contents, content)
	}
	keys, err := a.Parse(contents)
	switch {
	case err != nil:
		l.complain("api.keys_file", a.KeysFile, err.Error(), "write one key a line, with its limits")
	case len(keys) == 0:
		l.complain("api.keys", "", "has no key", "make one by openssl rand -hex 32")
	}
	for i := range keys {
		if !keys[i].Short() {
			continue
		}
		option, file, n := "api.keys", "", i+1
		if i >= len(a.Keys) {
			option, file, n = "api.keys_file", a.KeysFile, i+1-len(a.Keys)
		}
		l.warn(option, file, fmt.Sprintf("key %d has fewer than %d bytes and can be guessed", n, apikey.BytesLeast),
			"make one by openssl rand -hex 32")
	}
}

func (l *loader) checkCommands(c *Config) {
	o := &c.Commands
	number(l, "commands.age_max", o.AgeMax, time.Second, 24*time.Hour)
	number(l, "commands.timeout", o.Timeout, 100*time.Millisecond, time.Minute)
	if o.Topic == "" {
		return
	}
	if err := checkCommandsTopic(o.Topic, c.Kafka.Topics); err != nil {
		l.complain("commands.topic", o.Topic, err.Error(), "use a name such as wsd.commands")
	}
}

func checkCommandsTopic(topic string, read []string) error {
	if !topicName.MatchString(topic) || topic == "." || topic == ".." {
		return errors.New("not the name of a topic")
	}
	for _, other := range read {
		if found, err := route.ParseTopic(other); err == nil && found.FindsTopic(topic) {
			return fmt.Errorf("found by %q in kafka.topics, which would deliver commands to clients, and take "+
				"commands from clients that may publish there", other)
		}
	}
	return nil
}
