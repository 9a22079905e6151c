package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/command"
	"wsd/internal/config"
	"wsd/internal/server"
)

type serveCmd struct {
	options
}

// Run serves until SIGTERM or SIGINT.
func (c *serveCmd) Run(e env) error {
	loaded, err := c.loadToServe(e)
	if err != nil {
		return err
	}
	ctx, stop := signals(e.stderr)
	defer stop()
	return serve(ctx, loaded, newLogger(loaded.Config.Log, e), e.own, nil)
}

// serve builds a server and runs it until ctx ends. With drop, it drops the privileges of the process in between. It
// calls served, which may be nil, when the server is up.
func serve(ctx context.Context, loaded *config.Loaded, logger *slog.Logger, drop bool,
	served func(*server.Server)) error {
	takeLibraryLog(logger)
	if loaded.File != "" {
		logger.Info("read the configuration file", "file", loaded.File)
	}
	for _, w := range loaded.Warnings {
		logger.Warn("check the configuration", "warning", w.String())
	}
	limitMemory(logger, loaded, cgroupMemory)
	s, err := server.New(&loaded.Config, server.Build{Version: version, Commit: commit}, logger)
	if err != nil {
		return err
	}
	if drop {
		s.DropPrivileges()
	}
	return s.Run(ctx, func() {
		if served != nil {
			served(s)
		}
	})
}

// sameSignal is how soon after the first signal another one counts as the same: timeout(1) signals a process and then
// its group, and so do some supervisors.
const sameSignal = 100 * time.Millisecond

// signals returns a context that ends with the first SIGTERM or SIGINT. A later one ends the process at once. From then
// on a write to a closed pipe is an error: with the default of Go, a log line whose reader has gone would end the
// process by SIGPIPE.
func signals(stderr io.Writer) (ctx context.Context, stop func()) {
	signal.Ignore(unix.SIGPIPE)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan os.Signal, 2)
	signal.Notify(got, unix.SIGTERM, unix.SIGINT)
	go func() {
		if twoSignals(got, cancel, time.Now) {
			fmt.Fprintln(stderr, "wsd: second signal: exiting without waiting for clients")
			if p, ok := stderr.(*patient); ok {
				p.Flush()
			}
			os.Exit(command.Failed)
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		close(got)
		cancel()
	}
}

// twoSignals calls first with the first signal, and returns true with the second one. It returns false when got is
// closed.
func twoSignals(got <-chan os.Signal, first func(), now func() time.Time) bool {
	if _, ok := <-got; !ok {
		return false
	}
	began := now()
	first()
	for range got {
		if now().Sub(began) >= sameSignal {
			return true
		}
	}
	return false
}
