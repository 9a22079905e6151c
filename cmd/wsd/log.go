package main

import (
	"bytes"
	"io"
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
	handler := func(w io.Writer) slog.Handler {
		if c.Format == "text" || c.Format == "auto" && e.terminal {
			return slog.NewTextHandler(w, o)
		}
		return slog.NewJSONHandler(w, o)
	}
	p, ok := e.stderr.(*patient)
	if !ok {
		return slog.New(handler(e.stderr))
	}
	p.setNotice(func(lost uint64) []byte {
		var line bytes.Buffer
		slog.New(handler(&line)).Error("lines of the log were lost, because nobody read it", "lines", lost)
		return line.Bytes()
	})
	return slog.New(flushed{handler(p), p})
}

// readable writes durations like 500ms, as in the configuration. The JSON of slog would write nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
