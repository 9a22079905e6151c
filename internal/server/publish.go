package server

import (
	"slices"

	"wsd/internal/commands"
	"wsd/internal/config"
	"wsd/internal/produce"
	"wsd/internal/proto"
	"wsd/internal/publish"
	"wsd/internal/route"
	"wsd/internal/rules"
	"wsd/internal/shard"
	"wsd/internal/source"
)

// publisher is what clients publish by. It is the shards' Publisher.
type publisher struct {
	rules *rules.Rules
	to    *publish.Publisher
}

// openProducer opens the producer of this process, if that has not happened. What needs one calls it.
func (s *Server) openProducer() (err error) {
	if s.producer != nil {
		return nil
	}
	k, p := &s.cfg.Kafka, &s.cfg.Publish
	by := route.Partitioner(k.Partitioner)
	larger := make(map[string]int)
	if s.cfg.Commands.Topic != "" {
		larger[s.cfg.Commands.Topic] = commands.RecordBytesMax
	}
	s.producer, err = produce.Open(produce.Options{
		Brokers: k.Brokers, ClientID: k.ClientID, TLS: s.login.tls, SASL: s.login.sasl,
		DialTimeout: k.DialTimeout, RequestTimeout: k.RequestTimeout, Timeout: p.Timeout,
		RecordsMax: p.UnderWayMax, BytesMax: int(p.Memory),
		RecordBytesMax:   int(p.BytesMax) + publishHeaders,
		RecordBytesMaxOf: larger,
		Partition:        func(key []byte, n int32) int32 { return source.PartitionOf(by, key, n) },
		Logger:           s.log,
	})
	return err
}

// publishHeaders is what a publication's record may have beside its data: its key, its tags and who published.
const publishHeaders = 2*route.ChannelBytesMax + 1024 + route.TagsMax*2*(route.TagBytesMax+32) +
	2*route.InfoBytesMax

// openPublisher builds what publishes to channels, if publish.rules lets anybody do that, or the server API may.
func (s *Server) openPublisher() error {
	if !s.cfg.Publish.On() && !s.cfg.API.On() {
		return nil
	}
	inverter, _, err := s.cfg.Inverter()
	if err != nil {
		return err
	}
	if err := s.openProducer(); err != nil {
		return err
	}
	p := &s.cfg.Publish
	s.publishing = publish.New(publish.Options{
		Producer: s.producer, Routes: inverter, BytesMax: int(p.BytesMax), JSONDepth: s.cfg.Kafka.JSONDepthMax,
		KeysTTL: p.KeysTTL, KeysMax: p.KeysMax,
	})
	if !p.On() {
		return nil
	}
	allowed, err := p.ChannelRules()
	if err != nil {
		return err
	}
	s.publisher = &publisher{rules: allowed, to: s.publishing}
	return nil
}

// published returns a function that reports whether clients may publish to a topic.
func published(cfg *config.Config) (func(topic string) bool, error) {
	allowed, err := cfg.Publish.ChannelRules()
	if err != nil {
		return nil, err
	}
	inverter, _, err := cfg.Inverter()
	if err != nil {
		return nil, err
	}
	return func(topic string) bool {
		return slices.ContainsFunc(inverter.Written(topic), func(names route.Names) bool {
			return allowed.MayAllow(names.Text, names.Prefix)
		})
	}, nil
}

// Allows implements shard.Publisher.
func (p *publisher) Allows(who *shard.Identity, channel string) bool {
	return p.rules.Allows(&rules.Client{User: who.User, Lists: who.Lists}, channel)
}

// Publish implements shard.Publisher.
func (p *publisher) Publish(one shard.Publication, done func(*proto.Error)) *proto.Error {
	err := p.to.Publish(publish.Request{
		Channel: one.Channel, Data: one.Data, JSON: one.JSON, Client: one.Client, User: one.User,
		ConnInfo: one.ConnInfo, ChanInfo: one.ChanInfo,
	}, func(_ produce.Ack, err error) { done(publish.ErrorOf(err)) })
	return publish.ErrorOf(err)
}

// produceStats returns the counters of the producer, or nil without one.
func (s *Server) produceStats() *produce.Stats {
	if s.producer == nil {
		return nil
	}
	return s.producer.Stats()
}

// shardPublish returns the options of shards. Without a publisher theirs must be a nil interface, not an interface that
// contains a nil pointer.
func (s *Server) shardPublish() shard.PublishOptions {
	if s.publisher == nil {
		return shard.PublishOptions{}
	}
	return shard.PublishOptions{Publisher: s.publisher, Raw: s.cfg.Publish.Raw}
}
