package config

import (
	"fmt"
	"strings"
	"time"

	"wsd/internal/route"
	"wsd/internal/rules"
)

// Publish is who may publish to which channel, and how that is written to Kafka (docs/publish.md).
type Publish struct {
	Rules       []string      `key:"rules" help:"Who may publish to which channel, as PATTERN=WHO, in the form of auth.rules; the first rule whose pattern matches decides. Without auth.mode token, clients have no user, and WHO can only be all or nobody. Default: none, so that nobody may publish, and the command is not available (108)."`
	Raw         bool          `key:"raw" def:"false" help:"Let raw clients publish: what a client sends on /ws?publish=CHANNEL is published to that channel, under the same rules and limits. There is no reply; the client is closed with 1013 when a message could not be written."`
	BytesMax    Bytes         `key:"bytes_max" def:"64KiB" help:"Largest publication, 1 to 8MiB. A larger one gets error 106. Kafka has a limit of its own, the topic's max.message.bytes."`
	Timeout     time.Duration `key:"timeout" def:"4s" help:"How long a publication may wait for Kafka, 1s to 5m. After that it gets error 100, which is temporary, and may be written all the same. SDKs give up after 5s."`
	UnderWayMax int           `key:"under_way_max" def:"50000" help:"Publications of all clients that Kafka may not have acknowledged yet, 1 to 10000000. Further ones get error 100, which is temporary."`
	Memory      Bytes         `key:"memory" def:"32MiB" help:"Memory for them, 1MiB to 1TiB. Further ones get error 100, which is temporary."`
	KeysTTL     time.Duration `key:"keys_ttl" def:"5m" help:"How long the outcome of a publication with an idempotency key is remembered, at most 24h."`
	KeysMax     int           `key:"keys_max" def:"100000" help:"Maximum idempotency keys that are remembered, 1 to 10000000; the oldest are forgotten first. Each takes about 300 bytes and its own length."`
}

// On reports whether anybody may publish.
func (p *Publish) On() bool { return len(p.Rules) > 0 }

// ChannelRules returns publish.rules. Load has checked them.
func (p *Publish) ChannelRules() (*rules.Rules, error) { return rules.Parse(p.Rules) }

// Inverter returns where the records of channels are written, and the rules for whose channels that is not known.
func (c *Config) Inverter() (*route.Inverter, []route.NotInvertible, error) {
	table, err := route.New(c.Rules(), c.RouteOverrides())
	if err != nil {
		return nil, nil, err
	}
	return table.Invert(c.Kafka.Topics)
}

func (l *loader) checkPublish(c *Config) {
	p := &c.Publish
	number(l, "publish.bytes_max", p.BytesMax, 1, 8<<20)
	number(l, "publish.timeout", p.Timeout, time.Second, 5*time.Minute)
	number(l, "publish.under_way_max", p.UnderWayMax, 1, 10_000_000)
	number(l, "publish.memory", p.Memory, 1<<20, 1<<40)
	number(l, "publish.keys_ttl", p.KeysTTL, 0, 24*time.Hour)
	number(l, "publish.keys_max", p.KeysMax, 1, 10_000_000)
	number(l, "limits.publish_rate", c.Limits.PublishRate, 0, rateLimit)
	number(l, "limits.publish_under_way", c.Limits.PublishUnderWay, 0, 1_000_000)
	parsed, err := p.ChannelRules()
	switch {
	case err != nil:
		l.complain("publish.rules", strings.Join(p.Rules, ","), err.Error(), "")
	case parsed.NeedProxy():
		l.complain("publish.rules", strings.Join(p.Rules, ","), "the backend is not asked about publications, so "+
			"proxy is not possible here", "write user or claim:NAME")
	case parsed.NeedTokens():
		l.complain("publish.rules", strings.Join(p.Rules, ","), "a publication shows no subscription token, so token "+
			"is not possible here", "write user or claim:NAME")
	}
	if !l.bad["publish.memory"] && p.Memory < p.BytesMax+1<<10 {
		l.complain("publish.memory", p.Memory.String(), fmt.Sprintf("must hold one publication, and publish.bytes_max "+
			"is %v", p.BytesMax), "")
	}
}

// reviewPublish warns of publications that can never be written or delivered.
func (l *loader) reviewPublish(c *Config) {
	p := &c.Publish
	if !p.On() {
		if p.Raw {
			l.warn("publish.raw", "true", "it has no effect, as publish.rules lets nobody publish",
				"add rules, or remove it")
		}
		return
	}
	if p.BytesMax > c.Client.MessageMax {
		l.warn("publish.bytes_max", p.BytesMax.String(), fmt.Sprintf("it has no effect, as client.message_max allows "+
			"messages of %v", c.Client.MessageMax), "lower it, or raise client.message_max")
	}
	if p.BytesMax > c.Kafka.MaxRecordBytes {
		l.warn("publish.bytes_max", p.BytesMax.String(), fmt.Sprintf("larger ones are not delivered, as "+
			"kafka.max_record_bytes is %v", c.Kafka.MaxRecordBytes), "lower it, or raise kafka.max_record_bytes")
	}
	if parsed, err := p.ChannelRules(); err == nil && !c.Auth.On() && parsed.NeedUsers() {
		l.warn("publish.rules", strings.Join(p.Rules, ","), "clients have no users and no tokens (auth.mode is none), "+
			"so that a rule for them lets nobody publish", "set auth.mode to token, or write all")
	}
	_, faults, err := c.Inverter()
	if err != nil {
		return // Other checks have its faults.
	}
	for _, f := range faults {
		key := fmt.Sprintf("routes[%d].channel", f.Rule)
		l.loaded.Warnings = append(l.loaded.Warnings, Fault{Key: key, Value: cut(f.Channel),
			Origin:  l.routeOrigin(key, "routes"),
			Problem: "nothing can be published to its channels (error 108): " + f.Problem,
			Remedy: "write a channel of {topic}, {key} and {partition} alone, or ignore this if nobody is to publish " +
				"there"})
	}
}
