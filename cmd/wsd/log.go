package main

import (
	"log/slog"
	"strings"

	"wsd/internal/config"
)

// newLogger returns the logger of a server: it writes to stderr, in the configured format.
func newLogger(c config.Log, e env) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(c.Level))); err != nil {
		level = slog.LevelInfo // Does not happen: the configuration has been checked.
	}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if c.Format == "text" || c.Format == "auto" && e.terminal {
		return slog.New(slog.NewTextHandler(e.stderr, o))
	}
	return slog.New(slog.NewJSONHandler(e.stderr, o))
}

// readable writes durations like 500ms, as in the configuration. The JSON of slog would write nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
