package proto

import (
	"errors"
	"slices"

	"github.com/centrifugal/protocol/cfjson"
)

// DepthMax is the deepest nesting of arrays and objects that a value may ever have. encoding/json has the same limit.
// Few clients can read that: Python gives up near 990, Jackson at 1,000, PHP at 512. See CompactJSON's depthMax.
const DepthMax = 10_000

// NumberBytesMax is the length of the longest number that CompactJSON accepts. Jackson refuses longer ones by default,
// and Python refuses integers above 4,300 digits.
const NumberBytesMax = 1000

// What CompactJSON may find wrong with a value.
var (
	ErrNotJSON    = errors.New("not JSON")
	ErrJSONDepth  = errors.New("nested too deep")
	ErrJSONNumber = errors.New("a number is too long")
)

// ValidJSON reports whether value is exactly one JSON value (RFC 8259), possibly with white space around it, and nested
// no deeper than DepthMax. Unlike encoding/json.Valid it requires strings to be valid UTF-8.
func ValidJSON(value []byte) bool {
	s := scanner{b: value, flags: cfjson.Prescan(value, 0), keep: true, depthMax: DepthMax, numberMax: len(value)}
	_, ok := s.run()
	return ok
}

// CompactJSON checks value like ValidJSON and removes white space outside strings, including newlines. It does not
// change anything else: the digits of numbers, escapes and U+2028 stay as they are. It also returns an error for what
// the parsers of many clients refuse: nesting deeper than depthMax, which is at most DepthMax, and numbers longer than
// NumberBytesMax.
//
// If value has white space only at its end, or none, out aliases value and nothing is copied. Otherwise out is dst[:0]
// with the result appended, so that a caller can reuse a buffer. After an error out is nil, and the content of dst is
// undefined.
func CompactJSON(dst, value []byte, depthMax int) (out []byte, err error) {
	s := scanner{
		b: value, flags: cfjson.Prescan(value, 0), dst: dst[:0], depthMax: min(depthMax, DepthMax),
		numberMax: NumberBytesMax,
	}
	end, ok := s.run()
	switch {
	case s.err != nil:
		return nil, s.err
	case !ok:
		return nil, ErrNotJSON
	case !s.removed:
		return value[:end:end], nil
	}
	return append(s.dst, value[s.from:end]...), nil
}

// scanner reads a value once, token by token. cfjson checks the tokens. It does not recurse.
type scanner struct {
	b       []byte       // The value.
	flags   cfjson.Flags // What cfjson knows about b.
	keep    bool         // Whether white space is kept.
	removed bool         // Whether white space has been removed.
	from    int          // Start of the part of b that is not in dst yet.
	dst     []byte       // Compact form of b[:from]; undefined unless removed is true.

	// Kinds of the innermost up to 64 open containers, one bit each: 1 for an object. The lowest bit is the innermost.
	open  uint64
	deep  []uint64 // Kinds of the outer containers, 64 in each element. Most values do not need it.
	depth int      // Number of open containers.

	depthMax, numberMax int
	err                 error // Why the value is refused, if it may be JSON.
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
			continue // Its first element begins at i.
		}
		if i, ok = s.next(i); !ok {
			return 0, false
		}
		if s.depth == 0 {
			// White space after the value is cut off without copying.
			return i, cfjson.SkipSpace(s.b, i) == len(s.b)
		}
	}
}

// begin reads the start of the value at i. It stops after a scalar or an empty container. For another container, opened
// is true and it stops before the first element.
func (s *scanner) begin(i int) (next int, opened, ok bool) {
	if i >= len(s.b) {
		return i, false, false
	}
	c := s.b[i]
	if c != '{' && c != '[' {
		end := cfjson.Skip(s.b, i, s.flags)
		if end-i > s.numberMax && c != '"' {
			s.err = ErrJSONNumber
		}
		return end, false, end >= 0 && s.err == nil
	}
	if s.depth == s.depthMax {
		s.err = ErrJSONDepth
		return i, false, false
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == c+2 { // '}' is '{' + 2, and ']' is '[' + 2.
		return i + 1, false, true
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

// next reads from the end of a value to the next element. It reads past the ends of containers that end here.
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

// key reads a key and its colon, and stops before the value.
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

// space skips white space at i, and removes it unless s.keep.
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
