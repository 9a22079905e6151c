package server

import (
	"context"
	"log/slog"

	"wsd/internal/commands"
	"wsd/internal/config"
)

// TopicPlan is how a topic is to be made.
type TopicPlan = commands.Plan

// CreateTopics makes the topics that wsd needs beside those that it reads: commands.topic. It changes none that exists.
// With dry it makes nothing. It needs no server that runs.
func CreateTopics(
	ctx context.Context, cfg *config.Config, plan TopicPlan, dry bool, log *slog.Logger,
) (commands.Outcome, error) {
	s := &Server{cfg: cfg, log: log}
	if err := s.login.set(cfg.Kafka, log); err != nil {
		return commands.Outcome{}, err
	}
	plan.Topic = cfg.Commands.Topic
	return commands.Create(ctx, s.connection().Connection(), plan, dry)
}
