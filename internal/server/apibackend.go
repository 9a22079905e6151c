package server

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"wsd/internal/admin"
	"wsd/internal/api"
	"wsd/internal/bus"
	"wsd/internal/config"
	"wsd/internal/produce"
	"wsd/internal/proto"
	"wsd/internal/publish"
	"wsd/internal/route"
	"wsd/internal/shard"
)

// apiBackend returns what carries requests of the server API out.
func (s *Server) apiBackend() api.Backend {
	counting := make(chan struct{}, 1)
	b := api.Backend{
		Command: s.command, History: s.apiHistory, Info: s.apiInfo,
		Channels: func(ctx context.Context, match func(string) bool) (map[string]api.ChannelInfo, error) {
			select {
			case counting <- struct{}{}: // One at a time: it may take a core, and a place in the queue of each shard.
				defer func() { <-counting }()
				return s.apiChannels(ctx, match)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
	if s.publishing != nil {
		room := newPublishRoom(&s.cfg.Publish)
		b.Publish = func(ctx context.Context, p api.Publish, done func(api.Position, error)) {
			release, err := room.wait(ctx, &p)
			if err != nil {
				done(api.Position{}, err)
				return
			}
			s.apiPublish(p, func(at api.Position, err error) {
				release()
				done(at, err)
			})
		}
	}
	return b
}

// publishRoom is the room that publications of the server API have in the producer: half of it. A broadcast to
// thousands of channels waits for its own publications, instead of taking all room from clients and then failing.
type publishRoom struct {
	free        *semaphore.Weighted // Of bytes.
	all, lowest int64               // Its size, and what a small publication takes, so that their number is limited.
}

func newPublishRoom(o *config.Publish) *publishRoom {
	r := &publishRoom{all: int64(o.Memory) / 2, lowest: int64(o.Memory) / int64(o.UnderWayMax)}
	r.free = semaphore.NewWeighted(r.all)
	return r
}

// publishOverhead is what a publication takes in the producer beside its data and tags: what it is known by, its
// channel's name and its key.
const publishOverhead = 512 + 2*route.ChannelBytesMax

// wait returns when there is room for p, or when ctx ends.
func (r *publishRoom) wait(ctx context.Context, p *api.Publish) (release func(), err error) {
	size := int64(publishOverhead + len(p.Data))
	for name, value := range p.Tags {
		size += int64(len(name) + len(value))
	}
	size = min(max(size, r.lowest), r.all)
	if err := r.free.Acquire(ctx, size); err != nil {
		return nil, err
	}
	return func() { r.free.Release(size) }, nil
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
		p.Info = &api.ClientInfo{
			User: r.Info.User, Client: r.Info.Client, ConnInfo: r.Info.ConnInfo, ChanInfo: r.Info.ChanInfo,
		}
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
	names := s.interest.NamesOf(func(name string) bool { return ctx.Err() == nil && match(name) }, most+1)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(names) > most:
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
