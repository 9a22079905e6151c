package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// soak is the command that disturbs the server for a long time.
type soak struct {
	common
	Clients     int           `default:"5000" help:"Number of clients, including disturbing ones (${default})."`
	Disturbed   float64       `default:"0.05" help:"Share of the clients that are slow, stopped or reset at random (${default})."`
	Duration    time.Duration `default:"10m" help:"How long to produce (${default})."`
	Load        float64       `default:"0.8" help:"Share of the highest rate at which good clients keep up, which is measured first (${default})."`
	Rate        float64       `default:"0" help:"Records per second, at least 1, instead of measuring the highest rate."`
	Seed        uint64        `default:"0" help:"Random seed of the disturbing clients; 0: choose one and print it."`
	OutboundMax int           `default:"1048576" help:"The server's client.outbound_max in bytes (${default})."`
	StopMax     time.Duration `default:"20s" help:"Maximum time for which a client does not read, or reads slowly (${default})."`
}

// disturbers returns the number of disturbing clients.
func (s *soak) disturbers() int { return int(math.Round(float64(s.Clients) * s.Disturbed)) }

func (s *soak) plan() (plan, error) {
	limit, err := clientsMax()
	if err != nil {
		return plan{}, err
	}
	switch {
	case s.Clients > limit:
		return plan{}, fmt.Errorf("--clients %d: one process may have %d here, its hard limit on open files "+
			"minus %d",
			s.Clients, limit, filesReserved)
	case s.Disturbed < 0 || s.Disturbed > 0.5:
		return plan{}, fmt.Errorf("--disturbed %g must be between 0 and 0.5", s.Disturbed)
	case s.Load <= 0 || s.Load > 1:
		return plan{}, fmt.Errorf("--load %g must be above 0 and at most 1", s.Load)
	case s.Rate != 0 && s.Rate < 1:
		return plan{}, fmt.Errorf("--rate %g must be at least 1", s.Rate)
	case s.OutboundMax < 64<<10:
		return plan{}, fmt.Errorf("--outbound-max %d must be at least %d", s.OutboundMax, 64<<10)
	case s.StopMax < time.Second:
		return plan{}, fmt.Errorf("--stop-max %s must be at least a second", s.StopMax)
	case len(s.Topic) != 1:
		return plan{}, fmt.Errorf("%d topics: a soak must have one", len(s.Topic))
	case s.RampRate != 0:
		return plan{}, fmt.Errorf("--ramp-rate %g: a soak produces nothing while connecting", s.RampRate)
	case s.Admin == "none":
		return plan{}, fmt.Errorf("--admin none: a soak needs the admin port, to check the server's counters")
	}
	if s.Seed == 0 {
		s.Seed = uint64(rand.Uint32()) + 1
	}
	rate := s.Rate
	if rate == 0 {
		rate = 1 // calibrate replaces it.
	}
	return plan{common: s.common, mode: "soak", clients: s.Clients - s.disturbers(), rate: rate, duration: s.Duration},
		nil
}
