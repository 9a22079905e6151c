package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"wsd/internal/command"
	"wsd/internal/control"
)

type healthCmd struct {
	options
	JSON bool `help:"Print the whole response as JSON."`
}

// Run asks the wsd at the configured control socket for its health.
func (c *healthCmd) Run(e env) error {
	path, err := c.socket(e)
	if err != nil {
		return err
	}
	body, ok, err := control.Health(context.Background(), path)
	if err != nil {
		return err
	}
	if c.JSON {
		fmt.Fprintf(e.stdout, "%s\n", strings.TrimSpace(string(body)))
	} else if err := summarise(e, body); err != nil {
		return err
	}
	if !ok {
		return command.ErrReported
	}
	return nil
}

// summarise prints the health as one line, followed by the state of admission, and by the reasons if the status is not
// ok.
func summarise(e env, body []byte) error {
	var h struct {
		Status      string
		Reasons     []string
		Version     string
		Connections int64
		Shards      []struct{}
		Steering    struct{ Mode, Reason string }
		Admission   admissionState
	}
	if err := json.Unmarshal(body, &h); err != nil {
		return fmt.Errorf("read the response of wsd: %w", err)
	}
	fmt.Fprintf(e.stdout, "%s: wsd %s, %d connections on %d shards, steering %s\n", h.Status, h.Version, h.Connections,
		len(h.Shards), h.Steering.Mode)
	if h.Admission.State != "" && h.Status != "draining" { // Older servers have none. A drain refuses whatever it says.
		fmt.Fprintf(e.stdout, "  admission: %s\n", h.Admission)
	}
	for _, reason := range h.Reasons {
		fmt.Fprintf(e.stdout, "  %s\n", reason)
	}
	return nil
}
