package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What the limits of a client's requests are compared with. A client of the protocol that reconnects subscribes to all
// its channels in one message.
const (
	tokenBytes     = 600     // Of a subscription's token, a JWT with a signature of 2,048 bits and a few claims.
	subscribeBytes = 128     // Of the rest of a subscribe command: its names, id, offset and epoch.
	fieldsBytes    = 8 << 10 // Of a browser's header fields with cookies.

	messageMaxLimit = 16 << 20
	headMaxLimit    = 1 << 20

	// rateWindow is for how long a client may save up its rates.
	rateWindow          = 15
	commandsRateLeast   = 200
	inflatedRateLeast   = 256 << 10
	recoveriesRateLeast = 50
	recoverWithin       = 5 // Seconds in which a client recovers all its channels.
	rateLimit           = 1_000_000

	// uploadRate is what a slow uplink carries, in bytes per second.
	uploadRate = 128 << 10
)

// reconnectBytes returns how long the message of a client is that subscribes again to as many channels as it may have.
func (c *Client) reconnectBytes() Bytes {
	return Bytes(c.ChannelsMax) * Bytes(c.ChannelLengthMax+tokenBytes+subscribeBytes)
}

// reconnectCommands returns how many commands one message may have: enough for a client that subscribes again.
func (c *Client) reconnectCommands() int { return 2048 + 2*c.ChannelsMax }

// rawHeadBytes returns how long the request of a raw client is that names as many channels as it may, each byte
// percent-encoded.
func (c *Client) rawHeadBytes() Bytes {
	return fieldsBytes + Bytes(c.ChannelsMax)*Bytes(len("&channel=")+len("%00")*c.ChannelLengthMax)
}

// fit returns the least multiple of step from least to most that is no less than needed, if there is one.
func fit(needed, step, least, most Bytes) Bytes {
	return min(max((needed+step-1)/step*step, least), most)
}

// derive sets the limits that are to fit others.
func (l *loader) derive() {
	if r := &l.loaded.Config.Recovery; r.WaitingAddressMax == 0 {
		r.WaitingAddressMax = max(1, r.WaitingMax/2)
	}
	c := &l.loaded.Config.Client
	if l.bad["client.channels_max"] || l.bad["client.channel_length_max"] {
		return // Their faults are enough.
	}
	// Values out of range are faults, and must not overflow here.
	bounded := Client{ChannelsMax: min(max(c.ChannelsMax, 1), channelsMaxLimit),
		ChannelLengthMax: min(max(c.ChannelLengthMax, 1), channelLengthLimit)}
	if c.MessageMax == 0 {
		c.MessageMax = fit(bounded.reconnectBytes(), 64<<10, 64<<10, messageMaxLimit)
	}
	if c.FirstMessageMax == 0 {
		c.FirstMessageMax = c.MessageMax
	}
	lim := &l.loaded.Config.Limits
	if lim.CommandsRate == 0 {
		lim.CommandsRate = max(commandsRateLeast, bounded.reconnectCommands()/10)
	}
	if lim.RecoveriesRate == 0 {
		lim.RecoveriesRate = max(recoveriesRateLeast, bounded.ChannelsMax/recoverWithin)
	}
	if lim.InflatedRate == 0 && !l.bad["client.message_max"] {
		lim.InflatedRate = max(inflatedRateLeast, min(c.MessageMax, messageMaxLimit)/4)
	}
	if c.HeadMax == 0 {
		need := bounded.rawHeadBytes()
		if a := &l.loaded.Config.Auth; a.On() && !l.bad["auth.token_bytes_max"] {
			need += min(a.TokenBytesMax, headMaxLimit)
		}
		c.HeadMax = fit(need, 4<<10, fieldsBytes, headMaxLimit)
	}
}

// FitMemory lowers the defaults of what keeps records and messages in memory to parts of a memory limit, so that they
// leave room for each other within the heap limit, which is 40 % of the memory limit, and sets limits.memory. It
// changes no option that was given. It returns the keys and the values of what it has changed.
func (l *Loaded) FitMemory(limit int64) (changed []any) {
	c := &l.Config
	for _, o := range []struct {
		key         string
		value       *Bytes
		part, least Bytes
	}{
		{"bus.ring_bytes_max", &c.Bus.RingBytesMax, 16, c.Bus.BatchBytesMax},
		{"bus.pinned_max", &c.Bus.PinnedMax, 16, 1 << 20},
		{"recovery.cache_bytes", &c.Recovery.CacheBytes, 32, 0},
		{"recovery.read_bytes", &c.Recovery.ReadBytes, 32, c.Recovery.MaxBytes},
		{"limits.memory", &c.Limits.Memory, 8, 1 << 20},
		{"publish.memory", &c.Publish.Memory, 32, max(1<<20, c.Publish.BytesMax+1<<10)},
	} {
		if o.key == "publish.memory" && !c.Publish.On() {
			continue
		}
		fitting := max(Bytes(limit)/o.part, o.least)
		if !l.Given(o.key) && (*o.value == 0 || fitting < *o.value) {
			*o.value = fitting
			changed = append(changed, o.key, fitting.String())
		}
	}
	// A query that waits takes some KiB, with what is to become of its answer.
	if r := &c.Recovery; !l.Given("recovery.waiting_max") && limit/queryMemory < int64(r.WaitingMax) {
		r.WaitingMax = max(int(limit/queryMemory), 1)
		changed = append(changed, "recovery.waiting_max", r.WaitingMax)
		if !l.Given("recovery.waiting_address_max") {
			r.WaitingAddressMax = max(r.WaitingMax/2, 1)
		}
	}
	return changed
}

// queryMemory is the part of a memory limit for which one query may wait.
const queryMemory = 64 << 10

// limitNames are what limits.dry_run can name.
var limitNames = []string{
	"commands_rate", "frames_rate", "inflated_rate", "recoveries_rate", "connections", "address_connections",
	"handshakes", "address_handshakes", "channels", "channels_rate", "age", "idle", "memory", "answers_memory",
	"channels_max", "head_max", "message_max", "first_message_max", "outbound_max", "pinned_max",
	"user_connections", "address_token_failures", "publish_rate", "publish_under_way",
}

// answersPart and answersMost are what limits.answers_memory follows limits.memory by.
const (
	answersPart = 2
	answersMost = 256 << 20
)

// AnswersMax returns limits.answers_memory, or without it what follows limits.memory, given or derived.
func (l *ClientLimits) AnswersMax(memory int64) int64 {
	if l.AnswersMemory > 0 {
		return int64(l.AnswersMemory)
	}
	return min(max(memory/answersPart, 1<<20), answersMost)
}

// Enforced returns the options of which some are in a dry run: those of bytes and subscriptions then have the largest
// value that they can have.
func (l *ClientLimits) Enforced(c Client) Client {
	if l.DryRuns("channels_max") {
		c.ChannelsMax = channelsMaxLimit
	}
	if l.DryRuns("head_max") {
		c.HeadMax = headMaxLimit
	}
	if l.DryRuns("message_max") {
		c.MessageMax = messageMaxLimit
	}
	if l.DryRuns("first_message_max") {
		c.FirstMessageMax = c.MessageMax
	}
	c.FirstMessageMax = min(c.FirstMessageMax, c.MessageMax)
	return c
}

// DryRuns reports whether a limit is only counted.
func (l *ClientLimits) DryRuns(name string) bool { return slices.Contains(l.DryRun, name) }

func (l *loader) checkLimits(c *Config) {
	number(l, "limits.commands_rate", c.Limits.CommandsRate, 1, rateLimit)
	number(l, "limits.frames_rate", c.Limits.FramesRate, 1, rateLimit)
	number(l, "limits.inflated_rate", c.Limits.InflatedRate, 1<<10, 1<<40)
	number(l, "limits.recoveries_rate", c.Limits.RecoveriesRate, 1, rateLimit)
	number(l, "limits.memory", c.Limits.Memory, 0, 1<<50)
	if c.Limits.AnswersMemory != 0 {
		number(l, "limits.answers_memory", c.Limits.AnswersMemory, 1<<20, 1<<50)
	}
	l.checkQuotas(&c.Limits)
	l.unique("limits.dry_run", c.Limits.DryRun)
	for _, name := range c.Limits.DryRun {
		if !slices.Contains(limitNames, name) {
			l.complain("limits.dry_run", name, "no such limit", "write "+strings.Join(limitNames, ", "))
		}
	}
}

// warn adds a warning about an option's value.
func (l *loader) warn(key, value, problem, remedy string) {
	l.loaded.Warnings = append(l.loaded.Warnings,
		Fault{Key: key, Value: cut(value), Origin: l.loaded.Origin(key), Problem: problem, Remedy: remedy})
}

// compareLimits warns of limits that are valid, but that a client which keeps to one of them cannot keep to the other.
func (l *loader) compareLimits(c *Config) {
	cl := &c.Client
	if need := cl.reconnectBytes(); cl.MessageMax < need {
		l.warn("client.message_max", cl.MessageMax.String(), fmt.Sprintf("a client with %d subscriptions "+
			"(client.channels_max) may need %d bytes to subscribe again after a reconnect, with names of %d bytes "+
			"(client.channel_length_max) and tokens of %d; it is closed with 1009", cl.ChannelsMax, need,
			cl.ChannelLengthMax, tokenBytes), atLeast("client.message_max", need, messageMaxLimit))
	}
	l.compareFirstMessage(cl)
	if need := cl.rawHeadBytes(); cl.HeadMax < need {
		l.warn("client.head_max", cl.HeadMax.String(), fmt.Sprintf("a raw client that names %d channels "+
			"(client.channels_max) of %d bytes (client.channel_length_max) may need a request of %d bytes; it gets "+
			"431", cl.ChannelsMax, cl.ChannelLengthMax, need), atLeast("client.head_max", need, headMaxLimit))
	}
	if have, need := rateWindow*c.Limits.CommandsRate, cl.ChannelsMax+1; have < need {
		l.warn("limits.commands_rate", strconv.Itoa(c.Limits.CommandsRate), fmt.Sprintf("a client may save up %d "+
			"commands, and sends %d when it subscribes again to %d channels (client.channels_max); it is closed with "+
			"3013", have, need, cl.ChannelsMax), "raise it, or set it to 0 to let it follow the others")
	}
	if have := rateWindow * c.Limits.InflatedRate; cl.Compression && have < cl.MessageMax {
		l.warn("limits.inflated_rate", c.Limits.InflatedRate.String(), fmt.Sprintf("a client may save up %v, and "+
			"client.message_max allows %v; it is closed with 3013", have, cl.MessageMax),
			"raise it, or set it to 0 to let it follow the others")
	}
	l.compareQuotas(c)
	l.compareRate("client.frame_timeout", cl.FrameTimeout, "client.message_max", cl.MessageMax)
	l.compareRate("client.handshake_timeout", cl.HandshakeTimeout, "client.head_max", cl.HeadMax)
	if cl.Compression && cl.CompressionThreshold > cl.MessageOutMax {
		l.warn("client.compression_threshold", cl.CompressionThreshold.String(), fmt.Sprintf("messages of several "+
			"publications have at most client.message_out_max (%v) and are never compressed", cl.MessageOutMax),
			"lower it, or raise client.message_out_max")
	}
	for _, p := range cl.SlowPolicies {
		l.compareName("client.slow_policies", p.Channel, cl.ChannelLengthMax)
	}
	for _, p := range c.Recovery.CacheChannels {
		l.compareName("recovery.cache_channels", p, cl.ChannelLengthMax)
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		if !strings.ContainsAny(r.Channel, "{}") {
			l.compareName("routes", r.Channel, cl.ChannelLengthMax)
		}
		l.compareName("routes", r.OnError.Channel, cl.ChannelLengthMax)
	}
}

// compareFirstMessage warns of a limit of the first message that clients which reconnect exceed. Left to follow
// client.message_max it has that one's warning.
func (l *loader) compareFirstMessage(cl *Client) {
	const key = "client.first_message_max"
	if !l.loaded.Given(key) {
		return
	}
	if need := cl.reconnectBytes(); cl.FirstMessageMax < min(need, cl.MessageMax) {
		l.warn(key, cl.FirstMessageMax.String(), fmt.Sprintf("SDKs connect and subscribe in one message, for which a "+
			"client with %d subscriptions (client.channels_max) may need %d bytes, with names of %d bytes "+
			"(client.channel_length_max) and tokens of %d; it is closed with 1009", cl.ChannelsMax, need,
			cl.ChannelLengthMax, tokenBytes), "raise it, or lower client.channels_max or client.channel_length_max")
	}
	if cl.FirstMessageMax > cl.MessageMax {
		l.warn(key, cl.FirstMessageMax.String(), fmt.Sprintf("it has no effect, as client.message_max allows %v",
			cl.MessageMax), "lower it, or raise client.message_max")
	}
}

func atLeast(key string, need, most Bytes) string {
	if need > most {
		return fmt.Sprintf("%s can be %v at most: lower client.channels_max or client.channel_length_max", key, most)
	}
	return fmt.Sprintf("set %s to at least %d, or to 0 to let it follow the others", key, need)
}

// compareRate warns if the time for a message is too short for its length on a slow link. Defaults that follow other
// options are for lengths that few messages have.
func (l *loader) compareRate(timeKey string, limit time.Duration, sizeKey string, size Bytes) {
	if !l.loaded.Given(timeKey) && !l.loaded.Given(sizeKey) {
		return
	}
	if need := time.Duration(float64(size) / uploadRate * float64(time.Second)); need > limit {
		l.warn(timeKey, limit.String(), fmt.Sprintf("a client that sends as much as %s allows (%v) needs %v at "+
			"%d KiB/s", sizeKey, size, need.Round(time.Second/10), uploadRate>>10), "raise it, or lower "+sizeKey)
	}
}

// compareName warns of a channel that no client can subscribe to, because its name is too long.
func (l *loader) compareName(key, pattern string, most int) {
	if name := strings.TrimSuffix(pattern, "*"); len(name) > most && utf8.ValidString(name) {
		l.warn(key, pattern, fmt.Sprintf("the name has %d bytes, and clients can subscribe to names of at most %d "+
			"(client.channel_length_max)", len(name), most), "raise client.channel_length_max, or shorten the name")
	}
}
