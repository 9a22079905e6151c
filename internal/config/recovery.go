package config

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

func (l *loader) checkRecovery(c *Config) {
	r := &c.Recovery
	number(l, "recovery.max_publications", r.MaxPublications, 1, 100_000_000)
	number(l, "recovery.max_bytes", r.MaxBytes, 1<<10, 1<<30)
	number(l, "recovery.timeout", r.Timeout, 10*time.Millisecond, time.Minute)
	number(l, "recovery.cache_bytes", r.CacheBytes, 0, 1<<40)
	number(l, "recovery.read_bytes", r.ReadBytes, 1<<20, 1<<40)
	number(l, "recovery.concurrency", r.Concurrency, 1, 64)
	number(l, "recovery.waiting_max", r.WaitingMax, 1, 100_000_000)
	number(l, "recovery.waiting_address_max", r.WaitingAddressMax, 0, 100_000_000)
	if !l.bad["recovery.read_bytes"] && !l.bad["recovery.max_bytes"] && r.ReadBytes < r.MaxBytes {
		l.complain("recovery.read_bytes", r.ReadBytes.String(),
			fmt.Sprintf("must hold at least one answer, and recovery.max_bytes is %v", r.MaxBytes), "")
	}
	if p := c.Kafka.Partitioner; p != "" && p != "murmur2" && p != "crc32" {
		l.complain("kafka.partitioner", p, "must be murmur2, crc32 or empty", "")
	}
	l.unique("recovery.cache_channels", r.CacheChannels)
	for _, pattern := range r.CacheChannels {
		if problem, remedy := patternFault(pattern); problem != "" {
			l.complain("recovery.cache_channels", pattern, problem, remedy)
		}
	}
}

// patternFault returns what is wrong with a channel name or a prefix followed by *, and the remedy. problem is empty if
// nothing is wrong.
func patternFault(pattern string) (problem, remedy string) {
	switch {
	case pattern == "":
		return "the channel is missing", "write a channel name, or a prefix followed by *, such as prices.*"
	case !utf8.ValidString(pattern):
		return "the channel is not valid UTF-8", ""
	case strings.Contains(strings.TrimSuffix(pattern, "*"), "*"):
		return "only the last character may be a *", "write a prefix followed by *, such as prices.*"
	}
	return "", ""
}
