package config

import (
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"wsd/internal/route"
)

// StartTime returns the time that Start names, if it is one.
func (k Kafka) StartTime() (t time.Time, isTime bool) {
	t, err := time.Parse(time.RFC3339, k.Start)
	return t, err == nil
}

// RequireTopics returns an *Error when there is nothing to read.
func (c *Config) RequireTopics() error {
	if len(c.Kafka.Topics) > 0 {
		return nil
	}
	return &Error{Faults: []Fault{{Key: "kafka.topics", Problem: "no topic is named", Remedy: "set --kafka.topics, WSD_KAFKA_TOPICS or the key in the file, or try `wsd dev`"}}}
}

// complain notes what is wrong with an option's value, unless it was not even understood.
func (l *loader) complain(key, value, problem, remedy string) {
	if l.bad[key] {
		return
	}
	if l.options[key].Secret {
		value = ""
	} else {
		value = cut(value)
	}
	l.fault(Fault{Key: key, Value: value, Origin: l.loaded.Origin(key), Problem: problem, Remedy: remedy})
}

// check looks at what was understood.
func (l *loader) check() {
	c := &l.loaded.Config
	l.checkRanges(c)
	l.checkAddresses(c)
	l.checkKafka(c)
	l.checkRoutes(c)
	l.checkSlowPolicies(c.Client.SlowPolicies)
	l.checkSteering(c)
	l.checkRecovery(c)
	l.checkChoices(c)
}

func number[T ~int | ~int64](l *loader, key string, value, least, most T) {
	if value < least || value > most {
		l.complain(key, fmt.Sprint(value), fmt.Sprintf("it must be from %v to %v", least, most), "")
	}
}

func (l *loader) checkRanges(c *Config) {
	const day = 24 * time.Hour
	cl, k, b := &c.Client, &c.Kafka, &c.Bus
	number(l, "client.kernel_send_buffer", cl.KernelSendBuffer, 0, 1<<30)
	number(l, "client.outbound_max", cl.OutboundMax, 64<<10, 1<<30)
	number(l, "client.message_max", cl.MessageMax, 1<<10, 16<<20)
	number(l, "client.head_max", cl.HeadMax, 1<<10, 64<<10)
	number(l, "client.handshake_timeout", cl.HandshakeTimeout, time.Millisecond, day)
	number(l, "client.stale_close_delay", cl.StaleCloseDelay, time.Millisecond, day)
	number(l, "client.frame_timeout", cl.FrameTimeout, time.Millisecond, day)
	number(l, "client.ping_interval", cl.PingInterval, time.Second, day)
	number(l, "client.pong_timeout", cl.PongTimeout, time.Millisecond, day)
	number(l, "client.channels_max", cl.ChannelsMax, 1, 1<<16)
	number(l, "client.channel_length_max", cl.ChannelLengthMax, 1, 255)
	number(l, "client.compression_threshold", cl.CompressionThreshold, 64, 1<<20)
	number(l, "client.compression_level", cl.CompressionLevel, 1, 9)
	number(l, "client.compression_workers", cl.CompressionWorkers, 0, 256)
	number(l, "shards", c.Shards, 0, 256)
	number(l, "kafka.fetch_max_wait", k.FetchMaxWait, time.Millisecond, time.Minute)
	number(l, "kafka.fetch_max_bytes", k.FetchMaxBytes, 1<<10, 1<<30)
	number(l, "kafka.max_record_bytes", k.MaxRecordBytes, 1<<10, 1<<30)
	number(l, "kafka.metadata_interval", k.MetadataInterval, 10*time.Millisecond, time.Hour)
	number(l, "kafka.topics_max", k.TopicsMax, 1, 10_000)
	if !c.Overrides.Enabled { // Else it is checked with the routes.
		number(l, "overrides.channels_max", c.Overrides.ChannelsMax, 1, route.ChannelsMaxLimit)
	}
	number(l, "bus.batch_max", b.BatchMax, 1, 1<<20)
	number(l, "bus.batch_bytes_max", b.BatchBytesMax, 1<<10, 1<<30)
	number(l, "bus.batch_age", b.BatchAge, 0, time.Second)
	if b.BatchAge%time.Millisecond != 0 {
		l.complain("bus.batch_age", b.BatchAge.String(), "it must be whole milliseconds, which is what Kafka counts in", "")
	}
	number(l, "bus.ring_batches", b.RingBatches, 2, 1<<20)
	number(l, "bus.ring_bytes_max", b.RingBytesMax, 1<<10, math.MaxInt64)
	number(l, "bus.pinned_max", b.PinnedMax, 1<<20, 1<<40)
	number(l, "bus.stall_max", b.StallMax, time.Millisecond, time.Hour)
	number(l, "shutdown.drain", c.Shutdown.Drain, 100*time.Millisecond, 10*time.Minute)
	number(l, "dev.rate", c.Dev.Rate, 0, 1_000_000)
	if n := b.RingBatches; n&(n-1) != 0 {
		l.complain("bus.ring_batches", strconv.Itoa(n), "it must be a power of two", fmt.Sprintf("set %d", 1<<uint(math.Round(math.Log2(math.Abs(float64(n))))))) //nolint:gosec // Small.
	}
	if !l.bad["bus.batch_bytes_max"] && b.RingBytesMax < b.BatchBytesMax {
		l.complain("bus.ring_bytes_max", b.RingBytesMax.String(), fmt.Sprintf("it must hold at least a batch, and bus.batch_bytes_max is %v", b.BatchBytesMax), "")
	}
	if !l.bad["client.outbound_max"] && b.BatchBytesMax > cl.OutboundMax/2 {
		l.complain("bus.batch_bytes_max", b.BatchBytesMax.String(), fmt.Sprintf("one batch would bring a client near client.outbound_max, which is %v", cl.OutboundMax),
			fmt.Sprintf("set at most %v, or raise client.outbound_max", cl.OutboundMax/2))
	}
	if !l.bad["client.ping_interval"] && cl.PongTimeout >= cl.PingInterval {
		l.complain("client.pong_timeout", cl.PongTimeout.String(), fmt.Sprintf("it must be shorter than client.ping_interval, which is %v", cl.PingInterval), "")
	}
}

func (l *loader) checkAddresses(c *Config) {
	if len(c.Client.Listen) == 0 {
		l.complain("client.listen", "", "no address is named", "set one, such as :8000")
	}
	l.unique("client.listen", c.Client.Listen)
	for _, a := range c.Client.Listen {
		l.address("client.listen", a, true)
	}
	if c.Admin.Listen != "" {
		l.address("admin.listen", c.Admin.Listen, true)
	}
	if s := c.Control.Socket; s != "" && !filepath.IsAbs(s) {
		l.complain("control.socket", s, "it must be an absolute path", "")
	}
	if d := c.Steering.PinDir; !filepath.IsAbs(d) {
		l.complain("steering.pin_dir", d, "it must be an absolute path", "set a directory on a bpffs, such as /sys/fs/bpf/wsd")
	}
	l.address("dev.kafka_listen", c.Dev.KafkaListen, true)
}

// address checks host:port. An address to listen on may have no host, and port 0 for a free one.
func (l *loader) address(key, address string, listen bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		l.complain(key, address, "it is not host:port", "write such as 127.0.0.1:8000, [::1]:8000 or name:8000")
		return
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !listen {
		l.complain(key, address, fmt.Sprintf("port %q is no number from 1 to 65535", port), "")
	}
	if host == "" && !listen {
		l.complain(key, address, "it names no host", "")
	}
}

func (l *loader) unique(key string, values []string) {
	seen := make(map[string]bool)
	for _, v := range values {
		if seen[v] {
			l.complain(key, v, "it is named twice", "leave one")
		}
		seen[v] = true
	}
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func (l *loader) topics(key string, topics []string) {
	l.unique(key, topics)
	for _, t := range topics {
		if !topicName.MatchString(t) || t == "." || t == ".." {
			l.complain(key, t, "it is no topic's name", "a name has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'")
		}
	}
}

// groupBytesMax is the longest name of a group: Kafka keeps it with a length of two bytes.
const groupBytesMax = 1<<15 - 1

func (l *loader) checkKafka(c *Config) {
	k := &c.Kafka
	if len(k.Brokers) == 0 {
		l.complain("kafka.brokers", "", "no broker is named", "set at least one host:port")
	}
	l.unique("kafka.brokers", k.Brokers)
	for _, b := range k.Brokers {
		l.address("kafka.brokers", b, false)
	}
	l.unique("kafka.topics", k.Topics)
	for _, t := range k.Topics {
		if _, err := route.ParseTopic(t); err != nil {
			l.complain("kafka.topics", t, err.Error(), "")
		}
	}
	l.topics("dev.topics", c.Dev.Topics)
	if c.Dev.Stdin != "" {
		l.topics("dev.stdin", []string{c.Dev.Stdin})
	}
	t, isTime := k.StartTime()
	switch {
	case k.Start == "latest", k.Start == "earliest", isTime && t.Unix() > 0:
	case k.Start == "committed":
		if k.CommitGroup == "" {
			l.complain("kafka.start", k.Start, "kafka.commit_group names no group to go on from", "set kafka.commit_group, or another start")
		}
	default:
		l.complain("kafka.start", k.Start, "it is neither latest, earliest nor committed, nor a time", "write a time as 2026-01-31T08:00:00Z")
	}
	if len(k.CommitGroup) > groupBytesMax {
		l.complain("kafka.commit_group", k.CommitGroup, fmt.Sprintf("it has %d bytes, at most %d are possible", len(k.CommitGroup), groupBytesMax), "")
	}
	l.checkTLS(k.TLS)
	l.checkSASL(&k.SASL)
}

func (l *loader) checkTLS(t TLS) {
	if t.Enabled {
		if _, key, value, err := t.build(); err != nil {
			l.complain(key, value, err.Error(), "")
		}
		return
	}
	values := map[string]string{
		"kafka.tls.ca_file": t.CAFile, "kafka.tls.cert_file": t.CertFile, "kafka.tls.key_file": t.KeyFile, "kafka.tls.server_name": t.ServerName,
	}
	if t.InsecureSkipVerify {
		values["kafka.tls.insecure_skip_verify"] = "true"
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] != "" {
			l.complain(key, values[key], "it has no effect, as kafka.tls.enabled is false", "set kafka.tls.enabled to true or leave this out")
		}
	}
}

// checkSASL also reads the password's file: an error there is one of the configuration.
func (l *loader) checkSASL(s *SASL) {
	const key = "kafka.sasl.mechanism"
	s.Mechanism = strings.ToLower(s.Mechanism)
	switch s.Mechanism {
	case "":
		if s.Username != "" || s.Password != "" || s.PasswordFile != "" {
			l.complain(key, "", "kafka.sasl has a name or a password but no mechanism", "set plain, scram-sha-256 or scram-sha-512")
		}
		return
	case "plain", "scram-sha-256", "scram-sha-512":
	default:
		l.complain(key, s.Mechanism, "it is no mechanism that wsd speaks", "set plain, scram-sha-256 or scram-sha-512")
	}
	if s.Username == "" {
		l.complain("kafka.sasl.username", "", "kafka.sasl.mechanism needs one", "")
	}
	switch {
	case s.Password != "" && s.PasswordFile != "":
		l.complain("kafka.sasl.password_file", s.PasswordFile, "there is kafka.sasl.password too", "leave one")
	case s.PasswordFile != "":
		text, err := readLimited(s.PasswordFile)
		if err != nil {
			l.complain("kafka.sasl.password_file", s.PasswordFile, "it cannot be read: "+explainFile(err), "")
			return
		}
		s.Password = Secret(strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"))
		if s.Password == "" {
			l.complain("kafka.sasl.password_file", s.PasswordFile, "it is empty", "")
		}
	case s.Password == "":
		l.complain("kafka.sasl.password", "", "kafka.sasl.mechanism needs one", "set kafka.sasl.password_file")
	}
}

func (l *loader) checkSlowPolicies(policies []SlowPolicy) {
	const key = "client.slow_policies"
	seen := make(map[string]bool)
	everything := ""
	for _, p := range policies {
		problem, remedy := patternFault(p.Channel)
		switch {
		case problem != "":
			l.complain(key, p.String(), problem, remedy)
		case everything != "":
			l.complain(key, p.String(), fmt.Sprintf("it has no effect behind %s, which fits every channel", everything), "put it before that")
		case seen[p.Channel]:
			l.complain(key, p.String(), "its channel is named twice", "leave one")
		}
		if p.Policy != "disconnect" && p.Policy != "conflate" && p.Policy != "resync" {
			l.complain(key, p.String(), fmt.Sprintf("%s is no policy", strconv.Quote(p.Policy)), "disconnect, conflate and resync are known")
		}
		if p.Channel == "*" {
			everything = p.String()
		}
		seen[p.Channel] = true
	}
}

func (l *loader) checkChoices(c *Config) {
	for _, choice := range []struct {
		key, value string
		allowed    []string
	}{
		{"steering.mode", c.Steering.Mode, []string{"auto", "require", "off"}},
		{"steering.policy", c.Steering.Policy, []string{"least-loaded", "weighted", "p2c", "cpu-local", "hash"}},
		{"log.level", c.Log.Level, []string{"debug", "info", "warn", "error"}},
		{"log.format", c.Log.Format, []string{"auto", "text", "json"}},
	} {
		found := false
		for _, a := range choice.allowed {
			found = found || a == choice.value
		}
		if !found {
			l.complain(choice.key, choice.value, "it must be "+strings.Join(choice.allowed[:len(choice.allowed)-1], ", ")+" or "+choice.allowed[len(choice.allowed)-1], "")
		}
	}
	if l.loaded.File != "" {
		l.checkFileMode()
	}
}

// checkFileMode keeps a password that everybody can read from being used unnoticed.
func (l *loader) checkFileMode() {
	if !l.loaded.written("kafka.sasl.password") || !strings.HasPrefix(l.loaded.Origin("kafka.sasl.password"), "file ") {
		return
	}
	if info, err := os.Stat(l.loaded.File); err == nil && info.Mode().Perm()&0o004 != 0 {
		l.complain("kafka.sasl.password", "", "everybody may read the file that holds it", "chmod o-r "+l.loaded.File+", or use kafka.sasl.password_file")
	}
}
