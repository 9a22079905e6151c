package dev

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// symbol is an instrument of the demo feed, whose price is a random walk from a plausible start.
type symbol struct {
	name       string
	price      float64
	volatility float64 // Standard deviation of one step, as a share of the price.
}

func symbols() []symbol {
	return []symbol{
		{"BTC-USD", 91_250, 4e-4}, {"ETH-USD", 3_120, 5e-4}, {"SOL-USD", 142, 7e-4}, {"XRP-USD", 2.21, 8e-4},
		{"ADA-USD", 0.61, 8e-4},
		{"DOGE-USD", 0.158, 1e-3}, {"LTC-USD", 96.4, 6e-4}, {"DOT-USD", 4.35, 8e-4}, {"LINK-USD", 14.2, 7e-4},
		{"AVAX-USD", 15.6, 8e-4},
		{"EUR-USD", 1.0872, 5e-5}, {"GBP-USD", 1.2954, 6e-5}, {"XAU-USD", 2_652, 1e-4}, {"WTI-USD", 70.4, 2e-4},
	}
}

// trade produces rate trades per second, evenly spread, until ctx ends. If the cluster does not keep up, trades are
// dropped, so that no more than the producer's buffer is in memory.
func (c *Cluster) trade(ctx context.Context, rate int) {
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) //nolint:gosec // Demo data.
	market := symbols()
	// Above 100 per second, several trades share a tick, because timers are not finer than about a millisecond.
	interval := max(time.Second/time.Duration(rate), 10*time.Millisecond)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	due, last, id := 0.0, time.Now(), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			due = min(due+now.Sub(last).Seconds()*float64(rate), float64(rate))
			last = now
			for ; due >= 1; due-- {
				id++
				s := &market[random.IntN(len(market))]
				c.producer.TryProduce(ctx, &kgo.Record{Topic: TopicTrades, Key: []byte(s.name),
					Value: s.next(random, id, now), Timestamp: now}, nil)
			}
		}
	}
}

// next moves the price one step and returns the trade as JSON.
func (s *symbol) next(random *rand.Rand, id uint64, now time.Time) []byte {
	s.price *= math.Exp(random.NormFloat64() * s.volatility)
	side := "buy"
	if random.IntN(2) == 0 {
		side = "sell"
	}
	// Most trades are small and few are large, with a typical value of some thousand dollars.
	size := math.Exp(random.NormFloat64()) * 2_000 / s.price
	return fmt.Appendf(nil, `{"id":%d,"symbol":%q,"price":%s,"size":%s,"side":%q,"time":%q}`, id, s.name, digits(s.price, 6), digits(size, 4), side,
		now.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// digits formats v with n significant digits and without an exponent.
func digits(v float64, n int) string {
	decimals := max(0, n-1-int(math.Floor(math.Log10(v))))
	return strconv.FormatFloat(v, 'f', decimals, 64)
}
