package config

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"wsd/internal/route"
)

// StartTime returns Start as a time. isTime is false if it is not one.
func (k Kafka) StartTime() (t time.Time, isTime bool) {
	t, err := time.Parse(time.RFC3339, k.Start)
	return t, err == nil
}

// shardsMax is the most shards that the steering program knows.
const shardsMax = 256

const (
	channelsMaxLimit   = 1 << 16
	channelLengthLimit = 255 // Of the client protocol.
)

// ShardCount returns how many shards to run: Shards, or with 0 one for each CPU that Go uses (GOMAXPROCS).
func (c *Config) ShardCount() int {
	if c.Shards > 0 {
		return c.Shards
	}
	return min(runtime.GOMAXPROCS(0), shardsMax)
}

// complain adds a fault of an option's value, unless the value could not even be parsed.
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

// check checks the values that could be parsed.
func (l *loader) check() {
	c := &l.loaded.Config
	l.checkRanges(c)
	l.checkLimits(c)
	l.checkClientTLS(c)
	l.checkEdge(c)
	l.checkAdmin(&c.Admin)
	l.checkAddresses(c)
	l.checkKafka(c)
	l.checkRoutes(c)
	l.checkSlowPolicies(c.Client.SlowPolicies)
	l.checkSteering(c)
	l.checkRecovery(c)
	l.checkPublish(c)
	l.checkAdmission(&c.Admission)
	l.checkHealth(&c.Health)
	l.checkAuth(&c.Auth)
	l.proxied(c)
	l.checkProxy(c)
	l.checkAPI(c)
	l.checkCommands(c)
	l.checkChoices(c)
}

func number[T ~int | ~int64](l *loader, key string, value, smallest, largest T) {
	if value < smallest || value > largest {
		l.complain(key, fmt.Sprint(value), fmt.Sprintf("must be from %v to %v", smallest, largest), "")
	}
}

func (l *loader) checkRanges(c *Config) {
	const day = 24 * time.Hour
	cl, k, b := &c.Client, &c.Kafka, &c.Bus
	number(l, "client.listen_wait", cl.ListenWait, 0, 10*time.Minute)
	number(l, "client.kernel_send_buffer", cl.KernelSendBuffer, 0, 1<<30)
	number(l, "client.outbound_max", cl.OutboundMax, 64<<10, 1<<30)
	number(l, "client.message_max", cl.MessageMax, 1<<10, messageMaxLimit)
	number(l, "client.first_message_max", cl.FirstMessageMax, 1<<10, messageMaxLimit)
	number(l, "client.message_out_max", cl.MessageOutMax, 1<<10, 16<<20)
	number(l, "client.progress_timeout", cl.ProgressTimeout, time.Second, day)
	number(l, "client.head_max", cl.HeadMax, 1<<10, headMaxLimit)
	number(l, "client.handshake_timeout", cl.HandshakeTimeout, time.Millisecond, day)
	number(l, "client.stale_close_delay", cl.StaleCloseDelay, time.Millisecond, day)
	number(l, "client.frame_timeout", cl.FrameTimeout, time.Millisecond, day)
	number(l, "client.ping_interval", cl.PingInterval, time.Second, day)
	number(l, "client.pong_timeout", cl.PongTimeout, time.Millisecond, day)
	number(l, "client.channels_max", cl.ChannelsMax, 1, channelsMaxLimit)
	number(l, "client.channel_length_max", cl.ChannelLengthMax, 1, channelLengthLimit)
	number(l, "client.compression_threshold", cl.CompressionThreshold, 64, 1<<20)
	number(l, "client.compression_level", cl.CompressionLevel, 1, 9)
	number(l, "client.compression_workers", cl.CompressionWorkers, 0, 256)
	number(l, "shards", c.Shards, 0, shardsMax)
	number(l, "kafka.fetch_max_wait", k.FetchMaxWait, time.Millisecond, time.Minute)
	number(l, "kafka.fetch_max_bytes", k.FetchMaxBytes, 1<<10, 1<<30)
	number(l, "kafka.max_record_bytes", k.MaxRecordBytes, 1<<10, 1<<30)
	number(l, "kafka.metadata_interval", k.MetadataInterval, 10*time.Millisecond, time.Hour)
	number(l, "kafka.behind_max", k.BehindMax, 0, day)
	number(l, "kafka.dial_timeout", k.DialTimeout, 100*time.Millisecond, 10*time.Minute)
	number(l, "kafka.request_timeout", k.RequestTimeout, 100*time.Millisecond, 10*time.Minute)
	number(l, "kafka.topics_max", k.TopicsMax, 1, 10_000)
	number(l, "metrics.topics_max", c.Metrics.TopicsMax, 0, 10_000)
	number(l, "kafka.json_depth_max", k.JSONDepthMax, 1, 10_000)
	if !c.Overrides.Enabled { // Otherwise checkRoutes checks it.
		number(l, "overrides.channels_max", c.Overrides.ChannelsMax, 1, route.ChannelsMaxLimit)
	}
	number(l, "bus.batch_max", b.BatchMax, 1, 1<<20)
	number(l, "bus.batch_bytes_max", b.BatchBytesMax, 1<<10, 1<<30)
	number(l, "bus.batch_age", b.BatchAge, 0, time.Second)
	if b.BatchAge%time.Millisecond != 0 {
		l.complain("bus.batch_age", b.BatchAge.String(), "must be whole milliseconds, Kafka's unit of time", "")
	}
	number(l, "bus.ring_batches", b.RingBatches, 2, 1<<20)
	number(l, "bus.ring_bytes_max", b.RingBytesMax, 1<<10, math.MaxInt64)
	number(l, "bus.pinned_max", b.PinnedMax, 1<<20, 1<<40)
	number(l, "bus.stall_max", b.StallMax, time.Millisecond, time.Hour)
	number(l, "shutdown.delay", c.Shutdown.Delay, 0, 10*time.Minute)
	number(l, "shutdown.drain", c.Shutdown.Drain, 100*time.Millisecond, 10*time.Minute)
	number(l, "dev.rate", c.Dev.Rate, 0, 1_000_000)
	if n := b.RingBatches; n&(n-1) != 0 {
		l.complain("bus.ring_batches", strconv.Itoa(n), "must be a power of two",
			fmt.Sprintf("set %d", 1<<uint(math.Round(math.Log2(math.Abs(float64(n)))))))
	}
	if !l.bad["bus.batch_bytes_max"] && b.RingBytesMax < b.BatchBytesMax {
		l.complain("bus.ring_bytes_max", b.RingBytesMax.String(),
			fmt.Sprintf("must hold at least one batch, and bus.batch_bytes_max is %v", b.BatchBytesMax), "")
	}
	if !l.bad["client.outbound_max"] && b.BatchBytesMax > cl.OutboundMax/2 {
		l.complain("bus.batch_bytes_max", b.BatchBytesMax.String(), fmt.Sprintf("must be at most half of "+
			"client.outbound_max, which is %v, or one batch could nearly use it up", cl.OutboundMax),
			fmt.Sprintf("set at most %v, or raise client.outbound_max", cl.OutboundMax/2))
	}
	if !l.bad["client.ping_interval"] && cl.PongTimeout >= cl.PingInterval {
		l.complain("client.pong_timeout", cl.PongTimeout.String(),
			fmt.Sprintf("must be shorter than client.ping_interval, which is %v", cl.PingInterval), "")
	}
}

func (l *loader) checkAddresses(c *Config) {
	if len(c.Client.Addresses()) == 0 {
		l.complain("client.listen", "", "empty", "set an address, such as :8000")
	}
	l.unique("client.listen", c.Client.Listen)
	l.unique("client.tls_listen", c.Client.TLSListen)
	for _, a := range c.Client.TLSListen {
		l.address("client.tls_listen", a, true)
		if _, port, err := net.SplitHostPort(a); err == nil && port != "0" && slices.Contains(c.Client.Listen, a) {
			l.complain("client.tls_listen", a, "listed in client.listen as well", "remove one, or choose another port")
		}
	}
	for _, a := range c.Client.Listen {
		l.address("client.listen", a, true)
	}
	if p := c.Client.PathPrefix; p != "" && (len(p) > 200 || !pathPrefix.MatchString(p)) {
		l.complain("client.path_prefix", p, "not a path that begins with a slash and does not end with one",
			"write such as /live, with at most 200 of a-z, A-Z, 0-9, '/', '.', '_', '~' and '-'")
	}
	if c.Admin.Listen != "" {
		l.address("admin.listen", c.Admin.Listen, true)
	}
	if s := c.Control.Socket; s != "" && !filepath.IsAbs(s) {
		l.complain("control.socket", s, "must be an absolute path", "")
	}
	if d := c.Steering.PinDir; !filepath.IsAbs(d) {
		l.complain("steering.pin_dir", d, "must be an absolute path",
			"set a directory on a bpffs, such as /sys/fs/bpf/wsd")
	}
	l.address("dev.kafka_listen", c.Dev.KafkaListen, true)
}

var pathPrefix = regexp.MustCompile(`^(/[a-zA-Z0-9._~-]+)+$`)

// address checks HOST:PORT. Only an address to listen on may lack the host or have port 0, which means any free port.
func (l *loader) address(key, address string, listen bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		port := cmp.Or(map[string]string{"kafka.brokers": "9092", "dev.kafka_listen": "9092",
			"admin.listen": "9000", "api.listen": "9001", "client.tls_listen": "8443"}[key], "8000")
		l.complain(key, address, "not HOST:PORT", fmt.Sprintf("write 127.0.0.1:%[1]s, [::1]:%[1]s or NAME:%[1]s", port))
		return
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !listen {
		l.complain(key, address, fmt.Sprintf("port %q must be a number from 1 to 65535", port), "")
	}
	if host == "" && !listen {
		l.complain(key, address, "the host is missing", "")
	}
}

func (l *loader) unique(key string, values []string) {
	seen := make(map[string]bool)
	for _, v := range values {
		if seen[v] {
			l.complain(key, v, "listed twice", "remove one")
		}
		seen[v] = true
	}
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func (l *loader) topics(key string, topics []string) {
	l.unique(key, topics)
	for _, t := range topics {
		if !topicName.MatchString(t) || t == "." || t == ".." {
			l.complain(key, t, "not a valid topic name", "use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'")
		}
	}
}

// groupBytesMax is the longest name of a group: Kafka stores its length in two bytes.
const groupBytesMax = 1<<15 - 1

func (l *loader) checkKafka(c *Config) {
	k := &c.Kafka
	if l.needTopics && len(k.Topics) == 0 {
		// Without a value or an origin, because usually the option was not given at all.
		l.fault(Fault{Key: "kafka.topics", Problem: "empty", Remedy: "name at least one topic with --kafka.topics, " +
			"WSD_KAFKA_TOPICS or in the configuration file, or try wsd dev"})
	}
	if len(k.Brokers) == 0 {
		l.complain("kafka.brokers", "", "empty", "set at least one broker as HOST:PORT")
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
			l.complain("kafka.start", k.Start, "needs kafka.commit_group, which is empty",
				"set kafka.commit_group, or start elsewhere")
		}
	default:
		l.complain("kafka.start", k.Start, "must be latest, earliest, committed or a time",
			"write a time like 2026-01-31T08:00:00Z")
	}
	if len(k.CommitGroup) > groupBytesMax {
		l.complain("kafka.commit_group", k.CommitGroup, fmt.Sprintf("%d bytes long; the maximum is %d",
			len(k.CommitGroup), groupBytesMax), "")
	}
	l.checkTLS(k.TLS)
	l.checkSASL(k)
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
			l.complain(key, p.String(), fmt.Sprintf("has no effect after %s, which matches every channel", everything),
				"move it before that")
		case seen[p.Channel]:
			l.complain(key, p.String(), "its pattern is listed twice", "remove one")
		}
		if p.Policy != "disconnect" && p.Policy != "conflate" && p.Policy != "resync" {
			l.complain(key, p.String(), fmt.Sprintf("%q is not a policy", p.Policy),
				"use disconnect, conflate or resync")
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
		{"admission.mode", c.Admission.Mode, []string{"on", "dry-run", "off"}},
		{"admission.answer", c.Admission.Answer, []string{"reset", "http"}},
		{"client.unknown_channels", c.Client.UnknownChannels, []string{"accept", "refuse"}},
		{"kafka.isolation", c.Kafka.Isolation, []string{"read_committed", "read_uncommitted"}},
		{"log.level", c.Log.Level, []string{"debug", "info", "warn", "error"}},
		{"log.format", c.Log.Format, []string{"auto", "text", "json"}},
	} {
		found := false
		for _, a := range choice.allowed {
			found = found || a == choice.value
		}
		if !found {
			l.complain(choice.key, choice.value, "must be "+strings.Join(choice.allowed[:len(choice.allowed)-1],
				", ")+" or "+choice.allowed[len(choice.allowed)-1], "")
		}
	}
	if l.loaded.File != "" {
		l.checkFileMode()
	}
}

// checkFileMode refuses a secret in a file that everybody can read.
func (l *loader) checkFileMode() {
	info, err := os.Stat(l.loaded.File)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return
	}
	for _, key := range l.keys {
		if !l.options[key].Secret || !l.loaded.written(key) || !strings.HasPrefix(l.loaded.Origin(key), "file ") {
			continue
		}
		name := key[strings.LastIndexByte(key, '.')+1:]
		remedy := "run chmod o-r " + l.loaded.File
		if _, ok := l.options[key+"_file"]; ok {
			remedy += ", or use " + key + "_file"
		}
		l.complain(key, "", "everybody can read the configuration file, and the "+strings.ReplaceAll(name, "_", " ")+
			" with it", remedy)
	}
}
