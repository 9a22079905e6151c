package server

import (
	"cmp"
	"context"
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
	missing, err := each(ctx, shards, func(ctx context.Context, sh *shard.Shard) (list []shard.ClientInfo, total int,
		err error) {
		return sh.Clients(ctx, ask)
	}, func(list []shard.ClientInfo, total int) {
		state.Total += total
		for i := range list {
			state.Clients = append(state.Clients, s.clientState(&list[i]))
		}
	})
	if err != nil {
		return control.ClientsState{}, err
	}
	state.Missing = missing
	slices.SortStableFunc(state.Clients, func(a, b control.ClientState) int {
		return cmp.Compare(b.WaitingBytes, a.WaitingBytes)
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
// first, so one that comes first only in the sum of many shards may be left out. Any goroutine may call it.
func (s *Server) Channels(ctx context.Context, q control.ChannelsQuery) (control.ChannelsState, error) {
	ask := shard.ChannelQuery{Prefix: q.Prefix, ByTraffic: q.ByTraffic, Max: shard.SurveyMax}
	total := 0
	byName := make(map[string]*control.ChannelState)
	missing, err := each(ctx, s.shards, func(ctx context.Context, sh *shard.Shard) (list []shard.ChannelInfo, total int,
		err error) {
		return sh.Channels(ctx, ask)
	}, func(list []shard.ChannelInfo, found int) {
		total += found
		for _, c := range list {
			state := byName[c.Channel]
			if state == nil {
				state = &control.ChannelState{Channel: c.Channel}
				byName[c.Channel] = state
			} else {
				total--
			}
			state.Shards++
			state.Subscribers += c.Subscribers
			state.Records = max(state.Records, c.Records) // The same ones on each shard.
			state.Deliveries += c.Deliveries
		}
	})
	if err != nil {
		return control.ChannelsState{}, err
	}
	state := control.ChannelsState{Total: total, Missing: missing, Channels: []control.ChannelState{}}
	for _, c := range byName {
		state.Channels = append(state.Channels, *c)
	}
	slices.SortFunc(state.Channels, func(a, b control.ChannelState) int {
		first := cmp.Compare(b.Subscribers, a.Subscribers)
		if q.ByTraffic {
			first = cmp.Compare(b.Deliveries, a.Deliveries)
		}
		return cmp.Or(first, cmp.Compare(a.Channel, b.Channel))
	})
	state.Channels = state.Channels[:min(len(state.Channels), q.Max)]
	return state, nil
}

// each asks all shards at once and calls take for each answer, one after the other. It returns the shards that did not
// answer in time. The error is that of ctx, which whoever asked has ended.
func each[T any](ctx context.Context, shards []*shard.Shard,
	ask func(ctx context.Context, sh *shard.Shard) (list []T, total int, err error), take func(list []T, total int),
) (missing []int, err error) {
	limited, cancel := context.WithTimeout(ctx, surveyTime)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	missing = []int{}
	for _, sh := range shards {
		all.Go(func() {
			list, total, err := ask(limited, sh)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, int(sh.ID()))
				return
			}
			take(list, total)
		})
	}
	all.Wait()
	slices.Sort(missing)
	return missing, ctx.Err()
}
