package server

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"wsd/internal/admin"
	"wsd/internal/api"
	"wsd/internal/bus"
	"wsd/internal/produce"
	"wsd/internal/proto"
	"wsd/internal/publish"
	"wsd/internal/shard"
)

// apiBackend returns what carries requests of the server API out.
func (s *Server) apiBackend() api.Backend {
	b := api.Backend{Command: s.command, History: s.apiHistory, Channels: s.apiChannels, Info: s.apiInfo}
	if s.publishing != nil {
		b.Publish = s.apiPublish
	}
	return b
}

// apiPublish publishes for the server API. Whoever has a key for a channel may publish to it.
func (s *Server) apiPublish(p api.Publish, done func(api.Position, error)) {
	r := publish.Request{Channel: p.Channel, Data: p.Data, Tags: p.Tags, Key: p.Key}
	err := s.publishing.Publish(r, func(ack produce.Ack, err error) {
		if err != nil {
			done(api.Position{}, publishError(err))
			return
		}
		at := api.Position{}
		// A stream's offsets are Kafka's plus 1. Channels that several partitions feed have none.
		if _, epoch, known := s.source.Position(p.Channel); known && ack.Offset >= 0 {
			at = api.Position{Offset: uint64(ack.Offset) + 1, Epoch: epoch}
		}
		done(at, nil)
	})
	if err != nil {
		done(api.Position{}, publishError(err))
	}
}

func publishError(err error) error {
	e := publish.ErrorOf(err)
	return &api.Error{Code: uint32(e.Code), Message: e.Message}
}

// apiHistory returns what a channel's stream holds, as far as JSON can carry it.
func (s *Server) apiHistory(ctx context.Context, r api.HistoryRequest) (result api.HistoryResult, err error) {
	if s.recovery == nil {
		return result, api.NewError(proto.ErrNotAvailable, "recovery is off (recovery.enabled)")
	}
	position, epoch, known := s.source.Position(r.Channel)
	switch {
	case !known && !s.source.Settled(r.Channel):
		return result, api.NewError(proto.ErrInternal, "the channel's position is not known yet")
	case !known:
		return result, api.NewError(proto.ErrNotAvailable, "no single partition feeds the channel")
	case r.Since != nil && r.Since.Epoch != "" && r.Since.Epoch != epoch:
		return result, api.NewError(proto.ErrUnrecoverablePosition, "")
	}
	result.Position = api.Position{Offset: position, Epoch: epoch}
	asked := shard.HistoryRange{Limit: r.Limit, Reverse: r.Reverse}
	if r.Since != nil {
		asked.Since = &r.Since.Offset
	}
	options := s.shardRecovery()
	q := options.HistoryQuery(r.Channel, epoch, position, &asked)
	q.Owner = apiOwner
	if asked.Limit == 0 || q.After >= q.UpTo {
		return result, nil
	}
	answers := make(chan bus.Answer, 1)
	s.recovery.Ask(q, func(a bus.Answer) { answers <- a })
	var a bus.Answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		return result, ctx.Err()
	}
	switch {
	case a.Result == bus.ResultOK && (len(a.Records) > 0 || !a.More),
		q.Kind == bus.QueryLast && (len(a.Records) > 0 || a.Result == bus.ResultGone):
	case a.Result == bus.ResultEpoch, a.Result == bus.ResultAhead, a.Result == bus.ResultGone:
		return result, api.NewError(proto.ErrUnrecoverablePosition, "")
	default:
		return result, api.NewError(proto.ErrInternal, "the history cannot be read now")
	}
	for _, record := range asked.Of(a.Records) {
		if record.JSON != nil {
			result.Publications = append(result.Publications, apiPublication(&record))
		}
	}
	result.Publications = shard.Cut(&asked, result.Publications)
	return result, nil
}

// apiPublication returns a record as the server API shows it.
func apiPublication(r *bus.Record) api.Publication {
	p := api.Publication{Data: r.JSON, Offset: r.Offset}
	if r.Info == nil {
		return p
	}
	if r.Info.Client != "" {
		p.Info = &api.ClientInfo{User: r.Info.User, Client: r.Info.Client}
	}
	for _, tag := range r.Info.Tags {
		if p.Tags == nil {
			p.Tags = make(map[string]string)
		}
		p.Tags[tag[0]] = tag[1]
	}
	return p
}

// apiOwner names the server API among all who ask for records. It is no connection's number.
const apiOwner = 1 << 63

// countAtOnce is how many channels a shard is asked about in one order.
const countAtOnce = 1000

// apiChannels returns the channels of this node that match, with their clients.
func (s *Server) apiChannels(ctx context.Context, match func(string) bool) (map[string]api.ChannelInfo, error) {
	most := s.cfg.API.ChannelsMax
	names := s.interest.NamesOf(match, most+1)
	if len(names) > most {
		return nil, api.NewError(proto.ErrLimitExceeded, fmt.Sprintf("more than %d channels match (api.channels_max): "+
			"give a narrower pattern", most))
	}
	var (
		mu     sync.Mutex
		counts = make(map[string]int, len(names))
		left   = len(s.shards) * ((len(names) + countAtOnce - 1) / countAtOnce)
		done   = make(chan struct{})
	)
	if left == 0 {
		close(done)
	}
	for some := range slices.Chunk(names, countAtOnce) {
		counted := func(n []int) {
			mu.Lock()
			defer mu.Unlock()
			for i, name := range some {
				counts[name] += n[i]
			}
			if left--; left == 0 {
				close(done)
			}
		}
		for _, sh := range s.shards {
			if !sh.PostOrder(&shard.Order{Kind: shard.OrderCount, Names: some, Counted: counted}, nil) {
				return nil, errOrdersFull
			}
		}
	}
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	list := make(map[string]api.ChannelInfo, len(names))
	for name, n := range counts {
		if n > 0 {
			list[name] = api.ChannelInfo{NumClients: n}
		}
	}
	return list, nil
}

var errOrdersFull = api.NewError(proto.ErrInternal, "too many commands wait")

// apiInfo describes this node.
func (s *Server) apiInfo() api.Node {
	process := admin.ReadProcess()
	n := api.Node{
		UID: hex.EncodeToString(s.node[:]), Name: s.nodeName(), Version: s.build.Version,
		NumUsers: int64(s.interest.Users()), NumChannels: int64(s.interest.Len()),
		Uptime:  int64(time.Since(s.began).Seconds()),
		Process: &api.Process{RSS: process.ResidentBytes},
	}
	if up := time.Since(s.began).Seconds(); up > 0 {
		n.Process.CPU = 100 * process.CPUSeconds / up
	}
	for _, sh := range s.shards {
		n.NumClients += sh.Stats().Clients.Load()
		n.NumSubs += sh.Stats().Subscriptions.Load()
	}
	return n
}
