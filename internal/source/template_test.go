package source

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func headerBytes(pairs ...string) []byte {
	b := binary.AppendVarint(nil, int64(len(pairs)/2))
	for _, s := range pairs {
		b = binary.AppendVarint(b, int64(len(s)))
		b = append(b, s...)
	}
	return b
}

func TestTemplateErrors(t *testing.T) {
	for channel, want := range map[string]string{
		"":                       "empty",
		"a{":                     "the { at byte 1 is not closed",
		"a{topic":                "the { at byte 1 is not closed",
		"a}b":                    "a } without its { at byte 1",
		"{topic}}":               "a } without its { at byte 7",
		"{}":                     "unknown placeholder {}",
		"{user}":                 "unknown placeholder {user}",
		"{Topic}":                "unknown placeholder {Topic}",
		"{header.}":              "unknown placeholder {header.}",
		"{a{topic}}":             "unknown placeholder {a{topic}",
		"\xff":                   "not valid UTF-8",
		strings.Repeat("x", 256): "256 bytes of text",
	} {
		_, err := parseRoutes([]Route{{Channel: "{topic}"}, {Channel: channel}})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "routes[1].channel")
	}
}

func TestTemplateRender(t *testing.T) {
	rec := &record{key: []byte("k1"), headers: headerBytes("h", "old", "user", "ann", "h", "new", "empty", "")}
	for channel, want := range map[string]string{
		"{topic}":                          "trades",
		"plain":                            "plain",
		"{topic}:{key}":                    "trades:k1",
		"{partition}/{key}/{partition}":    "12/k1/12",
		"u-{header.user}":                  "u-ann",
		"{header.h}":                       "new", // The last of several with one name.
		"é{key}":                           "ék1",
		strings.Repeat("x", 253) + "{key}": strings.Repeat("x", 253) + "k1",
	} {
		tm, err := parseTemplate(Route{Channel: channel})
		require.NoError(t, err)
		name, _, ok := tm.render(nil, "trades", 12, rec)
		require.True(t, ok, channel)
		require.Equal(t, want, string(name))
		require.True(t, tm.pattern("trades", "").Match(name), "the pattern of %s does not match what it rendered", channel)
	}
}

func TestTemplateUnplaced(t *testing.T) {
	for _, c := range []struct {
		channel string
		rec     record
		want    Unplaced
	}{
		{"{key}", record{}, UnplacedMissing},
		{"{key}", record{key: []byte{}}, UnplacedMissing},
		{"{key}", record{key: []byte("a\xffb")}, UnplacedText},
		{"{key}", record{key: []byte(strings.Repeat("k", 256))}, UnplacedLength},
		{"x{key}", record{key: []byte(strings.Repeat("k", 255))}, UnplacedLength},
		{"{key}{topic}", record{key: []byte(strings.Repeat("k", 255))}, UnplacedLength},
		{"{header.h}", record{}, UnplacedMissing},
		{"{header.h}", record{headers: headerBytes("g", "1")}, UnplacedMissing},
		{"{header.h}", record{headers: headerBytes("h", "")}, UnplacedMissing},
		{"{header.h}", record{headers: headerBytes("h", "\xff")}, UnplacedText},
		{"{header.h}", record{headers: []byte{2, 200}}, UnplacedMissing}, // Malformed.
	} {
		tm, err := parseTemplate(Route{Channel: c.channel})
		require.NoError(t, err)
		_, why, ok := tm.render(nil, "t", 0, &c.rec)
		require.False(t, ok, "%+v", c)
		require.Equal(t, c.want, why, "%+v", c)
	}
}

func TestFirstRouteWins(t *testing.T) {
	routes, err := parseRoutes([]Route{{Topic: "a", Channel: "one"}, {Channel: "two"}, {Topic: "b", Channel: "three"}})
	require.NoError(t, err)
	require.Same(t, routes[0], matchRoute(routes, "a"))
	require.Same(t, routes[1], matchRoute(routes, "b"))
	require.Nil(t, matchRoute(routes[:1], "b"))
}

func TestRenderAllocatesNothing(t *testing.T) {
	tm, err := parseTemplate(Route{Channel: "{topic}:{key}:{header.user}:{partition}"})
	require.NoError(t, err)
	rec := &record{key: []byte("k1"), headers: headerBytes("h", "old", "user", "ann")}
	buf := make([]byte, 0, nameScratchBytes)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _, _ = tm.render(buf[:0], "topic", 3, rec) }))
}

func FuzzTemplate(f *testing.F) {
	f.Add("{topic}:{key}", []byte("k"), []byte{2, 2, 'h', 2, 'v'})
	f.Add("{header.h}{partition}", []byte(nil), []byte{})
	f.Fuzz(func(t *testing.T, channel string, key, headers []byte) {
		tm, err := parseTemplate(Route{Channel: channel})
		if err != nil {
			return
		}
		name, _, ok := tm.render(nil, "t", 7, &record{key: key, headers: headers})
		if ok && (len(name) == 0 || len(name) > channelBytesMax) {
			t.Fatalf("channel of %d bytes", len(name))
		}
		if ok && !tm.pattern("t", "").Match(name) {
			t.Fatalf("the pattern of %q does not match %q", channel, name)
		}
	})
}
