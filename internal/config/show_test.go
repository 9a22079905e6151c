package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// What Show prints is a configuration with the same meaning, and so is what Defaults prints.
func TestRoundTrip(t *testing.T) {
	l, err := Load(Input{Flags: map[string]any{
		"client.listen": []string{":1", "[::1]:2"}, "kafka.topics": []string{"a"}, "client.slow_policies": []string{"a=b.*=conflate", "*=disconnect"}, "routes": []string{"a=x.{key}", "{topic}: 'odd', #"},
		"bus.stall_max": "1500us", "client.outbound_max": "1000001", "admin.listen": "", "shards": "7", "kafka.client_id": "true",
	}})
	require.NoError(t, err)
	var shown strings.Builder
	require.NoError(t, l.Show(&shown))
	require.Contains(t, shown.String(), "shards: 7 # flag --shards\n")
	again, err := Load(Input{File: tempFile(t, "wsd.yaml", shown.String())})
	require.NoError(t, err, shown.String())
	require.Equal(t, normal(l.Config), normal(again.Config))

	var defaults strings.Builder
	require.NoError(t, Defaults(&defaults))
	fromFile, err := Load(Input{File: tempFile(t, "wsd.yaml", defaults.String())})
	require.NoError(t, err)
	plain, err := Load(Input{})
	require.NoError(t, err)
	require.Equal(t, normal(plain.Config), normal(fromFile.Config))
	for _, o := range Options() {
		first, _, _ := strings.Cut(o.Help, ";")
		require.Contains(t, strings.Join(strings.Fields(strings.ReplaceAll(defaults.String(), "# ", "")), " "), first)
	}
}

// normal makes lists that are not there and empty ones equal.
func normal(c Config) Config {
	for _, o := range Options() {
		if field := reflect.ValueOf(&c).Elem().FieldByIndex(o.index); o.List && field.Len() == 0 {
			field.SetZero()
		}
	}
	return c
}

func TestOptions(t *testing.T) {
	seen := make(map[string]bool)
	for _, o := range Options() {
		for _, name := range []string{o.Key, o.Flag, o.Env} {
			require.False(t, seen[name], name)
			seen[name] = true
		}
		require.True(t, strings.HasSuffix(o.Help, "."), o.Key)
	}
	for _, name := range []string{"kafka.fetch_max_wait", "--kafka.fetch-max-wait", "WSD_KAFKA_FETCH_MAX_WAIT", "routes", "WSD_SHARDS"} {
		require.True(t, seen[name], name)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "500": 500, "64KiB": 64 << 10, "64 kib": 64 << 10, "1MiB": 1 << 20, "3GiB": 3 << 30, "64KB": 64_000, "2MB": 2_000_000, "7B": 7} {
		var b Bytes
		require.NoError(t, b.UnmarshalText([]byte(text)))
		require.Equal(t, want, b, text)
		var again Bytes
		require.NoError(t, again.UnmarshalText([]byte(b.String())))
		require.Equal(t, b, again)
	}
	for _, text := range []string{"", "KiB", "1.5MiB", "1TiB", "-1", "9223372036854775807KiB", "1 2", "0x10", "1KiBKiB", "99999999999999999999"} {
		require.Error(t, new(Bytes).UnmarshalText([]byte(text)), text)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"kafka.topics", "kafka.brokers", "shards"}
	require.Equal(t, "kafka.topics", nearest("kafka.topic", known))
	require.Equal(t, "shards", nearest("shard", known))
	require.Empty(t, nearest("something.else.entirely", known))
	require.Equal(t, 3, distance("kitten", "sitting"))
}

const (
	docPath = "../../docs/configuration.md"
	begin   = "<!-- made by `go test ./internal/config -update`; do not edit below -->\n"
)

func TestDocs(t *testing.T) {
	var sections []string // In the order of their first option.
	rows := make(map[string]*strings.Builder)
	for _, o := range Options() {
		section, _, nested := strings.Cut(o.Key, ".")
		if !nested {
			section = "general"
		}
		b, started := rows[section]
		if !started {
			b = new(strings.Builder)
			fmt.Fprintf(b, "\n## %s\n\n| key | default | what it does |\n| --- | --- | --- |\n", section)
			rows[section], sections = b, append(sections, section)
		}
		value := ""
		if o.Default != "" {
			value = "`" + o.Default + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", o.Key, value, strings.ReplaceAll(o.Help, "|", `\|`))
	}
	var b strings.Builder
	b.WriteString(begin)
	for _, section := range sections {
		b.WriteString(rows[section].String())
	}
	doc, err := os.ReadFile(docPath)
	require.NoError(t, err)
	head, table, found := strings.Cut(string(doc), begin)
	require.True(t, found)
	if *update {
		require.NoError(t, os.WriteFile(docPath, []byte(head+b.String()), 0o600))
		return
	}
	require.Equal(t, b.String(), begin+table, "docs/configuration.md is not current: go test ./internal/config -update")
}

// The file and the variables in the documentation are valid and mean the same.
func TestDocExamples(t *testing.T) {
	doc, err := os.ReadFile(docPath)
	require.NoError(t, err)
	text := string(doc)
	cert, _ := certificate(t)
	for path, file := range map[string]string{"/etc/wsd/ca.pem": cert, "/run/secrets/kafka": tempFile(t, "file", "hush")} {
		require.Contains(t, text, path)
		text = strings.ReplaceAll(text, path, file)
	}
	_, example, found := strings.Cut(text, "```yaml\n")
	require.True(t, found)
	example, _, _ = strings.Cut(example, "```")
	var environ []string
	for _, match := range regexp.MustCompile(`-e '?(WSD_[^' \n]+)`).FindAllStringSubmatch(text, -1) {
		environ = append(environ, match[1])
	}
	require.Len(t, environ, 8)
	fromFile, err := Load(Input{File: tempFile(t, "wsd.yaml", example)})
	require.NoError(t, err)
	fromEnviron, err := Load(Input{Environ: environ})
	require.NoError(t, err)
	require.Equal(t, normal(fromFile.Config), normal(fromEnviron.Config))
	require.Equal(t, []Route{{Topic: "trades", Channel: "trades.{key}"}, {Channel: "{topic}"}}, fromFile.Config.Routes)
}

func FuzzFile(f *testing.F) {
	f.Add("client: {listen: [':1']}\n")
	f.Add("a: &a [*a]\n")
	f.Add("routes: [{topic: x}, 'a=b']\nkafka: {sasl: {password: x}}\n")
	f.Add("? {}\n: ~\n")
	f.Fuzz(func(_ *testing.T, text string) {
		l := &loader{loaded: &Loaded{given: make(map[string]given)}, options: make(map[string]Option)}
		for _, o := range Options() {
			l.options[o.Key], l.keys = o, append(l.keys, o.Key)
		}
		l.parse("f", []byte(text))
		l.decode()
		l.check()
		_ = (&Error{Faults: l.faults}).Error()
	})
}
