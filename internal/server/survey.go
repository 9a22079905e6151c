package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"wsd/internal/control"
	"wsd/internal/routing"
	"wsd/internal/shard"
)

// surveyTime is how long a shard has for a survey. One in a long turn is then reported as missing.
const surveyTime = 5 * time.Second

// Clients describes clients for the control socket and the admin port. Any goroutine may call it.
func (s *Server) Clients(ctx context.Context, q control.ClientsQuery) (control.ClientsState, error) {
	ask := shard.ClientQuery{User: q.User, Channel: q.Channel, Waiting: q.Waiting, Max: q.Max}
	shards := s.shards
	if q.Client != "" {
		id, ok := routing.ParseClientID([]byte(q.Client))
		conn, known := s.clientIDs.Conn(id)
		if !ok || !known || int(conn.Shard()) >= len(s.shards) {
			return control.ClientsState{}, &control.Refusal{Status: http.StatusBadRequest,
				Text: fmt.Sprintf("client %q: not the id of a client of this process", q.Client)}
		}
		ask.Client = conn
		shards = shards[conn.Shard() : conn.Shard()+1]
	}
	state := control.ClientsState{Clients: []control.ClientState{}}
	type found struct {
		list  []shard.ClientInfo
		total int
	}
	unheard, err := each(ctx, shards, func(ctx context.Context, sh *shard.Shard) (f found, err error) {
		f.list, f.total, err = sh.Clients(ctx, ask)
		return f, err
	}, func(f found) {
		state.Total += f.total
		for i := range f.list {
			state.Clients = append(state.Clients, s.clientState(&f.list[i]))
		}
	})
	if err != nil {
		return control.ClientsState{}, err
	}
	state.Unheard = unheard
	state.AtLeast = state.Any()
	// Shards answer in any order. Of one shard the order stays.
	slices.SortStableFunc(state.Clients, func(a, b control.ClientState) int {
		return cmp.Or(cmp.Compare(b.WaitingBytes, a.WaitingBytes), cmp.Compare(a.Shard, b.Shard))
	})
	state.Clients = state.Clients[:min(len(state.Clients), q.Max)]
	return state, nil
}

func (s *Server) clientState(c *shard.ClientInfo) control.ClientState {
	state := control.ClientState{
		Client: string(s.clientIDs.Of(c.Client).Append(nil)), Shard: int(c.Client.Shard()),
		Address: c.Address, User: c.User, Dialect: c.Dialect, TLS: c.TLS, Compressed: c.Compressed,
		Channels: c.Channels, WaitingBytes: c.WaitingBytes, Blocked: c.Blocked, Behind: c.Behind,
	}
	for _, sub := range c.Subscribed {
		state.Subscribed = append(state.Subscribed, control.ClientInState(sub))
	}
	return state
}

// Channels describes channels for the control socket and the admin port. Each shard names those of its own that come
// first; then all shards are asked for these, so what is said of a channel is the sum of all. One that comes first only
// in the sum of many shards may be left out. Any goroutine may call it.
func (s *Server) Channels(ctx context.Context, q control.ChannelsQuery) (control.ChannelsState, error) {
	ask := shard.ChannelQuery{Prefix: q.Prefix, ByTraffic: q.ByTraffic, Max: shard.SurveyMax}
	state := control.ChannelsState{Channels: []control.ChannelState{}}
	all, err := s.sumChannels(ctx, ask, &state)
	if err == nil && all.cut {
		ask.Names = make([]string, 0, shard.SurveyMax)
		for _, c := range all.first(q.ByTraffic, shard.SurveyMax) {
			ask.Names = append(ask.Names, c.Channel)
		}
		again := control.ChannelsState{}
		if all, err = s.sumChannels(ctx, ask, &again); err == nil {
			state.Unheard = state.Or(again.Unheard)
		}
	}
	if err != nil {
		return control.ChannelsState{}, err
	}
	state.Channels = all.first(q.ByTraffic, q.Max)
	state.AtLeast = state.Any()
	return state, nil
}

// channelSums are what the shards together say of channels.
type channelSums struct {
	byName map[string]*control.ChannelState
	cut    bool // A shard has more channels than it has described.
}

// sumChannels asks all shards for channels. It sets what state says of the answers.
func (s *Server) sumChannels(ctx context.Context, q shard.ChannelQuery, state *control.ChannelsState,
) (channelSums, error) {
	all := channelSums{byName: make(map[string]*control.ChannelState)}
	unheard, err := each(ctx, s.shards, func(ctx context.Context, sh *shard.Shard) (shard.ChannelList, error) {
		return sh.Channels(ctx, q)
	}, func(list shard.ChannelList) {
		state.Total += list.First
		all.cut = all.cut || list.Found > len(list.Described)
		for _, c := range list.Described {
			sum := all.byName[c.Channel]
			if sum == nil {
				sum = &control.ChannelState{Channel: c.Channel}
				all.byName[c.Channel] = sum
			}
			sum.Shards++
			sum.Subscribers += c.Subscribers
			sum.Records = max(sum.Records, c.Records) // The same ones on each shard.
			sum.Deliveries += c.Deliveries
		}
	})
	state.Unheard = unheard
	return all, err
}

// first returns the channels that come first, in their order.
func (a *channelSums) first(byTraffic bool, most int) []control.ChannelState {
	list := make([]control.ChannelState, 0, len(a.byName))
	for _, c := range a.byName {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b control.ChannelState) int {
		first := cmp.Compare(b.Subscribers, a.Subscribers)
		if byTraffic {
			first = cmp.Compare(b.Deliveries, a.Deliveries)
		}
		return cmp.Or(first, cmp.Compare(a.Channel, b.Channel))
	})
	return list[:min(len(list), most)]
}

// each asks all shards at once and calls take for each answer, one after the other. It returns the shards that gave
// none. The error is that of ctx, which whoever asked has ended.
func each[T any](ctx context.Context, shards []*shard.Shard,
	ask func(ctx context.Context, sh *shard.Shard) (T, error), take func(T),
) (unheard control.Unheard, err error) {
	limited, cancel := context.WithTimeout(ctx, surveyTime)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	unheard = control.Unheard{Missing: []int{}, Busy: []int{}}
	for _, sh := range shards {
		all.Go(func() {
			answer, err := ask(limited, sh)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				take(answer)
			case errors.Is(err, shard.ErrSurveys):
				unheard.Busy = append(unheard.Busy, int(sh.ID()))
			default:
				unheard.Missing = append(unheard.Missing, int(sh.ID()))
			}
		})
	}
	all.Wait()
	slices.Sort(unheard.Missing)
	slices.Sort(unheard.Busy)
	return unheard, ctx.Err()
}
