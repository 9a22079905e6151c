package config

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A route written as a mapping means what it says or is refused.
func TestRouteMapping(t *testing.T) {
	for text, want := range map[string]string{
		"{topic: 'a=b', channel: c}":              `routes[0].topic = a=b (file FILE:1): not a topic's name`,
		"{topic: a, topic: b, channel: c}":        `routes[0] (file FILE:1): duplicate key "topic" in the route; remove one`,
		"{topic: a, channel: ~}":                  "the channel is empty",
		"{topic: a}":                              "the channel is empty",
		"{topic: {a: b}, channel: c}":             "routes[0] (file FILE:1): topic must be a text",
		"{topic: a, channel: b, ? [complex] : c}": "unknown key",
	} {
		require.Contains(t, faults(t, Input{File: tempFile(t, "wsd.yaml", "routes: ["+text+"]\n")}), want, text)
	}
	for text, want := range map[string]Route{
		"{topic: ~, channel: x}":                   {Channel: "x"},
		"{channel: 'a=b'}":                         {Channel: "a=b"},
		"{topic: a, channel: 'x=y,z'}":             {Topic: "a", Channel: "x=y,z"},
		"{topic: &t a, channel: *t}":               {Topic: "a", Channel: "a"},
		"'trades=t.{key}'":                         {Topic: "trades", Channel: "t.{key}"},
		"'{topic}.{partition}-{header.user id}'":   {Channel: "{topic}.{partition}-{header.user id}"},
		"{topic: 7, channel: 1.5}":                 {Topic: "7", Channel: "1.5"},
		"{channel: '{key}', topic: a.b_c-D}":       {Topic: "a.b_c-D", Channel: "{key}"},
		"{topic: '', channel: 'a', } # a comment ": {Channel: "a"},
	} {
		l, err := Load(Input{File: tempFile(t, "wsd.yaml", "routes:\n  - "+text+"\n")})
		require.NoError(t, err, text)
		require.Equal(t, []Route{want}, l.Config.Routes, text)
	}
}

// The forms of a slow policy mean the same.
func TestSlowPolicies(t *testing.T) {
	want := []SlowPolicy{{"prices.*", "conflate"}, {"a=b", "disconnect"}}
	for _, in := range []Input{
		{File: tempFile(t, "wsd.yaml", "client: {slow_policies: [{channel: prices.*, policy: conflate}, {policy: disconnect, channel: a=b}]}")},
		{File: tempFile(t, "wsd.yaml", "client: {slow_policies: [prices.*=conflate, a=b=disconnect]}")},
		{Environ: []string{"WSD_CLIENT_SLOW_POLICIES=prices.*=conflate, a=b=disconnect"}},
		{Flags: map[string]any{"client.slow_policies": []string{"prices.*=conflate", "a=b=disconnect"}}},
	} {
		l, err := Load(in)
		require.NoError(t, err)
		require.Equal(t, want, l.Config.Client.SlowPolicies)
	}
}

// Whatever is wrong around a password, the message does not show it.
func TestPasswordInErrors(t *testing.T) {
	for _, text := range []string{
		"password: *hush", "password: [hush]", "password: {a: hush}", "password: hush", "password: hush\n    password: hush", "password: \"hush\n",
	} {
		got := faults(t, Input{File: tempFile(t, "wsd.yaml", "kafka:\n  sasl:\n    "+text+"\n")})
		require.NotContains(t, got, "hush", text)
	}
	require.Contains(t, faults(t, Input{File: tempFile(t, "wsd.yaml", "kafka: {sasl: {password: *hush}}\n")}), "put it in quotes")
	got := faults(t, Input{File: tempFile(t, "wsd.yaml", "kafka: {sasl: hush}\n")})
	require.Equal(t, "kafka.sasl (file FILE:1): a section of options, not an option; write its options below it, indented", got)
	for _, in := range []Input{
		{Environ: []string{"WSD_KAFKA_SASL_PASWORD=hush"}},
		{Environ: []string{"WSD_KAFKA_SASL_PASSWORD=hush"}},
		{Flags: map[string]any{"kafka.sasl.pasword": "hush"}},
		{Flags: map[string]any{"kafka.sasl.password": "hush"}},
		{Flags: map[string]any{"kafka.sasl.password": []string{"hush", "hush"}}},
	} {
		require.NotContains(t, faults(t, in), "hush")
	}
}

// A value that is not understood is the only fault: what is compared with it is not blamed.
func TestOneFaultEach(t *testing.T) {
	for _, key := range []string{"client.ping_interval", "client.pong_timeout", "client.outbound_max", "bus.batch_bytes_max", "bus.ring_bytes_max"} {
		got := faults(t, Input{Flags: map[string]any{key: "abc"}})
		require.NotContains(t, got, "\n", key)
		require.Contains(t, got, key+" = abc (flag --"+strings.ReplaceAll(key, "_", "-")+"): ")
	}
	require.Contains(t, faults(t, Input{Flags: map[string]any{"client.outbound_max": "256KiB"}}), "bus.batch_bytes_max = 256KiB (default): must be at most half of client.outbound_max")
}

// No way to print a secret shows it.
func TestSecretFormats(t *testing.T) {
	s := SASL{Password: "hush"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%10s", "%z"} {
		require.NotContains(t, fmt.Sprintf(verb, s.Password), "hush", verb)
		require.NotContains(t, fmt.Sprintf(verb, &s), "hush", verb)
		require.NotContains(t, fmt.Sprintf(verb, s), fmt.Sprintf("%x", "hush"), verb)
	}
	text, err := json.Marshal(s)
	require.NoError(t, err)
	require.NotContains(t, string(text), "hush")
	require.Contains(t, string(text), redacted)
	require.Empty(t, fmt.Sprint(Secret("")))
}

// A password that came from a file is not part of what is shown, so that the rest can be loaded again.
func TestShowPasswordFile(t *testing.T) {
	file := tempFile(t, "password", "hush\n")
	l, err := Load(Input{Flags: map[string]any{"kafka.sasl.mechanism": "plain", "kafka.sasl.username": "u", "kafka.sasl.password_file": file}})
	require.NoError(t, err)
	var shown strings.Builder
	require.NoError(t, l.Show(&shown))
	require.NotContains(t, shown.String(), "hush")
	require.EqualValues(t, "hush", l.Config.Kafka.SASL.Password, "Show changes nothing")
	public := tempFile(t, "wsd.yaml", shown.String())
	require.NoError(t, os.Chmod(public, 0o644)) // It holds no password, so everybody may read it.
	again, err := Load(Input{File: public})
	require.NoError(t, err, shown.String())
	require.Equal(t, normal(l.Config), normal(again.Config))

	var twice strings.Builder
	require.NoError(t, again.Show(&twice))
	_, err = Load(Input{File: tempFile(t, "wsd.yaml", twice.String())})
	require.NoError(t, err, twice.String())
}

// Every text survives Show and Load, whatever it means to YAML.
func TestShowOddTexts(t *testing.T) {
	for _, text := range []string{
		"null", "~", "yes", "1e3", "0x1", " x ", "a\nb", "a\n", "# c", "a: b", "- x", "'", `"`, "é", "\t", "a\u2028b", "{", "*x", "!!str y", "a #b", "", "\x01",
	} {
		l, err := Load(Input{Flags: map[string]any{"kafka.client_id": text, "routes": []string{"t=x" + strings.ReplaceAll(text, "{", "{key}")}}})
		require.NoError(t, err, "%q", text)
		var shown strings.Builder
		require.NoError(t, l.Show(&shown))
		again, err := Load(Input{File: tempFile(t, "wsd.yaml", shown.String())})
		require.NoError(t, err, "%q", text)
		require.Equal(t, normal(l.Config), normal(again.Config), "%q", text)
	}
}

func TestBytesText(t *testing.T) {
	for size, want := range map[Bytes]string{0: "0", 500: "500", 8_000: "8000", 32 << 10: "32KiB", 1 << 20: "1MiB", 3 << 30: "3GiB", 1<<20 + 1: "1048577"} {
		text, err := size.MarshalText()
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	for text, want := range map[string]Bytes{"64KIB": 64 << 10, "8kb": 8_000, " 1 MiB ": 1 << 20, "9223372036854775807": 1<<63 - 1, "007": 7} {
		var b Bytes
		require.NoError(t, b.UnmarshalText([]byte(text)))
		require.Equal(t, want, b, text)
	}
	for text, want := range map[string]string{
		"-1": "out of range", "-1KiB": "out of range", "9223372036854775808": "out of range", "8589934592GiB": "out of range",
		"-": "not a size", "--1": "not a size", "1-": "not a size", "+5": "not a size", "five": "not a size", "1.5MiB": "not a size",
	} {
		b := Bytes(42)
		err := b.UnmarshalText([]byte(text))
		require.ErrorContains(t, err, fmt.Sprintf("%q is %s: write a whole number of bytes, or one with KiB", text, want))
		require.EqualValues(t, 42, b, "a refused text changes nothing")
	}
}
