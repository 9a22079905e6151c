package proto

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

var numberTooLong = regexp.MustCompile(`[0-9.eE+-]{1000}`)

// checkCompact compares with encoding/json, which takes invalid UTF-8 that we
// refuse, and checks what is promised about memory.
func checkCompact(tb testing.TB, value []byte) {
	tb.Helper()
	before := bytes.Clone(value)
	dst := make([]byte, 7, 100)
	out, err := CompactJSON(dst, value, DepthMax)
	ok := err == nil
	require.Equal(tb, before, value, "the value was changed")
	if valid := json.Valid(value) && utf8.Valid(value); errors.Is(err, ErrJSONNumber) {
		require.Regexp(tb, numberTooLong, string(value))
	} else {
		require.Equal(tb, valid, ok)
	}
	require.Equal(tb, json.Valid(value) && utf8.Valid(value), ValidJSON(value))
	require.Equal(tb, before, value, "the value was changed")
	if !ok {
		require.Nil(tb, out)
		return
	}
	var want bytes.Buffer
	require.NoError(tb, json.Compact(&want, value))
	require.Equal(tb, want.String(), string(out))
	require.NotContains(tb, string(out), "\n")
	switch trimmed := bytes.TrimRight(value, " \t\r\n"); {
	case len(out) == len(trimmed):
		require.Same(tb, &value[0], &out[0], "a compact value was copied")
		require.Equal(tb, len(out), cap(out), "an append would write into the value")
	case cap(dst) >= len(value):
		require.Same(tb, &dst[0], &out[0], "dst was not used")
	default:
		require.NotSame(tb, &value[0], &out[0])
	}
	// Once more changes nothing.
	again, err := CompactJSON(nil, out, DepthMax)
	require.NoError(tb, err)
	require.Equal(tb, string(out), string(again))
}

var validValues = []string{
	`null`, `true`, `false`, `0`, `-0`, `1.5e+300`, `1e99999`, strings.Repeat("9", 1000), `""`, `"a"`, `[]`, `{}`, `[[]]`, `{"":{}}`,
	` null`, "null\n", " \t\r\n{ } \t\r\n", "[ ]", "[\n1,\n2\n]\n", "{\n  \"a\": [1, 2, {\"b\": null}],\n  \"c\": \"x y\"\n}",
	`"\u0000\ud800\"\\\/\b\f\n\r\t"`, "\"\u2028\u2029\"", "\" \u00e9 \"", "\"\x7f\"", `{"a":1,"a":2}`,
	`[1 ,2]`, `[1, 2]`, `{"a" :1}`, `{"a": 1}`, `{ "a":1}`, `{"a":1 }`, `[{},{}, []]`, `"a" `, ` "a"`,
	strings.Repeat("[", DepthMax) + strings.Repeat("]", DepthMax),
	strings.Repeat(`{"a":[`, DepthMax/2) + strings.Repeat("]}", DepthMax/2),
	strings.Repeat("[ ", 200) + strings.Repeat(" ]", 200),
	`{"symbol":"ACME","price":12.50,"size":100,"time":"2026-09-01T12:00:00.000Z","tags":["a","b"]}`,
}

var invalidValues = []string{
	``, ` `, "\n", `}{`, `{}{}`, `{} {}`, "{}\n{}", `1 2`, `{`, `[`, `}`, `]`, `[}`, `{]`, `[1,]`, `[,1]`, `[1 1]`, `{"a"}`, `{"a":}`, `{"a":1,}`,
	`{,}`, `{1:2}`, `{a:1}`, `{"a":1]`, `[1}`, `{"a" 1}`, `{"a":1 "b":2}`, `nul`, `nulll`, `True`, `+1`, `01`, `.5`, `1.`, `1e`, `-`, `0x1`, `NaN`, `Infinity`,
	`"`, `"a`, `"\x"`, `"\u12"`, `"\u12g4"`, `'a'`, `a`, "\x00", "{}\x00", "\x00{}", "\"\x00\"", "\"a\nb\"", "\"a\tb\"", "\"\x1f\"", "{\"a\x00\":1}",
	"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"", "{\"\xff\":1}", "\xef\xbb\xbf{}", "\xff", "\u00a0{}", "{}\u2028",
	"\v1", "\f1", "[1]\v", "// a\n1", "/**/1", `["a",`, `{"a":1,"b"`, `{"a":`,
	strings.Repeat("[", DepthMax+1) + strings.Repeat("]", DepthMax+1),
	strings.Repeat("[", DepthMax) + "{}" + strings.Repeat("]", DepthMax),
	strings.Repeat("[", 100_000),
	strings.Repeat(`{"a":`, 100_000),
}

func TestCompactJSON(t *testing.T) {
	for _, value := range validValues {
		require.True(t, ValidJSON([]byte(value)), "%.60q", value)
		checkCompact(t, []byte(value))
	}
	for _, value := range invalidValues {
		require.False(t, ValidJSON([]byte(value)), "%.60q", value)
		checkCompact(t, []byte(value))
	}
	checkCompact(t, nil)
}

// Every way to cut a value short, and to put a wrong byte into it.
func TestCompactJSONDamaged(t *testing.T) {
	value := []byte("{\n  \"a\": [1, 2.5, {\"b\": null, \"\\u00e9\u00e9\": true}],\n  \"c\": \"x y\\n\"\n}\n")
	checkCompact(t, value)
	for i := range value {
		checkCompact(t, value[:i])
		checkCompact(t, value[i:])
		for _, c := range []byte{0, ' ', '\n', '"', '\\', '{', '}', '[', ']', ',', ':', '0', 0x80, 0xff} {
			damaged := bytes.Clone(value)
			damaged[i] = c
			checkCompact(t, damaged)
		}
	}
}

// The nesting is kept in words of 64: every depth around them, of objects and
// arrays mixed so that a lost bit shows.
func TestCompactJSONNesting(t *testing.T) {
	for depth := range 300 {
		var open, end strings.Builder
		var closers []byte
		for i := range depth {
			if (i*7+i/64)%3 == 0 {
				open.WriteString(`{"k": `)
				closers = append(closers, '}')
			} else {
				open.WriteString(`[ 0,`)
				closers = append(closers, ']')
			}
		}
		for i := len(closers) - 1; i >= 0; i-- {
			end.WriteByte(closers[i])
		}
		checkCompact(t, []byte(open.String()+"1"+end.String()))
		if depth > 0 {
			wrong := []byte(end.String())
			wrong[depth/2] ^= '}' ^ ']'
			checkCompact(t, append([]byte(open.String()+"1"), wrong...))
			require.False(t, ValidJSON(append([]byte(open.String()+"1"), wrong...)))
		}
	}
}

// Large values of every kind. Those that could fill a stack or grow a buffer
// have 8 MiB, the most that a topic is likely to let pass.
func TestCompactJSONLarge(t *testing.T) {
	fill := func(begin, middle, end string) []byte {
		size := 1 << 20
		if strings.ContainsAny(middle, "[{") {
			size = 8 << 20
		}
		return []byte(begin + strings.Repeat(middle, (size-len(begin)-len(end))/len(middle)) + end)
	}
	for name, value := range map[string][]byte{
		"string":          fill(`"`, "x", `"`),
		"escapes":         fill(`"`, `\u00e9`, `"`),
		"text":            fill(`"`, "é€𝄞 ", `"`),
		"number":          fill(`1`, "0", ``),
		"array":           fill(`[0`, ",1", `]`),
		"objects":         fill(`[{}`, `,{"a":"b"}`, `]`),
		"pretty":          fill("[\n0", ",\n  {\n    \"a\": \"b\"\n  }", "\n]\n"),
		"whitespace":      fill("[", " ", "]"),
		"newline behind":  fill(`"`, "x", "\"\n"),
		"too deep":        fill("", "[", ""),
		"too deep object": fill("", `{"a":`, ""),
		"bad at the end":  fill(`"`, "x", "\xff\""),
		"NUL at the end":  fill(`"`, "x", "\x00\""),
		"second value":    fill(`"`, "x", `"{}`),
	} {
		t.Run(name, func(t *testing.T) { checkCompact(t, value) })
	}
}

// Many clients' parsers refuse what is valid JSON: deep nesting and long numbers.
func TestCompactJSONForClients(t *testing.T) {
	nested := func(depth int) []byte {
		return []byte(strings.Repeat("[", depth-1) + "{}" + strings.Repeat("]", depth-1))
	}
	for _, depthMax := range []int{1, 2, 63, 64, 65, 128, 1000, DepthMax} {
		_, err := CompactJSON(nil, nested(depthMax), depthMax)
		require.NoError(t, err, depthMax)
		for _, value := range [][]byte{nested(depthMax + 1), []byte(strings.Repeat("[ ", depthMax) + `[0` +
			strings.Repeat("]", depthMax+1)), []byte(strings.Repeat(`{"a":`, depthMax+1))} {
			out, err := CompactJSON(nil, value, depthMax)
			require.ErrorIs(t, err, ErrJSONDepth, depthMax)
			require.Nil(t, out)
		}
	}
	_, err := CompactJSON(nil, nested(DepthMax+1), 1<<30)
	require.ErrorIs(t, err, ErrJSONDepth)
	_, err = CompactJSON(nil, []byte("[[[["), 128)
	require.ErrorIs(t, err, ErrNotJSON)

	digits := strings.Repeat("9", NumberBytesMax)
	for value, want := range map[string]error{
		digits: nil, digits + "9": ErrJSONNumber, `[-` + digits + `]`: ErrJSONNumber, `{"a":` + digits + `}`: nil,
		`{"a":1.` + digits + `}`: ErrJSONNumber, `"` + digits + digits + `"`: nil, digits + digits + "x": ErrJSONNumber,
	} {
		_, err := CompactJSON(nil, []byte(value), 128)
		require.ErrorIs(t, err, want, "%.20s", value)
	}
}

func TestCompactJSONDoesNotAllocate(t *testing.T) {
	compact, pretty := []byte(validValues[len(validValues)-1]), []byte("{\n\t\"symbol\": \"ACME\",\n\t\"price\": 12.50\n}\n")
	dst := make([]byte, 0, 256)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := CompactJSON(dst, compact, 128); err != nil {
			t.Fatal(err)
		}
		if _, err := CompactJSON(dst, pretty, 128); err != nil {
			t.Fatal(err)
		}
	}))
}
