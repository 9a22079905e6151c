package route

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// patternPrefix marks a text as a regular expression; any other stands for itself.
const patternPrefix = "re:"

// Limits of a pattern. Matching takes a time that grows with the product of its program's size and the text's length, for there is no
// backtracking (RE2): with these, the worst of both takes a millisecond or two, and what is usual a part of a microsecond.
const (
	patternTextMax    = 1024 // Bytes of the expression.
	patternProgramMax = 300  // Instructions.
	matchedTextMax    = 512  // Bytes of a text that is compared; a longer one does not match.
)

// Pattern is a text to compare with: itself, or with re: before it a regular expression in RE2's syntax that the whole text must match. A dot
// matches line breaks, too. The zero value matches only the empty text.
type Pattern struct {
	text string
	re   *regexp.Regexp // nil: exact.
}

// ParsePattern reads a pattern.
func ParsePattern(text string) (Pattern, error) {
	if !utf8.ValidString(text) {
		return Pattern{}, errors.New("not valid UTF-8")
	}
	expression, is := strings.CutPrefix(text, patternPrefix)
	if !is {
		return Pattern{text: text}, nil
	}
	if expression == "" {
		return Pattern{}, errors.New("re: has no expression behind it")
	}
	if len(expression) > patternTextMax {
		return Pattern{}, fmt.Errorf("an expression of %d bytes, at most %d are allowed", len(expression), patternTextMax)
	}
	whole := `(?s)\A(?:` + expression + `)\z`
	// Alone first: it must not close the parenthesis around it.
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
		return Pattern{}, fmt.Errorf("an expression of %d steps, at most %d are allowed: use fewer or smaller repetitions", n, patternProgramMax)
	}
	re, err := regexp.Compile(whole)
	if err != nil {
		return Pattern{}, patternError(err)
	}
	return Pattern{text: text, re: re}, nil
}

func patternError(err error) error {
	return fmt.Errorf("no regular expression of RE2: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
}

// Exact reports whether the pattern is no expression.
func (p *Pattern) Exact() bool { return p.re == nil }

// String returns what ParsePattern read.
func (p *Pattern) String() string { return p.text }

// Match reports whether the text is what the pattern asks for.
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
