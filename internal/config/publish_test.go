package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDepths(t *testing.T) {
	load := func(channels ...string) (*Loaded, error) {
		return Load(Input{Flags: map[string]any{"kafka.topics": []string{"t"}, "recovery.channels": channels}})
	}
	l, err := load("chat.secret=0/1h", "chat.*=100/5m", "a=b=7")
	require.NoError(t, err)
	require.Equal(t, []Depth{{"chat.secret", 0, time.Hour}, {"chat.*", 100, 5 * time.Minute}, {"a=b", 7, 0}},
		l.Config.Recovery.Depths())
	for problem, texts := range map[string][]string{
		"lacks a number":      {"chat.*"},
		"not a number":        {"chat.*=x/5m"},
		"is not a number":     {"chat.*=-1"},
		"from 1s to ten":      {"chat.*=5/1ms"},
		"last character":      {"a*b=5"},
		"max_publications":    {"a=10001"},
		`after "chat.*"`:      {"chat.*=5", "chat.a=6"},
		`no effect after "a"`: {"a=5", "a=6"},
	} {
		_, err := load(texts...)
		require.ErrorContains(t, err, problem)
	}
}

func TestPublishOptions(t *testing.T) {
	load := func(flags map[string]any) (*Loaded, error) {
		flags["kafka.topics"] = []string{"t", "re:x.*"}
		return Load(Input{Flags: flags})
	}
	for problem, flags := range map[string]map[string]any{
		"does not say who":      {"publish.rules": []string{"a=everyone"}},
		"no subscription token": {"publish.rules": []string{"a=token"}},
		"publish.timeout":       {"publish.timeout": "1ms"},
		"must hold one":         {"publish.memory": "1MiB", "publish.bytes_max": "2MiB"},
	} {
		_, err := load(flags)
		require.ErrorContains(t, err, problem)
	}
	for problem, flags := range map[string]map[string]any{
		"lets nobody publish":       {"publish.raw": "true"},
		"so that a rule for them":   {"publish.rules": []string{"a=user"}},
		"client.message_max allows": {"publish.rules": []string{"a=all"}, "publish.bytes_max": "4MiB", "client.message_max": "1MiB"},
		"header or on the value":    {"publish.rules": []string{"a=all"}, "routes": []string{"t=a.{header.x}"}},
		"could name several":        {"publish.rules": []string{"a=all"}, "routes": []string{"{topic}.{key}"}},
		"header that says who":      {"publish.rules": []string{"a=all"}, "overrides.enabled": "true"},
	} {
		l, err := load(flags)
		require.NoError(t, err, problem)
		all := ""
		for _, w := range l.Warnings {
			all += w.Problem + "\n"
		}
		require.Contains(t, all, problem)
	}
}
