package main

import (
	"fmt"
	"time"
)

// capacity is the command that holds many clients.
type capacity struct {
	common
	Target int           `required:"" help:"Number of clients to hold."`
	Hold   time.Duration `default:"30s" help:"How long to hold them after all are subscribed (${default})."`
	Rate   float64       `default:"1" help:"Records per second and topic while they are held, at least 1 (${default})."`
}

func (c *capacity) plan() (plan, error) {
	if c.Rate < 1 {
		return plan{}, fmt.Errorf("--rate %g is less than 1: each client must get at least one record per second",
			c.Rate)
	}
	return plan{common: c.common, mode: "capacity", clients: c.Target, rate: c.Rate, duration: c.Hold}, nil
}
