package config

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes.
type Bytes int64

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

// UnmarshalText reads a whole number with a unit: 500, 64KiB, 1MiB, 2GiB, 64KB, 1MB, 2GB.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	digits := strings.TrimRight(s, "KMGiBkmgb ")
	suffix := strings.TrimSpace(s[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	if err == nil {
		for _, u := range units {
			if strings.EqualFold(u.suffix, suffix) {
				if n < 0 || n > math.MaxInt64/u.bytes {
					return fmt.Errorf("%q is no possible size", s)
				}
				*b = Bytes(n * u.bytes)
				return nil
			}
		}
	}
	return fmt.Errorf("%q is no size: write a whole number of bytes or one with KiB, MiB or GiB, such as 64KiB", s)
}

// String returns the size exactly, in the largest unit that divides it.
func (b Bytes) String() string {
	for _, unit := range []struct {
		suffix string
		bytes  Bytes
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if b != 0 && b%unit.bytes == 0 {
			return strconv.FormatInt(int64(b/unit.bytes), 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Secret is a text that is never shown: it prints as (redacted).
type Secret string

const redacted = "(redacted)"

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads [TOPIC=]CHANNEL.
func (r *Route) UnmarshalText(text []byte) error {
	topic, channel, found := strings.Cut(string(text), "=")
	if !found {
		topic, channel = "", string(text)
	}
	*r = Route{Topic: topic, Channel: channel}
	return nil
}

// String returns the route as UnmarshalText reads it.
func (r Route) String() string {
	if r.Topic == "" {
		return r.Channel
	}
	return r.Topic + "=" + r.Channel
}
