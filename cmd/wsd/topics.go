package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wsd/internal/command"
	"wsd/internal/server"
)

// topicsCmd acts on Kafka itself, and needs no wsd that runs.
type topicsCmd struct {
	Create topicsCreateCmd `cmd:"" help:"Create commands.topic with the settings that it needs. A topic that exists stays as it is; exit code 1 if it differs."`
}

type topicsCreateCmd struct {
	options
	DryRun     bool           `help:"Print what would be created, and create nothing."`
	Partitions int32          `default:"1" help:"Number of partitions. Commands are few: one is mostly enough."`
	Replicas   int16          `default:"-1" help:"Number of replicas. -1: default.replication.factor of the brokers."`
	MinISR     int            `name:"min-isr" default:"0" help:"min.insync.replicas. 0: 2 with --replicas of 3 or more, else that of the brokers."`
	Retention  *time.Duration `placeholder:"TIME" help:"How long commands stay in the topic. Default: an hour, or twice commands.age_max if that is more."`
}

// topicsTimeout bounds what Kafka may take.
const topicsTimeout = 30 * time.Second

// Run creates the topic.
func (c *topicsCreateCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	cfg := &loaded.Config
	plan := server.TopicPlan{
		Partitions: c.Partitions, Replicas: c.Replicas, MinISR: c.MinISR,
		Retention: max(time.Hour, 2*cfg.Commands.AgeMax),
	}
	if c.Retention != nil {
		plan.Retention = *c.Retention
	}
	if plan.MinISR == 0 && plan.Replicas >= 3 {
		plan.MinISR = 2
	}
	switch {
	case cfg.Commands.Topic == "":
		return command.UsageError{Err: errors.New("commands.topic is not set: name the topic, such as " +
			"--commands.topic wsd.commands")}
	case plan.Partitions < 1 || plan.Partitions > 1000:
		return command.UsageError{Err: fmt.Errorf("--partitions %d must be from 1 to 1000", plan.Partitions)}
	case plan.Replicas == 0 || plan.Replicas < -1:
		return command.UsageError{Err: fmt.Errorf("--replicas %d must be -1, or 1 and more", plan.Replicas)}
	case plan.MinISR < 0 || plan.Replicas > 0 && plan.MinISR > int(plan.Replicas):
		return command.UsageError{Err: fmt.Errorf("--min-isr %d must be from 0 to --replicas, which is %d", plan.MinISR,
			plan.Replicas)}
	case plan.Retention <= cfg.Commands.AgeMax:
		return command.UsageError{Err: fmt.Errorf("--retention %v must be longer than commands.age_max, which is %v",
			plan.Retention, cfg.Commands.AgeMax)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), topicsTimeout)
	defer cancel()
	outcome, err := server.CreateTopics(ctx, cfg, plan, c.DryRun, newLogger(cfg.Log, e))
	if err != nil {
		return err
	}
	for _, line := range outcome.Lines {
		fmt.Fprintln(e.stdout, line)
	}
	if outcome.Differs {
		return fmt.Errorf("topic %s is not as wsd needs it: change it with kafka-configs.sh", cfg.Commands.Topic)
	}
	return nil
}
