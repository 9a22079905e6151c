package config

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"wsd/internal/reload"
)

// Proxy is the application's backend, which is asked in the form of Centrifugo's HTTP proxy (docs/backend.md).
type Proxy struct {
	ConnectEndpoint    Address       `key:"connect_endpoint" help:"HTTP address that is asked who a client is that sends no token. Needs auth.mode proxy, or token. Default: none."`
	RefreshEndpoint    Address       `key:"refresh_endpoint" help:"HTTP address that is asked whether a connection may go on when it expires, so that clients need not refresh it. While there is no answer it goes on for a minute at a time. Default: none."`
	SubscribeEndpoint  Address       `key:"subscribe_endpoint" help:"HTTP address that is asked whether a client may subscribe to a channel that a rule of auth.rules gives to proxy. Default: none."`
	SubRefreshEndpoint Address       `key:"sub_refresh_endpoint" help:"The same as refresh_endpoint for subscriptions that expire. Default: none."`
	Timeout            time.Duration `key:"timeout" def:"1s" help:"Time from a client's command to the end of the backend's answer, 10ms to 30s. Beyond it the client gets error 100, which is temporary."`
	Concurrency        int           `key:"concurrency" def:"64" help:"Maximum calls of one kind (connect, refresh, subscribe, sub_refresh, rpc, send) under way at the same time, each over its own connection, 1 to 4096. Clients leave as many open files."`
	WaitingMax         int           `key:"waiting_max" def:"10000" help:"Maximum calls of one kind that wait for others to end. Further ones get error 100."`
	BytesMax           Bytes         `key:"bytes_max" def:"64MiB" help:"Maximum bytes of the requests and answers of all calls, at least 1MiB; calls of one kind have at most half of it, so that others have room. Beyond it, calls get error 100."`
	AnswerBytesMax     Bytes         `key:"answer_bytes_max" def:"1MiB" help:"Largest answer, 1KiB to 64MiB."`
	ClientCallsMax     int           `key:"client_calls_max" def:"16" help:"Maximum calls of one client under way, 1 to 1000. What it sends beyond that waits until one has ended."`
	Headers            []string      `key:"headers" help:"Header fields of clients' upgrade requests that the backend gets, such as Cookie or X-Real-Ip. A client can send anything in them, unless a proxy in front of wsd sets them. Default: none."`
	EmulatedHeaders    []string      `key:"emulated_headers" help:"Header fields that the backend gets from the connect command of clients that cannot send them, such as browsers (headers of the SDKs). All calls of the connection have them. Default: none."`
	StaticHeaders      []Secret      `key:"static_headers" secret:"true" help:"Header fields of every request to the backend, as NAME=VALUE, such as a key by which it knows wsd. Default: none."`
	BinaryEncoding     bool          `key:"binary_encoding" def:"false" help:"Send the data of clients in base64 (b64data), so that they may be any bytes. Otherwise they must be JSON, and clients that send others get error 107."`
	IncludeMeta        bool          `key:"include_meta" def:"false" help:"Send with each call the meta that the connect endpoint, or the client's token, gave."`
	CAFile             string        `key:"ca_file" help:"PEM file with the authorities that may sign the backend's certificate. New connections use the file as it is then. Default: the system's."`
}

// RPC is where methods are that clients call.
type RPC struct {
	Endpoint []Address `key:"endpoint" help:"Where calls of the rpc command go, as PATTERN=URL; the first rule whose pattern matches the method decides, and a method that none matches gets error 104. PATTERN is a method, or a prefix followed by *. Default: none, and rpc gets error 108."`
}

// Send is where messages go that clients send by the send command.
type Send struct {
	Endpoint Address `key:"endpoint" help:"HTTP address that gets what clients send by the send command, as a call without a method. Default: none."`
	Topic    string  `key:"topic" help:"Kafka topic that gets it instead, one record a message, keyed by the client's id. Limits are those of publish. Default: none."`
}

// Endpoint is one of RPC.Endpoint.
type Endpoint struct{ Pattern, URL string }

// Endpoints returns the endpoints. Load has checked them.
func (r *RPC) Endpoints() (list []Endpoint) {
	for _, text := range r.Endpoint {
		e, _ := parseEndpoint(string(text))
		list = append(list, e)
	}
	return list
}

// parseEndpoint reads PATTERN=URL. Both may contain a =: the first one that a scheme follows separates them.
func parseEndpoint(text string) (e Endpoint, ok bool) {
	i := endpointURL.FindStringIndex(text)
	if i == nil {
		return e, false
	}
	return Endpoint{Pattern: text[:i[0]], URL: text[i[0]+1:]}, i[0] > 0
}

var endpointURL = regexp.MustCompile("=https?://")

// Static returns StaticHeaders as names and values. Load has checked them.
func (p *Proxy) Static() (fields [][2]string) {
	for _, text := range p.StaticHeaders {
		name, value, _ := strings.Cut(string(text), "=")
		fields = append(fields, [2]string{name, value})
	}
	return fields
}

// Calls reports whether there is anything that calls the backend.
func (c *Config) Calls() bool {
	p := &c.Proxy
	return p.ConnectEndpoint != "" || p.RefreshEndpoint != "" || p.SubscribeEndpoint != "" ||
		p.SubRefreshEndpoint != "" || len(c.RPC.Endpoint) > 0 || c.Send.Endpoint != "" || c.Send.Topic != ""
}

func (l *loader) checkProxy(c *Config) {
	p := &c.Proxy
	number(l, "proxy.timeout", p.Timeout, 10*time.Millisecond, 30*time.Second)
	number(l, "proxy.concurrency", p.Concurrency, 1, 4096)
	number(l, "proxy.waiting_max", p.WaitingMax, 0, 1_000_000)
	number(l, "proxy.bytes_max", p.BytesMax, 1<<20, 1<<40)
	number(l, "proxy.answer_bytes_max", p.AnswerBytesMax, 1<<10, 64<<20)
	number(l, "proxy.client_calls_max", p.ClientCallsMax, 1, 1000)
	if p.AnswerBytesMax > p.BytesMax/2 {
		l.warn("proxy.answer_bytes_max", p.AnswerBytesMax.String(), fmt.Sprintf("larger than half of "+
			"proxy.bytes_max (%v), which calls of one kind may have, so that large answers are dropped", p.BytesMax),
			"raise proxy.bytes_max, or lower it")
	}
	asksIdentity := map[string]Address{
		"proxy.connect_endpoint": p.ConnectEndpoint, "proxy.refresh_endpoint": p.RefreshEndpoint,
		"proxy.subscribe_endpoint": p.SubscribeEndpoint, "proxy.sub_refresh_endpoint": p.SubRefreshEndpoint,
	}
	for _, key := range []string{
		"proxy.connect_endpoint", "proxy.refresh_endpoint", "proxy.subscribe_endpoint", "proxy.sub_refresh_endpoint",
	} {
		if address := asksIdentity[key]; address != "" {
			l.checkEndpoint(key, address.String(), string(address))
			if c.Auth.Mode == AuthNone {
				l.complain(key, address.String(), "has no effect, because auth.mode is none",
					"set auth.mode to proxy, or to token")
			}
		}
	}
	switch {
	case c.Send.Endpoint != "" && c.Send.Topic != "":
		l.complain("send.topic", c.Send.Topic, "send.endpoint is set as well", "remove one of them")
	case c.Send.Topic != "" && !topicName.MatchString(c.Send.Topic):
		l.complain("send.topic", c.Send.Topic, "not the name of a topic", "")
	case c.Send.Topic != "" && c.Send.Topic == c.Commands.Topic:
		l.complain("send.topic", c.Send.Topic, "it is commands.topic, so that clients could send commands",
			"name another one")
	case c.Send.Topic != "" && c.Kafka.reads(c.Send.Topic):
		l.complain("send.topic", c.Send.Topic, "wsd reads it (kafka.topics), so that what a client sends would go to "+
			"channels without publish.rules being asked", "set it to another topic")
	}
	if c.Send.Endpoint != "" {
		l.checkEndpoint("send.endpoint", c.Send.Endpoint.String(), string(c.Send.Endpoint))
	}
	var earlier []Endpoint
	for _, text := range c.RPC.Endpoint {
		e, ok := parseEndpoint(string(text))
		covered := slices.ContainsFunc(earlier, func(other Endpoint) bool { return covers(other.Pattern, e.Pattern) })
		switch {
		case !ok || strings.Contains(strings.TrimSuffix(e.Pattern, "*"), "*"):
			l.complain("rpc.endpoint", text.String(), "not PATTERN=URL, where PATTERN is a method, or a prefix "+
				"followed by *", "write such as orders.*=http://127.0.0.1:3000/rpc")
		case covered:
			l.complain("rpc.endpoint", e.Pattern, "has no effect after a pattern that matches all of its methods",
				"move it before that, or remove it")
		default:
			l.checkEndpoint("rpc.endpoint", text.String(), e.URL)
		}
		earlier = append(earlier, e)
	}
	for key, names := range map[string][]string{
		"proxy.headers": p.Headers, "proxy.emulated_headers": p.EmulatedHeaders,
	} {
		for _, name := range names {
			if !fieldName(name) {
				l.complain(key, name, "not the name of a header field that can be passed on", "")
			}
		}
	}
	for _, text := range p.StaticHeaders {
		name, value, ok := strings.Cut(string(text), "=")
		if !ok || !fieldName(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			l.complain("proxy.static_headers", "", "not NAME=VALUE, where NAME is a header field", "")
		}
	}
	l.compareHeaders(p)
	if p.CAFile != "" {
		pem, err := reload.ReadRegular(p.CAFile)
		if err != nil {
			l.complain("proxy.ca_file", p.CAFile, "cannot be read: "+explainFile(err), "")
		} else if _, err := ParseAuthorities(pem); err != nil {
			l.complain("proxy.ca_file", p.CAFile, err.Error(), "")
		}
	}
	if c.Auth.On() && len(l.faults) == 0 {
		l.checkProxyRules(c)
	}
}

// reads reports whether a topic is one of Topics.
func (k *Kafka) reads(topic string) bool {
	return slices.ContainsFunc(k.Topics, func(t string) bool {
		expression, isPattern := strings.CutPrefix(t, "re:")
		if !isPattern {
			return t == topic
		}
		matched, err := regexp.MatchString("^(?:"+expression+")$", topic)
		return err == nil && matched
	})
}

// checkProxyRules compares auth.rules with the endpoint that is asked about channels.
func (l *loader) checkProxyRules(c *Config) {
	parsed, err := c.Auth.ChannelRules()
	switch {
	case err != nil:
	case parsed.NeedProxy() && c.Proxy.SubscribeEndpoint == "":
		l.complain("auth.rules", strings.Join(c.Auth.Rules, ","), "a rule gives channels to proxy, and "+
			"proxy.subscribe_endpoint is not set", "set it")
	case !parsed.NeedProxy() && c.Proxy.SubscribeEndpoint != "":
		l.warn("proxy.subscribe_endpoint", c.Proxy.SubscribeEndpoint.String(), "no rule asks it",
			"add a rule to auth.rules, such as chat.*=proxy")
	}
}

// compareHeaders warns of fields by which the backend knows wsd, and which clients may replace.
func (l *loader) compareHeaders(p *Proxy) {
	warn := func(key string, names []string, static string) {
		isIt := func(name string) bool { return strings.EqualFold(name, static) }
		if i := slices.IndexFunc(names, isIt); i >= 0 {
			l.warn(key, names[i], "it is in proxy.static_headers, too, whose value a client that sends the field "+
				"replaces", "remove it from one of them")
		}
	}
	for _, field := range p.Static() {
		warn("proxy.headers", p.Headers, field[0])
		warn("proxy.emulated_headers", p.EmulatedHeaders, field[0])
	}
}

// checkEndpoint checks an address of the backend. shown is the option's value without what may be a secret.
func (l *loader) checkEndpoint(key, shown, address string) {
	u, err := url.Parse(address)
	switch {
	case strings.Contains(address, "@") && (err != nil || u.User != nil || u.Host == ""): // There may be a password.
		l.complain(key, "", "contains a user name", "set proxy.static_headers to Authorization=… instead")
	case err != nil || u.Host == "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		l.complain(key, shown, "not an HTTP URL", "write such as http://127.0.0.1:3000/centrifugo/connect")
	}
}

// covers reports whether every method that fits other fits pattern as well.
func covers(pattern, other string) bool {
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	if !isPrefix {
		return pattern == other
	}
	return strings.HasPrefix(other, prefix)
}

// fieldName reports whether a header field of that name may be passed on: it is a token (RFC 9110 §5.1), and not one
// that says how the request itself or its answer is sent. net/http sends a request with an idempotency key twice.
func fieldName(name string) bool {
	const others = "!#$%&'*+-.^_`|~"
	for _, c := range []byte(name) {
		isLetter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !isLetter && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return name != "" && !slices.Contains([]string{
		"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host",
		"Idempotency-Key", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"X-Idempotency-Key",
	}, http.CanonicalHeaderKey(name))
}

// proxied checks auth.mode proxy.
func (l *loader) proxied(c *Config) {
	a := &c.Auth
	if a.Mode != AuthProxy {
		return
	}
	if c.Proxy.ConnectEndpoint == "" {
		l.complain("auth.mode", a.Mode, "needs proxy.connect_endpoint", "set it to an address of the backend")
	}
	if a.Keys.Given() {
		l.complain("auth.mode", a.Mode, "verifies no connection tokens, but there is a key for them",
			fmt.Sprintf("set auth.mode to %s: with proxy.connect_endpoint the backend is asked about clients without "+
				"a token", AuthToken))
	}
}
