package main

import (
	"log/slog"
	"strings"

	"wsd/internal/config"
)

// newLogger returns the logger of a command that runs for long: on stderr, in the form that was asked for.
func newLogger(c config.Log, e env) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(c.Level))); err != nil {
		level = slog.LevelInfo // Cannot be: the configuration is checked.
	}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if c.Format == "text" || c.Format == "auto" && e.terminal {
		return slog.New(slog.NewTextHandler(e.stderr, o))
	}
	return slog.New(slog.NewJSONHandler(e.stderr, o))
}

// readable writes durations as the configuration has them; slog's JSON would write nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
