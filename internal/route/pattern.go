package route

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// patternPrefix marks a text as a regular expression. Any other text stands for itself.
const patternPrefix = "re:"

// Limits of a pattern. RE2 does not backtrack, so matching takes time in proportion to the program's size times the
// text's length. With these limits the worst case takes one or two milliseconds, and the usual case less than a
// microsecond.
const (
	patternTextMax    = 1024 // Bytes in the expression.
	patternProgramMax = 300  // Instructions in its program.
	matchedTextMax    = 512  // Bytes in a text. A longer one does not match.
)

// Pattern matches texts. It is an exact text or, after "re:", a regular expression in RE2's syntax that the whole text
// must match. A dot also matches line breaks. The zero value matches only the empty text.
type Pattern struct {
	text string
	re   *regexp.Regexp // Nil for an exact text.
}

// ParsePattern parses a pattern.
func ParsePattern(text string) (Pattern, error) {
	if !utf8.ValidString(text) {
		return Pattern{}, errors.New("not valid UTF-8")
	}
	expression, is := strings.CutPrefix(text, patternPrefix)
	if !is {
		return Pattern{text: text}, nil
	}
	if expression == "" {
		return Pattern{}, errors.New("re: without an expression")
	}
	if len(expression) > patternTextMax {
		return Pattern{}, fmt.Errorf("the expression has %d bytes, at most %d are allowed", len(expression),
			patternTextMax)
	}
	whole := `(?s)\A(?:` + expression + `)\z`
	// Parse the expression alone first: it must not close the parenthesis around it.
	if _, err := syntax.Parse(expression, syntax.Perl); err != nil {
		return Pattern{}, patternError(err)
	}
	tree, err := syntax.Parse(whole, syntax.Perl)
	if err != nil {
		return Pattern{}, patternError(err)
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return Pattern{}, patternError(err)
	}
	if n := len(program.Inst); n > patternProgramMax {
		return Pattern{}, fmt.Errorf("the expression has %d steps, at most %d are allowed; use fewer repetitions",
			n, patternProgramMax)
	}
	re, err := regexp.Compile(whole)
	if err != nil {
		return Pattern{}, patternError(err)
	}
	return Pattern{text: text, re: re}, nil
}

func patternError(err error) error {
	return fmt.Errorf("not a regular expression of RE2: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
}

// Exact reports whether the pattern is an exact text.
func (p *Pattern) Exact() bool { return p.re == nil }

// String returns the text that ParsePattern parsed.
func (p *Pattern) String() string { return p.text }

// Match reports whether the pattern matches the text.
func (p *Pattern) Match(text []byte) bool {
	if p.re == nil {
		return string(text) == p.text
	}
	return len(text) <= matchedTextMax && p.re.Match(text)
}

// MatchString is Match for a string.
func (p *Pattern) MatchString(text string) bool {
	if p.re == nil {
		return text == p.text
	}
	return len(text) <= matchedTextMax && p.re.MatchString(text)
}
