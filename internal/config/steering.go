package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os/user"
	"strconv"
	"strings"
	"time"
)

const (
	weightMax = 10_000
	exemptMax = 1024 // What the map in bpf/settings.h holds.
)

// PinGroupID returns the number of PinGroup, -1 when it is empty. A number is taken as it is, whether a group has it or not. An error
// means that there is no such group (any more: Load has looked it up).
func (s Steering) PinGroupID() (int, error) {
	if s.PinGroup == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(s.PinGroup, 10, 32); err == nil && n < math.MaxUint32 { // The largest means none to chown.
		return int(n), nil
	}
	group, err := user.LookupGroup(s.PinGroup)
	if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown {
		return 0, errors.New("there is no such group")
	}
	if err != nil {
		return 0, fmt.Errorf("it cannot be looked up: %w", err)
	}
	n, err := strconv.Atoi(group.Gid)
	if err != nil {
		return 0, fmt.Errorf("its number %q is none", group.Gid)
	}
	return n, nil
}

// ExemptPrefixes returns what SourceExempt names, an address as the prefix that holds it alone. One that Load would refuse is a BUG.
func (l Limits) ExemptPrefixes() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range l.SourceExempt {
		p, problem := parsePrefix(text)
		if problem != "" {
			panic(fmt.Sprintf("BUG: steering.limits.source_exempt %q passed the checks", text))
		}
		list = append(list, p)
	}
	return list
}

// parsePrefix reads a prefix or an address. IPv4 addresses written as IPv6 ones are refused, as they would be one source under two names.
func parsePrefix(text string) (p netip.Prefix, problem string) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return p, "it is no prefix"
		case p.Addr().Is4In6():
			return p, "it is an IPv4 prefix written as an IPv6 one"
		case p != p.Masked():
			return p, fmt.Sprintf("it has bits set beyond its length: the prefix is %v", p.Masked())
		}
		return p, ""
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return p, "it is no address"
	case a.Zone() != "":
		return p, "it names a zone"
	case a.Is4In6():
		return p, "it is an IPv4 address written as an IPv6 one"
	}
	return netip.PrefixFrom(a, a.BitLen()), ""
}

func (l *loader) checkSteering(c *Config) {
	s, limits := &c.Steering, &c.Steering.Limits
	milliseconds(l, "steering.stall_bound", s.StallBound, time.Minute)
	milliseconds(l, "steering.ramp", s.Ramp, 10*time.Minute)
	number(l, "steering.pending_max", s.PendingMax, 0, math.MaxInt32)
	number(l, "steering.cpu_local_bound", s.CPULocalBound, 0, math.MaxInt32)
	number(l, "steering.limits.admission", limits.Admission, 0, 100)
	number(l, "steering.limits.source_rate", limits.SourceRate, 0, 1_000_000)
	number(l, "steering.limits.source_burst", limits.SourceBurst, 0, 1_000_000)
	number(l, "steering.limits.source_prefix4", limits.SourcePrefix4, 0, 32)
	number(l, "steering.limits.source_prefix6", limits.SourcePrefix6, 0, 128)
	number(l, "steering.limits.sources_max", limits.SourcesMax, 1024, 4_000_000)
	for _, w := range s.Weights {
		number(l, "steering.weights", w, 0, weightMax)
	}
	if n := len(s.Weights); !l.bad["shards"] && c.Shards > 0 && n > c.Shards {
		l.complain("steering.weights", joined(c.Steering.Weights), fmt.Sprintf("it has %d weights, and shards is %d", n, c.Shards), "leave out what is too much, or raise shards")
	}
	if _, err := s.PinGroupID(); err != nil {
		l.complain("steering.pin_group", s.PinGroup, err.Error(), "set one that `getent group` lists, or its number")
	}
	l.checkExempt(limits.SourceExempt)
}

// milliseconds checks a duration that the steering program counts in whole ones.
func milliseconds(l *loader, key string, value, most time.Duration) {
	number(l, key, value, 0, most)
	if value%time.Millisecond != 0 {
		l.complain(key, value.String(), "it must be whole milliseconds", "")
	}
}

func (l *loader) checkExempt(texts []string) {
	const key = "steering.limits.source_exempt"
	if n := len(texts); n > exemptMax {
		l.complain(key, "", fmt.Sprintf("it has %d prefixes, at most %d are possible", n, exemptMax), "join some into shorter prefixes")
	}
	seen := make(map[netip.Prefix]bool)
	for _, text := range texts {
		p, problem := parsePrefix(text)
		switch {
		case problem != "":
			l.complain(key, text, problem, "write such as 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32")
		case seen[p]:
			l.complain(key, text, "it is named twice", "leave one")
		}
		seen[p] = true
	}
}

// joined is a list of numbers as it would be written.
func joined(numbers []int) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.Itoa(n)
	}
	return strings.Join(texts, ",")
}
