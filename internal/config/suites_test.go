package config

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The configuration that docs/clients.md has for the SDKs' own tests is valid.
func TestSuitesExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/clients.md")
	require.NoError(t, err)
	_, example, found := strings.Cut(string(doc), "<!-- file: suites.yaml -->\n```yaml\n")
	require.True(t, found)
	example, _, _ = strings.Cut(example, "```")
	const secret = "/tmp/suites.hmac"
	require.Contains(t, example, secret)
	example = strings.ReplaceAll(example, secret, tempFile(t, "hmac", "secret"+strings.Repeat("\x00", 10)))
	loaded, err := Load(Input{File: tempFile(t, "suites.yaml", example)})
	require.NoError(t, err)
	require.Len(t, loaded.Config.Routes, 1)
}
