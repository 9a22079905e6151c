package config

import (
	"errors"
	"fmt"
	"strconv"
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
	l.checkDepths(r)
	l.unique("recovery.cache_channels", r.CacheChannels)
	for _, pattern := range r.CacheChannels {
		if problem, remedy := patternFault(pattern); problem != "" {
			l.complain("recovery.cache_channels", pattern, problem, remedy)
		}
	}
}

// Depth is which part of some channels' streams clients may recover and read.
type Depth struct {
	Pattern      string        // A channel name, or a prefix followed by *.
	Publications int           // 0: recovery.max_publications.
	Age          time.Duration // 0: any.
}

// Depths returns recovery.channels. Load has checked them.
func (r *Recovery) Depths() (list []Depth) {
	for _, text := range r.Channels {
		if d, err := parseDepth(text); err == nil {
			list = append(list, d)
		}
	}
	return list
}

const depthAccepted = "write PATTERN=COUNT or PATTERN=COUNT/AGE, such as chat.*=100/5m"

func parseDepth(text string) (d Depth, err error) {
	at := strings.LastIndexByte(text, '=')
	if at < 1 {
		return d, errors.New("lacks a number of publications")
	}
	d.Pattern = text[:at]
	count, age, aged := strings.Cut(text[at+1:], "/")
	if d.Publications, err = strconv.Atoi(count); err != nil || d.Publications < 0 {
		return d, fmt.Errorf("%q is not a number of publications", count)
	}
	if aged {
		if d.Age, err = time.ParseDuration(age); err != nil || d.Age < time.Second || d.Age > 10*365*24*time.Hour {
			return d, fmt.Errorf("the age %q is not a duration from 1s to ten years", age)
		}
	}
	return d, nil
}

// checkDepths checks recovery.channels.
func (l *loader) checkDepths(r *Recovery) {
	const key = "recovery.channels"
	var earlier []Depth
	for _, text := range r.Channels {
		d, err := parseDepth(text)
		if err != nil {
			l.complain(key, text, err.Error(), depthAccepted)
			continue
		}
		if problem, remedy := patternFault(d.Pattern); problem != "" {
			l.complain(key, text, problem, remedy)
		}
		if d.Publications > r.MaxPublications {
			l.complain(key, text, fmt.Sprintf("more than recovery.max_publications, which is %d", r.MaxPublications),
				"raise that, or write less")
		}
		for _, e := range earlier {
			prefix, ok := strings.CutSuffix(e.Pattern, "*")
			if e.Pattern == d.Pattern || ok && strings.HasPrefix(strings.TrimSuffix(d.Pattern, "*"), prefix) {
				l.complain(key, text, fmt.Sprintf("has no effect after %q, which matches all of its channels", e.Pattern),
					"move it before that")
				break
			}
		}
		earlier = append(earlier, d)
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
