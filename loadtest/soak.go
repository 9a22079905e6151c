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
	Clients     int           `default:"5000" help:"Clients at a time, those that disturb among them (${default})."`
	Disturbed   float64       `default:"0.05" help:"The part of them that is slow, stopped or reset at random (${default})."`
	Duration    time.Duration `default:"10m" help:"How long to produce (${default})."`
	Load        float64       `default:"0.8" help:"Part of the highest rate at which good clients stay current; that is measured first (${default})."`
	Rate        float64       `default:"0" help:"Records a second, instead of measuring; at least 1."`
	Seed        uint64        `default:"0" help:"Of what disturbers do; 0: by chance, and printed."`
	OutboundMax int           `default:"1048576" help:"The server's client.outbound_max in bytes (${default})."`
	StopMax     time.Duration `default:"20s" help:"The longest time that a client stops reading, or reads slowly (${default})."`
}

// disturbers is how many of the clients disturb.
func (s *soak) disturbers() int { return int(math.Round(float64(s.Clients) * s.Disturbed)) }

func (s *soak) plan() (plan, error) {
	limit, err := clientsMax()
	if err != nil {
		return plan{}, err
	}
	switch {
	case s.Clients > limit:
		return plan{}, fmt.Errorf("--clients %d are more than the %d that one process may have here: its hard limit on open files less %d",
			s.Clients, limit, filesReserved)
	case s.Disturbed < 0 || s.Disturbed > 0.5:
		return plan{}, fmt.Errorf("--disturbed %g is not between 0 and 0.5", s.Disturbed)
	case s.Load <= 0 || s.Load > 1:
		return plan{}, fmt.Errorf("--load %g is not above 0 and at most 1", s.Load)
	case s.Rate != 0 && s.Rate < 1:
		return plan{}, fmt.Errorf("--rate %g is less than 1: clients that get nothing cannot be behind", s.Rate)
	case s.OutboundMax < 64<<10:
		return plan{}, fmt.Errorf("--outbound-max %d is less than %d", s.OutboundMax, 64<<10)
	case s.StopMax < time.Second:
		return plan{}, fmt.Errorf("--stop-max %s is less than a second", s.StopMax)
	case len(s.Topic) != 1:
		return plan{}, fmt.Errorf("%d topics: a soak has one", len(s.Topic))
	case s.RampRate != 0:
		return plan{}, fmt.Errorf("--ramp-rate %g: a soak produces nothing while connecting", s.RampRate)
	case s.Admin == "none":
		return plan{}, fmt.Errorf("--admin none: a soak compares the server's counters with its own")
	}
	if s.Seed == 0 {
		s.Seed = uint64(rand.Uint32()) + 1
	}
	rate := s.Rate
	if rate == 0 {
		rate = 1 // Until it is measured.
	}
	return plan{common: s.common, mode: "soak", clients: s.Clients - s.disturbers(), rate: rate, duration: s.Duration}, nil
}
