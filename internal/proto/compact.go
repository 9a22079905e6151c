package proto

import (
	"slices"

	"github.com/centrifugal/protocol/cfjson"
)

// DepthMax is how deep arrays and objects of a value may nest. It is what
// encoding/json allows; parsers of clients that recurse are not to be tried.
const DepthMax = 10_000

// ValidJSON reports whether value is exactly one JSON value (RFC 8259),
// whitespace around it allowed, that nests no deeper than DepthMax. It is
// stricter than encoding/json.Valid in that strings must be valid UTF-8.
func ValidJSON(value []byte) bool {
	s := scanner{b: value, flags: cfjson.Prescan(value, 0), keep: true}
	_, ok := s.run()
	return ok
}

// CompactJSON checks value as ValidJSON does and removes the whitespace outside
// strings, newlines among it. Everything else stays as it is, byte for byte:
// numbers of any length, escapes, U+2028.
//
// Already compact, or followed by whitespace only, out aliases value from its
// first byte on and nothing is copied. Otherwise out is dst[:0] with the result
// appended, so that a caller can use one buffer again and again. When value is
// not valid, out is nil, and dst may have been written to.
func CompactJSON(dst, value []byte) (out []byte, ok bool) {
	s := scanner{b: value, flags: cfjson.Prescan(value, 0), dst: dst[:0]}
	end, ok := s.run()
	if !ok {
		return nil, false
	}
	if !s.removed {
		return value[:end:end], true
	}
	return append(s.dst, value[s.from:end]...), true
}

// scanner goes over a value once, from token to token. The tokens themselves
// are checked by cfjson. It does not recurse.
type scanner struct {
	b       []byte
	flags   cfjson.Flags
	keep    bool   // Whitespace is only skipped.
	removed bool   // Whitespace was removed: dst has what is before from.
	from    int    // Start of what is not yet in dst.
	dst     []byte // Meaningless until removed.

	// What is open: a bit each, 1 for an object, the innermost the lowest. Every
	// 64 levels move to deep, which most values never need.
	open  uint64
	deep  []uint64
	depth int
}

// run checks the whole value and returns where it ends.
func (s *scanner) run() (end int, ok bool) {
	i := s.space(0)
	for {
		var opened bool
		if i, opened, ok = s.begin(i); !ok {
			return 0, false
		}
		if opened {
			continue // An element stands at i.
		}
		if i, ok = s.next(i); !ok {
			return 0, false
		}
		if s.depth == 0 {
			// Whitespace behind the value is cut off without copying.
			return i, cfjson.SkipSpace(s.b, i) == len(s.b)
		}
	}
}

// begin reads the value at i. It stops behind a scalar or an empty container, or
// with opened in front of the first element of another one.
func (s *scanner) begin(i int) (next int, opened, ok bool) {
	if i >= len(s.b) {
		return i, false, false
	}
	c := s.b[i]
	if c != '{' && c != '[' {
		i = cfjson.Skip(s.b, i, s.flags)
		return i, false, i >= 0
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == c+2 { // '}' and ']' follow their openings by two.
		return i + 1, false, s.depth < DepthMax
	}
	if s.depth == DepthMax {
		return i, false, false
	}
	if s.depth != 0 && s.depth&63 == 0 {
		s.deep = append(s.deep, s.open)
	}
	s.depth++
	s.open <<= 1
	if c == '[' {
		return i, true, true
	}
	s.open |= 1
	i, ok = s.key(i)
	return i, ok, ok
}

// next reads what follows a value up to the next element, or over the ends of
// the containers that end there.
func (s *scanner) next(i int) (next int, ok bool) {
	for s.depth > 0 {
		if i = s.space(i); i >= len(s.b) {
			return i, false
		}
		object := s.open&1 != 0
		switch c := s.b[i]; {
		case c == ',':
			if i = s.space(i + 1); object {
				return s.key(i)
			}
			return i, true
		case c == '}' && object, c == ']' && !object:
			i++
		default:
			return i, false
		}
		s.depth--
		s.open >>= 1
		if s.depth != 0 && s.depth&63 == 0 {
			s.open, s.deep = s.deep[len(s.deep)-1], s.deep[:len(s.deep)-1]
		}
	}
	return i, true
}

// key reads a key and its colon and stops in front of the value.
func (s *scanner) key(i int) (next int, ok bool) {
	if i >= len(s.b) || s.b[i] != '"' {
		return i, false
	}
	if i = cfjson.Skip(s.b, i, s.flags); i < 0 {
		return i, false
	}
	if i = s.space(i); i >= len(s.b) || s.b[i] != ':' {
		return i, false
	}
	return s.space(i + 1), true
}

// space skips whitespace at i.
func (s *scanner) space(i int) int {
	if i < len(s.b) && s.b[i] > ' ' {
		return i
	}
	return s.remove(i)
}

func (s *scanner) remove(i int) int {
	j := cfjson.SkipSpace(s.b, i)
	if j == i || s.keep {
		return j
	}
	if !s.removed {
		s.removed = true
		s.dst = slices.Grow(s.dst, len(s.b)-(j-i))
	}
	s.dst = append(s.dst, s.b[s.from:i]...)
	s.from = j
	return j
}
