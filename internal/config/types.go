package config

import (
	"fmt"
	"io"
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
	const accepted = "write a whole number of bytes, or one with KiB, MiB or GiB, such as 64KiB"
	s := strings.TrimSpace(string(text))
	digits := s[:len(s)-len(strings.TrimLeft(strings.TrimPrefix(s, "-"), "0123456789"))]
	suffix := strings.TrimSpace(s[len(digits):])
	for _, u := range units {
		if strings.Trim(digits, "-") == "" || !strings.EqualFold(u.suffix, suffix) {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes { // ParseInt fails only for a number that is too large.
			return fmt.Errorf("%q is out of range: %s", s, accepted)
		}
		*b = Bytes(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size: %s", s, accepted)
}

// MarshalText returns what String does.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String returns the exact size, in the largest unit that divides it.
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

// Secret is a text that must not be shown. It prints as (redacted).
type Secret string

const redacted = "(redacted)"

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format implements fmt.Formatter, because fmt would print the raw text for a verb such as %d.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Address is a URL whose query may contain a secret. It prints without it.
type Address string

// String implements fmt.Stringer.
func (a Address) String() string {
	if at := strings.IndexAny(string(a), "?#"); at >= 0 {
		return string(a[:at]) + "?" + redacted
	}
	return string(a)
}

// Format implements fmt.Formatter, because fmt would print the raw text for a verb such as %q.
func (a Address) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, a.String()) }

// LogValue implements slog.LogValuer.
func (a Address) LogValue() slog.Value { return slog.StringValue(a.String()) }

// UnmarshalText reads PATTERN=POLICY. The pattern may contain a =.
func (p *SlowPolicy) UnmarshalText(text []byte) error {
	separator := strings.LastIndexByte(string(text), '=')
	if separator < 0 {
		return fmt.Errorf("%q lacks a policy: write PATTERN=POLICY, such as prices.*=conflate", text)
	}
	*p = SlowPolicy{Channel: string(text[:separator]), Policy: string(text[separator+1:])}
	return nil
}

// String returns the policy as UnmarshalText reads it.
func (p SlowPolicy) String() string { return p.Channel + "=" + p.Policy }
