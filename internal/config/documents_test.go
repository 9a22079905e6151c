package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// defaultNamed is an option with its default as documents give it: `bus.batch_age` (5 ms), or `bus.batch_age`: 5 ms.
var defaultNamed = regexp.MustCompile("`([a-z0-9_]+(?:\\.[a-z0-9_]+)+)`(?: \\(|: )([0-9][0-9,.]*) ?(KiB|MiB|GiB|ms|s|m|h)?(?:[),;]| \\|)")

// Where documents name an option with its default, it is the default.
func TestDefaultsInDocuments(t *testing.T) {
	defaults := map[string]string{}
	for _, o := range Options() {
		defaults[o.Key] = o.Default
	}
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range defaultNamed.FindAllStringSubmatch(strings.Join(strings.Fields(string(text)), " "), -1) {
			want := defaults[m[1]]
			if want == "" || want[0] < '1' || want[0] > '9' { // No number, or 0 for one that is derived.
				continue
			}
			found++
			require.Equal(t, want, strings.ReplaceAll(m[2], ",", "")+m[3], "%s: %s", filepath.Base(page), m[0])
		}
	}
	require.Greater(t, found, 20)
}
