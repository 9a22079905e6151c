package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"github.com/KimMachineGun/automemlimit/memlimit"
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
	ctx, stop := signals()
	defer stop()
	return serve(ctx, loaded, newLogger(loaded.Config.Log, e), nil)
}

// serve builds a server and runs it until ctx ends. It calls served, which may be nil, when the server is up.
func serve(ctx context.Context, loaded *config.Loaded, logger *slog.Logger, served func(*server.Server)) error {
	if loaded.File != "" {
		logger.Info("read the configuration file", "file", loaded.File)
	}
	for _, w := range loaded.Warnings {
		logger.Warn("check the configuration", "warning", w.String())
	}
	limitMemory(logger, memlimit.FromCgroup)
	s, err := server.New(&loaded.Config, server.Build{Version: version, Commit: commit}, logger)
	if err != nil {
		return err
	}
	return s.Run(ctx, func() {
		if served != nil {
			served(s)
		}
	})
}

// signals returns a context that ends with the first SIGTERM or SIGINT. The second one ends the process at once.
func signals() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan os.Signal, 2)
	signal.Notify(got, unix.SIGTERM, unix.SIGINT)
	go func() {
		if _, ok := <-got; !ok {
			return
		}
		cancel()
		if _, ok := <-got; ok {
			fmt.Fprintln(os.Stderr, "wsd: second signal: exiting without waiting for clients")
			os.Exit(command.Failed)
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		close(got)
		cancel()
	}
}
