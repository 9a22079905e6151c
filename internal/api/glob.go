package api

import (
	"errors"
	"regexp"
	"strings"
)

// patternMax bounds a pattern of the method channels.
const patternMax = 255

// globOf returns what tells whether a channel fits a pattern: * is any text without a dot, ** is any text, ? is one
// character; everything else stands for itself. An empty pattern fits all.
func globOf(pattern string) (func(string) bool, error) {
	if pattern == "" {
		return func(string) bool { return true }, nil
	}
	if len(pattern) > patternMax {
		return nil, errors.New("the pattern is longer than 255 bytes")
	}
	var expression strings.Builder
	expression.WriteString(`(?s)^`)
	for rest := pattern; rest != ""; {
		var part string
		switch {
		case strings.HasPrefix(rest, "**"):
			part, rest = ".*", strings.TrimLeft(rest, "*")
		case rest[0] == '*':
			part, rest = "[^.]*", rest[1:]
		case rest[0] == '?':
			part, rest = ".", rest[1:]
		default:
			end := strings.IndexAny(rest, "*?")
			if end < 0 {
				end = len(rest)
			}
			part, rest = regexp.QuoteMeta(rest[:end]), rest[end:]
		}
		expression.WriteString(part)
	}
	expression.WriteString(`$`)
	compiled, err := regexp.Compile(expression.String())
	if err != nil {
		return nil, errors.New("the pattern is not valid UTF-8")
	}
	return compiled.MatchString, nil
}
