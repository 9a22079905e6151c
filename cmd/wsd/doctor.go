package main

import (
	"context"
	"errors"

	"wsd/internal/command"
	"wsd/internal/doctor"
)

type doctorCmd struct {
	options
	JSON        bool `help:"Print the results as JSON."`
	Connections int  `help:"Number of clients to expect." default:"12000"`
}

// Run checks this machine.
func (c *doctorCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	if c.Connections < 1 {
		return command.UsageError{Err: errors.New("--connections must be at least 1")}
	}
	cfg := loaded.Config
	report := doctor.Run(context.Background(), doctor.Options{
		PinDir: cfg.Steering.PinDir, Steering: cfg.Steering.Mode, Shards: cfg.ShardCount(),
		SourcesMax:  cfg.Steering.Limits.SourcesMax,
		Connections: c.Connections, SendBuffer: int64(cfg.Client.KernelSendBuffer),
	})
	show := report.Text
	if c.JSON {
		show = report.JSON
	}
	if err := show(e.stdout); err != nil {
		return err
	}
	if report.Failed() {
		return command.ErrReported
	}
	return nil
}
