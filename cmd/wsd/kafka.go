package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"wsd/internal/command"
	"wsd/internal/control"
)

// kafkaCmd talks to a running wsd over its control socket.
type kafkaCmd struct {
	options
	Skip kafkaSkipCmd `cmd:"" help:"Go on in a partition after offsets that cannot be read. They are lost, and subscribers are notified."`
}

type kafkaSkipCmd struct {
	Topic     string `arg:"" help:"Name of the topic."`
	Partition int32  `arg:"" help:"Number of the partition, from 0."`
	To        string `placeholder:"OFFSET" help:"Offset at which reading goes on, or end for the end of the log. Default: the offset after the one where reading stands."`
}

// Run asks the running wsd to move on.
func (c *kafkaSkipCmd) Run(e env, kafka *kafkaCmd) error {
	r := control.SkipRequest{Topic: c.Topic, Partition: c.Partition}
	switch c.To {
	case "":
	case "end":
		r.End = true
	default:
		to, err := strconv.ParseInt(c.To, 10, 64)
		if err != nil || to < 0 {
			return command.UsageError{Err: fmt.Errorf("--to %q must be an offset, from 0 on, or end", c.To)}
		}
		r.To = &to
	}
	path, err := kafka.socket(e)
	if err != nil {
		return err
	}
	result, err := control.Skip(context.Background(), path, r)
	if err != nil {
		return refused(err, http.StatusBadRequest, http.StatusNotFound)
	}
	fmt.Fprintf(e.stdout, "skipped %d offsets of %s/%d, from %d to %d; reading goes on at %d\n",
		result.Next-result.From, c.Topic, c.Partition, result.From, result.Next-1, result.Next)
	return nil
}
