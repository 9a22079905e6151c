package steering

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSetting reads a value of `wsd steer set` for every setting: what is read is in range, and written as Text writes
// it, it is read as the same.
func FuzzSetting(f *testing.F) {
	for _, s := range AllSettings() {
		f.Add(s.Text(s.Instead), s.Max)
	}
	for _, text := range []string{"p2c", "true", "1", "0x10", "-1", "1e3", "4294967296", "150ms", "1h0m0.5s", "-0s", "9223372036854775807ns", "1.5ms", " 1", "٣"} {
		f.Add(text, uint32(1)<<31)
	}
	f.Fuzz(func(t *testing.T, text string, raw uint32) {
		for _, s := range AllSettings() {
			value, err := s.Parse(text)
			if err != nil {
				require.Zero(t, value)
				require.Contains(t, err.Error(), s.Name+" ")
			} else {
				require.LessOrEqual(t, value, s.Max)
				again, err := s.Parse(s.Text(value))
				require.NoError(t, err)
				require.Equal(t, value, again, "%s %q", s.Name, text)
			}
			// Whatever somebody writes into the map by bpftool, what applies is in range.
			require.LessOrEqual(t, s.InForce(raw), s.Max)
			require.NotEmpty(t, s.Text(raw))
			if raw <= s.Max && s.Unit != Switch {
				value, err = s.Parse(s.Text(raw))
				require.NoError(t, err)
				require.Equal(t, raw, value)
			}
		}
	})
}
