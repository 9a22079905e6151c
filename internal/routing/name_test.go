package routing

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLossyJSON(t *testing.T) {
	for text, lossy := range map[string]bool{
		`"a"`: false, `"é€𝄞"`: false, `"\ud834\udd1e"`: false, `"\uD834\uDD1E\ud834\udd1e"`: false, `"\\ud800"`: false, `"\\\\ud800"`: false,
		`"\ufffd"`: false, "\"\ufffd\"": false, `"\u0041\n\""`: false, `"\ue000\ud7ff"`: false,
		`"\ud800"`: true, `"\uDFFF"`: true, `"\udc00\ud800"`: true, `"\ud800\ud834\udd1e"`: true, `"\ud834\udd1e\udd1e"`: true,
		`"\ud800x\udc00"`: true, `"\ud800\\udc00"`: true, `"\\\ud800"`: true, `"\ud800\n"`: true, "\"\xff\"": true, "\"\xed\xa0\x80\"": true,
	} {
		require.Equal(t, lossy, LossyJSON([]byte(text)), text)
	}
	for _, text := range []string{`\`, `\u`, `\ud80`, `\ud800`, `\ud800\u`, `\ud800\udc0`} { // Not JSON.
		LossyJSON([]byte(text))
	}
}

// A text is lossy if and only if encoding/json puts a U+FFFD where there was none.
func FuzzLossyJSON(f *testing.F) {
	f.Add(`\ud800\udc00 \udc00\\ud800`)
	f.Fuzz(func(t *testing.T, inner string) {
		text := `"` + inner + `"`
		var decoded string
		if strings.Contains(inner, "\ufffd") || strings.Contains(strings.ToLower(inner), `\ufffd`) || json.Unmarshal([]byte(text), &decoded) != nil {
			return
		}
		require.Equal(t, strings.Contains(decoded, "\ufffd"), LossyJSON([]byte(text)), "%q", text)
	})
}
