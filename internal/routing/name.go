package routing

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// LossyJSON reports whether decoders replace something in the strings of a JSON text by U+FFFD: an escape of a lone
// surrogate, such as "\ud800", or bytes that are not valid UTF-8. Different texts then decode to the same string, so a
// name that is decoded from one may not be the name that was meant.
func LossyJSON(text []byte) bool {
	if !utf8.Valid(text) {
		return true
	}
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return false
		}
		text = text[i:]
		switch unit := escapedUnit(text); {
		case unit < 0: // Another escape.
			text = text[min(2, len(text)):]
		case unit>>10 == 0xd800>>10 && escapedUnit(text[6:])>>10 == 0xdc00>>10: // A pair.
			text = text[12:]
		case unit>>11 == 0xd800>>11:
			return true
		default:
			text = text[6:]
		}
	}
}

// escapedUnit returns the UTF-16 code unit of an escape \uXXXX that text begins with, or -1 if it begins with none.
func escapedUnit(text []byte) int {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return int(unit)
}
