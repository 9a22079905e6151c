package shard

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkSurvey makes surveys of a shard with 100,000 clients, each of a channel of its own, and reports how long they
// take of the loop in all, in how many turns, and in the longest of them. Their bound is 2,048 units, and what ends a part.
func BenchmarkSurvey(b *testing.B) {
	const clients = 100_000
	s := bareChannels()
	s.inbox.wake = func() {}
	for i, c := range fill(s, clients) {
		s.channels.subscribe(c, fmt.Sprint("channel", i))
		c.out.cost = i * 7919 % clients
	}
	for name, ask := range map[string]func(ctx context.Context) error{
		"clients": func(ctx context.Context) error {
			_, total, err := s.Clients(ctx, ClientQuery{Max: SurveyMax})
			if total != clients {
				b.Errorf("%d clients: %v", total, err)
			}
			return err
		},
		"user": func(ctx context.Context) error {
			_, _, err := s.Clients(ctx, ClientQuery{Max: SurveyMax, User: "u"})
			return err
		},
		"channels": func(ctx context.Context) error {
			list, err := s.Channels(ctx, ChannelQuery{Max: SurveyMax})
			if list.First != clients {
				b.Errorf("%d channels: %v", list.First, err)
			}
			return err
		},
		"prefix": func(ctx context.Context) error {
			_, err := s.Channels(ctx, ChannelQuery{Max: SurveyMax, Prefix: "channel9"})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			turns, longest, all := 0, time.Duration(0), time.Duration(0)
			for b.Loop() {
				done := make(chan error)
				go func() { done <- ask(b.Context()) }()
				for s.surveys.first() == nil {
					time.Sleep(10 * time.Microsecond)
				}
				s.surveying = true
				for s.surveys.first() != nil {
					began := cpu(b)
					s.work.beginPart()
					s.goOnSurveying()
					took := cpu(b) - began
					turns, longest, all = turns+1, max(longest, took), all+took
				}
				require.NoError(b, <-done)
			}
			b.ReportMetric(float64(all.Microseconds())/float64(b.N)/1000, "cpu-ms/survey")
			b.ReportMetric(float64(turns)/float64(b.N), "turns/survey")
			b.ReportMetric(float64(longest.Microseconds())/1000, "cpu-ms/longest")
			b.ReportMetric(float64(all.Microseconds())/float64(turns)/1000, "cpu-ms/turn")
		})
	}
}
