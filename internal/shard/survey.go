package shard

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"wsd/internal/routing"
)

// A survey looks through a shard's connections or channels for an operator, and changes nothing. It goes on from turn
// to turn, a bounded part in each, so that a shard with a hundred thousand connections serves them meanwhile. So what
// it finds is of different moments.

const (
	// SurveyMax bounds what a survey returns.
	SurveyMax = 1000
	// surveysMax bounds the surveys that a shard has at a time, one of which it makes.
	surveysMax = 16

	unitsSurveyed  = 1
	unitsDescribed = 4 // A connection: its address is asked of the kernel.
)

// ClientQuery says which clients a survey is to find. Empty fields leave none out.
type ClientQuery struct {
	Client  routing.ConnID // One client, which is described with its channels; 0: all.
	User    string
	Channel string // One of its channels.
	Waiting bool   // Bytes wait for it.
	Max     int    // How many to describe, those with the most bytes waiting; at most SurveyMax.
}

// ClientInfo describes a client.
type ClientInfo struct {
	Client       routing.ConnID
	Address      string
	User         string
	Dialect      string // raw, json or protobuf.
	TLS          bool
	Compressed   bool        // It takes compressed messages.
	Channels     int         // How many it has.
	WaitingBytes int         // Bytes that wait to be sent to it.
	Blocked      bool        // The kernel takes no more for now.
	Behind       bool        // More than half of Limits.OutboundMax waits.
	Subscribed   []ClientSub // Of a query for one client: at most SurveyMax.
}

// ClientSub describes a channel of a client.
type ClientSub struct {
	Channel string
	Server  bool   // The server has subscribed the client.
	Offset  uint64 // Of the channel's stream, as far as this process has read it; 0: the channel has no positions.
	Epoch   string
}

// ChannelQuery says which channels a survey is to find.
type ChannelQuery struct {
	Prefix    string   // Of their names.
	ByTraffic bool     // Describe those with the most deliveries, not those with the most subscribers.
	Names     []string // Describe these alone, in this order, as far as they have subscribers; nil: all.
	Max       int      // How many to describe; at most SurveyMax.
}

// ChannelInfo describes a channel on a shard.
type ChannelInfo struct {
	Channel     string
	Subscribers int
	Records     uint64 // That came since it has had subscribers.
	Deliveries  uint64 // Those, times the subscribers that there were.
}

var (
	// ErrSurveys says that a shard takes no survey, because too many wait.
	ErrSurveys = errors.New("too many surveys are being made: try again")
	// ErrSurveyEnded says that a shard makes no survey, because it has ended.
	ErrSurveyEnded = errors.New("the shard has ended")
)

// survey is one that a shard was asked for.
type survey struct {
	ctx  context.Context //nolint:containedctx // Of whoever waits: without him there is nothing to do.
	look looker
	done chan struct{} // Closed when look has returned false, or is not called any longer.
}

// looker looks at one thing. It returns what that took, in units of work, and whether there is more to look at. The
// shard's goroutine.
type looker func() (units int, more bool)

// surveys are those that a shard was asked for.
type surveys struct {
	mu    sync.Mutex
	queue []*survey // The first one is being made.
	ended bool      // The loop has ended.
}

// add queues a survey.
func (q *surveys) add(v *survey) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.ended:
		return ErrSurveyEnded
	case len(q.queue) >= surveysMax:
		return ErrSurveys
	}
	q.queue = append(q.queue, v)
	return nil
}

// first returns the survey to go on with, nil if there is none.
func (q *surveys) first() *survey {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		return nil
	}
	return q.queue[0]
}

// finish drops the first survey, which has come to its end.
func (q *surveys) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.queue[0].done)
	q.queue = slices.Delete(q.queue, 0, 1)
}

// end refuses further surveys.
func (q *surveys) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
}

// goOnSurveying goes on with a survey, as far as the part of the turn goes, and reports whether there is more to do.
func (s *Shard) goOnSurveying() (more bool) {
	if !s.surveying {
		return false
	}
	v := s.surveys.first()
	if v == nil {
		s.surveying = false
		return false
	}
	for s.work.goesOn() {
		if v.ctx.Err() != nil {
			s.surveys.finish()
			return true
		}
		units, more := v.look()
		if s.work.spendPart(units); !more {
			s.surveys.finish()
			return true
		}
	}
	return true
}

// survey has the shard call look until it returns false. An error says that ctx has ended before, or that the shard
// takes no survey; look may then still be called. Any goroutine but the shard's.
func (s *Shard) survey(ctx context.Context, look looker) error {
	v := &survey{ctx: ctx, look: look, done: make(chan struct{})}
	if err := s.surveys.add(v); err != nil {
		return err
	}
	s.inbox.signal(signalSurvey)
	select {
	case <-v.done:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrSurveyEnded
	}
}

// most keeps those that come first in an order.
type most[T any] struct {
	max   int
	order func(a, b T) int
	list  []T
	total int // Of those that were offered.
}

// offer takes t into account, and returns what that took in units of work.
func (m *most[T]) offer(t T) (units int) {
	m.total++
	if m.list = append(m.list, t); len(m.list) >= 2*m.max {
		return m.trim()
	}
	return unitsSurveyed
}

// trim leaves those that come first, in their order, and returns what that took.
func (m *most[T]) trim() (units int) {
	units = len(m.list) * unitsSurveyed
	slices.SortStableFunc(m.list, m.order)
	m.list = m.list[:min(len(m.list), m.max)]
	return units
}

// Clients describes the clients that q asks for, those with the most bytes waiting first, and returns how many there
// are in all. Its errors are those of ctx, ErrSurveys and ErrSurveyEnded. Any goroutine but the shard's; after Start.
func (s *Shard) Clients(ctx context.Context, q ClientQuery) (list []ClientInfo, total int, err error) {
	type candidate struct {
		connRef
		waiting int
	}
	found := most[candidate]{max: max(1, min(q.Max, SurveyMax)), order: func(a, b candidate) int {
		return cmp.Compare(b.waiting, a.waiting)
	}}
	fits := func(c *conn) bool {
		return c != nil && c.isClient() && (q.User == "" || s.userOf(c) == q.User) &&
			(!q.Waiting || c.out.cost > 0) && (q.Channel == "" || s.channels.find(c, q.Channel) >= 0)
	}
	slot, end, described := uint32(0), uint32(0), -1
	err = s.survey(ctx, func() (units int, more bool) {
		switch {
		case q.Client != 0:
			if c := s.slab.find(q.Client.Slot(), q.Client.Generation()); fits(c) {
				info := s.describe(c)
				info.Subscribed = s.describeChannels(c)
				list, total = []ClientInfo{info}, 1
			}
			return unitsDescribed + SurveyMax*unitsSurveyed, false
		case described >= 0:
			if described < len(found.list) {
				ref := found.list[described]
				if c := s.slab.find(ref.slot, ref.generation); c != nil && c.isClient() {
					list = append(list, s.describe(c))
				}
				described++
			}
			return unitsDescribed, described < len(found.list)
		}
		// Blocks may be given back, and others made, between turns.
		if end = s.slab.end(); slot < end {
			units = unitsSurveyed
			if c := s.slab.at(slot); fits(c) {
				units = found.offer(candidate{connRef{c.slot, c.generation}, c.out.cost})
			}
			slot++
			return units, true
		}
		units = found.trim()
		total, described = found.total, 0
		return units, true
	})
	if err != nil {
		return nil, 0, err
	}
	return list, total, nil
}

func (s *Shard) describe(c *conn) ClientInfo {
	return ClientInfo{
		Client:  routing.MakeConnID(s.opts.ID, c.generation, c.slot),
		Address: s.proxied.client(c).String(), User: s.userOf(c), Dialect: c.variant.String(), TLS: c.secure,
		Compressed: c.reader.Deflate(), Channels: len(c.subs) - c.firstChannel(),
		WaitingBytes: c.out.cost, Blocked: c.out.blocked, Behind: c.out.cost > s.opts.Limits.OutboundMax/2,
	}
}

func (s *Shard) describeChannels(c *conn) []ClientSub {
	list := make([]ClientSub, 0, min(len(c.subs), SurveyMax))
	for _, sub := range c.subs[c.firstChannel():] {
		if len(list) == SurveyMax {
			break
		}
		name := s.channels.list[sub.channel].name
		info := ClientSub{Channel: strings.Clone(name), Server: s.identities.serves(c, sub.channel)}
		if offset, epoch, known := s.opts.Positions.Position(name); known {
			info.Offset, info.Epoch = offset, epoch
		}
		list = append(list, info)
	}
	return list
}

// ChannelList is what a survey has found of a shard's channels.
type ChannelList struct {
	Described []ChannelInfo
	Found     int // Channels that fit the query, also beyond those described.
	// Those of Found that no shard with a lower id has subscribers of. The sum over all shards has each channel once.
	First int
}

// Channels describes the channels that q asks for, of equal ones those whose names come first. Its errors are those of
// Clients. Any goroutine but the shard's; after Start.
func (s *Shard) Channels(ctx context.Context, q ChannelQuery) (ChannelList, error) {
	if q.Names != nil {
		return s.channelsOf(ctx, q.Names)
	}
	found := most[ChannelInfo]{max: max(1, min(q.Max, SurveyMax)), order: func(a, b ChannelInfo) int {
		more := cmp.Compare(b.Subscribers, a.Subscribers)
		if q.ByTraffic {
			more = cmp.Compare(b.Deliveries, a.Deliveries)
		}
		return cmp.Or(more, strings.Compare(a.Channel, b.Channel))
	}}
	next, first := 0, 0
	err := s.survey(ctx, func() (units int, more bool) {
		if next >= len(s.channels.list) {
			return found.trim(), false
		}
		ch := &s.channels.list[next]
		next++
		if len(ch.subscribers) == 0 || routing.Reserved(ch.name) || !strings.HasPrefix(ch.name, q.Prefix) {
			return unitsSurveyed, true
		}
		if id, ok := s.opts.Interest.First(ch.name); ok && id == s.opts.ID {
			first++
		}
		return found.offer(ch.info()), true
	})
	if err != nil {
		return ChannelList{}, err
	}
	return ChannelList{found.list, found.total, first}, nil
}

func (ch *channel) info() ChannelInfo {
	return ChannelInfo{ch.name, len(ch.subscribers), ch.records, ch.deliveries}
}

// channelsOf describes those of the named channels that have subscribers.
func (s *Shard) channelsOf(ctx context.Context, names []string) (list ChannelList, err error) {
	next := 0
	err = s.survey(ctx, func() (units int, more bool) {
		if next >= min(len(names), SurveyMax) {
			return unitsSurveyed, false
		}
		if index, ok := s.channels.byName.Get(names[next]); ok && !routing.Reserved(names[next]) {
			list.Described = append(list.Described, s.channels.list[index].info())
		}
		next++
		return unitsSurveyed, true
	})
	if err != nil {
		return ChannelList{}, err
	}
	list.Found = len(list.Described)
	return list, nil
}
