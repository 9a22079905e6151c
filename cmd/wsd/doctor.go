package main

import (
	"context"
	"encoding/json"
	"errors"

	"wsd/internal/command"
	"wsd/internal/control"
	"wsd/internal/doctor"
)

type doctorCmd struct {
	options
	JSON        bool `help:"Print the results as JSON."`
	Connections int  `help:"Number of clients to expect." default:"12000"`
}

// running returns what the wsd that serves on the configured control socket says of its admission, if there is one.
func (c *doctorCmd) running(e env) []doctor.Result {
	path, err := c.socket(e)
	if err != nil {
		return nil
	}
	body, _, err := control.Health(context.Background(), path)
	if err != nil {
		return nil
	}
	var h struct{ Admission admissionState }
	if err := json.Unmarshal(body, &h); err != nil || h.Admission.State == "" {
		return nil
	}
	r := doctor.Result{Check: "running wsd", Found: "admission: " + h.Admission.String()}
	if h.Admission.refusing() {
		r.Status, r.Remedy = doctor.Warn, h.Admission.Reason
	}
	return []doctor.Result{r}
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
		Admission: cfg.Admission.Mode, AdmissionAnswer: cfg.Admission.Answer, MemoryHigh: cfg.Admission.MemoryHigh,
		CgroupRoot: cfg.Admission.CgroupRoot,
	})
	report.Results = append(report.Results, c.running(e)...)
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
