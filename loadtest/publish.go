package main

import (
	"context"
	"errors"
	"io"
	"time"

	"wsd/loadtest/publishing"
)

// publishCommand has clients publish.
type publishCommand struct {
	URL         string        `name:"url" default:"ws://127.0.0.1:8000/connection/websocket" help:"Address of the client protocol (${default})."`
	Admin       string        `default:"http://127.0.0.1:9000" help:"Admin port of the server, for its CPU time and memory (${default})."`
	Token       string        `help:"Token of all clients."`
	Publishers  int           `default:"1" help:"Clients that publish (${default})."`
	Rate        float64       `default:"20" help:"Publications a second of each, 0.01 to 100000 (${default})."`
	Abusers     int           `default:"0" help:"Further clients that publish at --abuse times the rate, in the second half of the duration; they must get error 111 or be closed (${default})."`
	Abuse       float64       `default:"10" help:"How many times the rate abusers publish, 1 to 1000 (${default})."`
	Subscribers int           `default:"1" help:"Clients that subscribe to the first channel (${default})."`
	Channels    int           `default:"1" help:"Channels that the publishers are spread over (${default})."`
	Channel     string        `default:"chat." help:"Beginning of the channels' names, before their numbers (${default})."`
	Size        int           `default:"128" help:"Bytes of a publication, roughly (${default})."`
	Duration    time.Duration `default:"20s" help:"How long to measure (${default})."`
	Warmup      time.Duration `default:"3s" help:"How long to publish before that (${default})."`
	Kafka       []string      `help:"Brokers for a bare loop that produces and fetches beside it. Default: none."`
	Topic       string        `default:"bare" help:"Topic of that loop, which is created if it can be (${default})."`
	Feed        string        `help:"Topic to which --kafka gets records for the first channel, at the rate, also without clients that publish. What subscribers then measure is produce to receive."`
	FeedKey     string        `default:"0" help:"Key of these records (${default})."`
	FeedHeader  string        `help:"Header of these records that names the channel, for servers that ask for one, such as Centrifugo's centrifugo-channels."`
}

func (c *publishCommand) run(ctx context.Context, out io.Writer) error {
	if c.Publishers < 0 || c.Abusers < 0 || c.Subscribers < 0 || c.Publishers+c.Abusers+c.Subscribers > 100_000 ||
		c.Rate < 0.01 || c.Rate > 100_000 || c.Size < 0 || c.Size > 8<<20 || c.Duration <= 0 || c.Duration > time.Hour {
		return errors.New("at most 100000 clients, --rate from 0.01 to 100000, --size up to 8 MiB, --duration up to 1h")
	}
	if c.Abuse < 1 || c.Abuse > 1000 {
		return errors.New("--abuse must be from 1 to 1000")
	}
	if c.Feed != "" && len(c.Kafka) == 0 {
		return errors.New("--feed needs --kafka")
	}
	return publishing.Execute(ctx, publishing.Options{
		URL: c.URL, Admin: c.Admin, Token: c.Token, Publishers: c.Publishers, Rate: c.Rate, Abusers: c.Abusers,
		Subscribers: c.Subscribers, Channels: c.Channels, Channel: c.Channel, Size: c.Size, Duration: c.Duration,
		Warmup: c.Warmup, Brokers: c.Kafka, Topic: c.Topic, Abuse: c.Abuse, Feed: c.Feed, FeedKey: c.FeedKey,
		FeedHeader: c.FeedHeader,
	}, out)
}
