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
	exemptMax = 1024 // Entries of the map source_exempt in bpf/settings.h.
)

// PinGroupID returns the gid of PinGroup, or -1 if PinGroup is empty. It returns a number as it is, even if no group
// has it. An error means that the group does not exist, or no longer exists: Load has looked it up before.
func (s Steering) PinGroupID() (int, error) {
	if s.PinGroup == "" {
		return -1, nil
	}
	// chown takes the largest number for "no change".
	if n, err := strconv.ParseUint(s.PinGroup, 10, 32); err == nil && n < math.MaxUint32 {
		return int(n), nil
	}
	group, err := user.LookupGroup(s.PinGroup)
	if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown {
		return 0, errors.New("no such group")
	}
	if err != nil {
		return 0, fmt.Errorf("cannot be looked up: %w", err)
	}
	n, err := strconv.Atoi(group.Gid)
	if err != nil {
		return 0, fmt.Errorf("its gid %q is not a number", group.Gid)
	}
	return n, nil
}

// ExemptPrefixes returns SourceExempt as prefixes, with a single address as a prefix of its full length. It panics on
// an entry that Load refuses.
func (l Limits) ExemptPrefixes() []netip.Prefix {
	return mustPrefixes("steering.limits.source_exempt", l.SourceExempt)
}

// parsePrefix reads a prefix or an address. It refuses an IPv4 address that is written as an IPv6 one, because the same
// client address would then have two names.
func parsePrefix(text string) (p netip.Prefix, problem string) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return p, "not a prefix"
		case p.Addr().Is4In6():
			return p, "an IPv4 prefix written as an IPv6 one"
		case p != p.Masked():
			return p, fmt.Sprintf("has bits set after its length; the prefix is %v", p.Masked())
		}
		return p, ""
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return p, "not an address"
	case a.Zone() != "":
		return p, "must not have a zone"
	case a.Is4In6():
		return p, "an IPv4 address written as an IPv6 one"
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
	for shard, w := range s.Weights {
		if w < 0 || w > weightMax {
			l.complain("steering.weights", fmt.Sprint(w),
				fmt.Sprintf("the weight of shard %d must be from 0 to %d", shard, weightMax), "")
		}
	}
	if n := len(s.Weights); !l.bad["shards"] && c.Shards > 0 && n > c.Shards {
		l.complain("steering.weights", joined(c.Steering.Weights),
			fmt.Sprintf("has %d weights, but shards is %d", n, c.Shards), "remove some weights, or raise shards")
	}
	if _, err := s.PinGroupID(); err != nil {
		l.complain("steering.pin_group", s.PinGroup, err.Error(), "set a group that `getent group` lists, or its gid")
	}
}

// milliseconds checks a duration from 0 to largest that the steering program counts in whole milliseconds.
func milliseconds(l *loader, key string, value, largest time.Duration) {
	number(l, key, value, 0, largest)
	if value%time.Millisecond != 0 {
		l.complain(key, value.String(), "must be whole milliseconds", "")
	}
}

// checkPrefixes checks a list of addresses and prefixes, and reports whether it has no fault.
func (l *loader) checkPrefixes(key string, texts []string) (good bool) {
	good = true
	bad := func(text, problem, remedy string) {
		good = false
		l.complain(key, text, problem, remedy)
	}
	if n := len(texts); n > exemptMax {
		bad("", fmt.Sprintf("has %d prefixes; the maximum is %d", n, exemptMax), "merge some into shorter prefixes")
	}
	seen := make(map[netip.Prefix]bool)
	for _, text := range texts {
		p, problem := parsePrefix(text)
		switch {
		case problem != "":
			bad(text, problem, "write it like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32")
		case seen[p]:
			bad(text, "listed twice", "remove one")
		}
		seen[p] = true
	}
	return good
}

// joined returns a list of numbers as it would be written in a flag.
func joined(numbers []int) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.Itoa(n)
	}
	return strings.Join(texts, ",")
}
