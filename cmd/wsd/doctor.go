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

// admission returns what the wsd that serves on the configured control socket says of its admission, if there is one.
func (c *doctorCmd) admission(e env) []doctor.Result {
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
	ctx := context.Background()
	report := doctor.Run(ctx, doctor.Options{
		PinDir: cfg.Steering.PinDir, Steering: cfg.Steering.Mode, Shards: cfg.ShardCount(),
		SourcesMax:  cfg.Steering.Limits.SourcesMax,
		Connections: c.Connections, SendBuffer: int64(cfg.Client.KernelSendBuffer), Running: c.running(ctx, e),
		Admission: cfg.Admission.Mode, AdmissionAnswer: cfg.Admission.Answer, MemoryHigh: cfg.Admission.MemoryHigh,
		CgroupRoot: cfg.Admission.CgroupRoot,
	})
	report.Results = append(report.Results, c.admission(e)...)
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

// running asks the wsd at the configured control socket for its privileges. It returns nil if there is none.
func (c *doctorCmd) running(ctx context.Context, e env) *doctor.Running {
	path, err := c.socket(e)
	if err != nil {
		return nil
	}
	body, _, err := control.Health(ctx, path)
	if err != nil {
		return nil
	}
	var h struct {
		Privileges struct {
			Capabilities []string `json:"capabilities"`
			Kept         []string `json:"kept"`
			NoNewPrivs   bool     `json:"no_new_privs"`
			Problem      string   `json:"problem"`
		} `json:"privileges"`
		Process struct {
			PID int `json:"pid"`
		} `json:"process"`
	}
	if json.Unmarshal(body, &h) != nil {
		return nil
	}
	p := h.Privileges
	return &doctor.Running{PID: h.Process.PID, Capabilities: p.Capabilities, Kept: p.Kept, NoNewPrivs: p.NoNewPrivs,
		Problem: p.Problem}
}
