package main

import "time"

// fanout is the command that delivers many records.
type fanout struct {
	common
	Clients  int           `required:"" help:"Number of clients."`
	Rate     float64       `default:"20" help:"Records per second and topic (${default})."`
	Duration time.Duration `default:"10s" help:"How long to produce (${default})."`
}

func (f *fanout) plan() plan {
	return plan{common: f.common, mode: "fanout", clients: f.Clients, rate: f.Rate, duration: f.Duration}
}
