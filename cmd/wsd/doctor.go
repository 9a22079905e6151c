package main

import (
	"context"
	"encoding/json"
	"errors"

	"wsd/internal/command"
	"wsd/internal/control"
	"wsd/internal/doctor"
	"wsd/internal/server"
)

type doctorCmd struct {
	options
	JSON        bool `help:"Print the results as JSON." xor:"form"`
	Fix         bool `help:"Print a shell script that sets what is wrong, as far as a script can. Nothing is changed." xor:"form"`
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
	ctx := context.Background()
	wsd := c.running(ctx, e)
	options := server.DoctorOptions(&cfg)
	options.Connections, options.Running = c.Connections, wsd.privileges()
	report := doctor.Run(ctx, options)
	report.Results = append(report.Results, wsd.admission()...)
	show := report.Text
	switch {
	case c.JSON:
		show = report.JSON
	case c.Fix:
		show = report.Script
	}
	if err := show(e.stdout); err != nil {
		return err
	}
	if report.Failed() {
		return command.ErrReported
	}
	return nil
}

// runningWSD is what doctor wants of the health of a running wsd.
type runningWSD struct {
	Admission  admissionState `json:"admission"`
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

// running asks the wsd at the configured control socket for its health. It returns nil if there is none.
func (c *doctorCmd) running(ctx context.Context, e env) *runningWSD {
	path, err := c.socket(e)
	if err != nil {
		return nil
	}
	body, _, err := control.Health(ctx, path)
	if err != nil {
		return nil
	}
	h := new(runningWSD)
	if json.Unmarshal(body, h) != nil {
		return nil
	}
	return h
}

// privileges returns what the running wsd may do; nil if none runs.
func (h *runningWSD) privileges() *doctor.Running {
	if h == nil {
		return nil
	}
	p := h.Privileges
	return &doctor.Running{PID: h.Process.PID, Capabilities: p.Capabilities, Kept: p.Kept, NoNewPrivs: p.NoNewPrivs,
		Problem: p.Problem}
}

// admission returns what the running wsd says of its admission, if it does.
func (h *runningWSD) admission() []doctor.Result {
	if h == nil || h.Admission.State == "" {
		return nil
	}
	r := doctor.Result{Check: "running wsd", Found: "admission: " + h.Admission.String()}
	if h.Admission.refusing() {
		r.Status, r.Remedy = doctor.Warn, h.Admission.Reason
	}
	return []doctor.Result{r}
}
