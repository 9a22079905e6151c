package wire

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const (
	kosme   = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5" // κόσμε
	fancy   = "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!"
	invalid = kosme + "\xed\xa0\x80edited" // A surrogate in the middle.
	tooHigh = "\xf4\x90\x80\x80"           // Beyond U+10FFFF: wrong at its second byte.
)

// TestAutobahnUTF8 runs the cases 6.* by number.
func TestAutobahnUTF8(t *testing.T) {
	runConformance(t, []conformance{
		{"6.1.1", whole(text, ""), []got{{EventText, ""}}, 0},
		{"6.1.2", join(begin(text, ""), begin(cont, ""), whole(cont, "")), []got{{EventText, ""}}, 0},
		{"6.1.3", join(begin(text, ""), begin(cont, "middle frame payload"), whole(cont, "")), []got{{EventText, "middle frame payload"}}, 0},
		{"6.2.1", whole(text, fancy), []got{{EventText, fancy}}, 0},
		{"6.2.2", join(begin(text, fancy[:12]), whole(cont, fancy[12:])), []got{{EventText, fancy}}, 0},
		{"6.2.3", fragments(fancy, 1), []got{{EventText, fancy}}, 0},
		{"6.2.4", fragments(kosme, 1), []got{{EventText, kosme}}, 0},
		{"6.3.1", whole(text, invalid), nil, 1007},
		{"6.3.2", fragments(invalid, 1), nil, 1007},
		{"6.4.1", join(begin(text, kosme), begin(cont, tooHigh), whole(cont, "edited")), nil, 1007},
		{"6.4.2", join(begin(text, kosme+"\xf4"), begin(cont, "\x90"), begin(cont, "\x80\x80"), whole(cont, "edited")), nil, 1007},
		{"6.4.3", whole(text, kosme+tooHigh+"edited"), nil, 1007},
		{"6.4.4", whole(text, kosme+tooHigh+"edited"), nil, 1007},
	})
	for i, group := range utf8Groups() {
		for j, payload := range group {
			id := fmt.Sprintf("6.%d.%d", i+5, j+1)
			c := conformance{id: id, code: 1007}
			if utf8.ValidString(payload) {
				c.code, c.expect = 0, []got{{EventText, payload}}
			}
			c.send = whole(text, payload)
			runConformance(t, []conformance{c})
			// In fragments of every size the verdict is the same.
			for size := 1; size < len(payload); size++ {
				c.id, c.send = fmt.Sprintf("%s/fragments of %d", id, size), fragments(payload, size)
				runConformance(t, []conformance{c})
			}
		}
	}
}

// A wrong byte is found in the fragment that brings it, before its message ends
// (6.4.1, 6.4.2).
func TestWrongTextFailsEarly(t *testing.T) {
	for _, sent := range [][]string{{kosme, tooHigh}, {kosme + "\xf4", "\x90"}, {"\xed", "\xa0"}, {"\xe0", "\x80"}} {
		stream := join(begin(text, sent[0]), begin(cont, sent[1]))
		_, code, left := feed(t, stream, RoleServer, autobahnMax, func() int { return len(stream) })
		require.Equal(t, uint16(1007), code, "%q", sent)
		require.Equal(t, len(begin(cont, sent[1])), left, "%q", sent)
	}
}

// fragments sends a text in fragments of n bytes each.
func fragments(s string, n int) (stream []byte) {
	op := text
	for len(s) > n {
		stream = append(stream, begin(op, s[:n])...)
		op, s = cont, s[n:]
	}
	return append(stream, whole(op, s)...)
}

// utf8Groups are the payloads of 6.5 to 6.23, after Markus Kuhn's stress test.
// utf8.ValidString is what they are judged by; TestUTF8Oracle holds it to the
// suite's own verdicts.
func utf8Groups() [][]string {
	var prefixes []string
	for i := range len(kosme) {
		prefixes = append(prefixes, kosme[:i+1])
	}
	var continuations strings.Builder
	for c := 0x80; c < 0xbf; c++ {
		continuations.WriteByte(byte(c))
	}
	var lonely []string
	for _, r := range [][2]int{{0xc0, 0xdf}, {0xe0, 0xef}, {0xf0, 0xf7}, {0xf8, 0xfb}, {0xfc, 0xfd}} {
		var s strings.Builder
		for c := r[0]; c < r[1]; c++ {
			s.Write([]byte{byte(c), ' '})
		}
		lonely = append(lonely, s.String())
	}
	incomplete := []string{
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf",
	}
	nonCharacters := []string{"\xef\xbf\xbe", "\xef\xbf\xbf"}
	for plane := rune(0x1); plane <= 0x10; plane++ {
		nonCharacters = append(nonCharacters, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	return [][]string{
		{"hello\x24world", "hello\xc2\xa2world", "hello\xe2\x82\xacworld", "hello\xf0\xa4\xad\xa2world", kosme},
		prefixes,
		{"\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"},
		{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"},
		{"\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"},
		{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"},
		{"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80"},
		{"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf", continuations.String()},
		lonely,
		incomplete,
		{strings.Join(incomplete, "")},
		{"\xfe", "\xff", "\xfe\xfe\xff\xff"},
		{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"},
		{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"},
		{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"},
		{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"},
		{
			"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
			"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf",
		},
		nonCharacters,
		{"\xef\xbf\xb9", "\xef\xbf\xba", "\xef\xbf\xbb", "\xef\xbf\xbc", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xef\xbf\xbf"},
	}
}

// The suite's verdicts on its payloads: a digit per case, 1 for valid.
func TestUTF8Oracle(t *testing.T) {
	verdicts := []string{
		"11111", "01001010101", "1111", "00", "1111", "000", "11110", "00000000", "00000", "0000000000", "0", "000",
		"00000", "00000", "00000", "0000000", "00000000", strings.Repeat("1", 34), "1111111",
	}
	for i, group := range utf8Groups() {
		require.Len(t, group, len(verdicts[i]))
		for j, payload := range group {
			require.Equal(t, verdicts[i][j] == '1', utf8.ValidString(payload), "6.%d.%d", i+5, j+1)
		}
	}
}
