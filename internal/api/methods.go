package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"wsd/internal/commands"
	"wsd/internal/proto"
)

// Publish is something to publish, as a Backend gets it.
type Publish struct {
	Channel string
	Data    []byte // Not to be changed: broadcasts have the same for many channels.
	Tags    map[string]string
	Key     string // Idempotency key; empty: none.
}

// Backend carries requests out. Functions return an *Error, or an error that is logged and shown as internal. They end
// when ctx does.
type Backend struct {
	// Publish publishes, and calls done once with the outcome, from any goroutine. It waits until there is room for p,
	// or ctx ends. Nil: not available.
	Publish func(ctx context.Context, p Publish, done func(Position, error))
	// Command acts on clients, and returns how far it reaches.
	Command func(ctx context.Context, c *commands.Command) (scope string, err error)
	// History returns what a channel's stream holds.
	History func(ctx context.Context, r HistoryRequest) (HistoryResult, error)
	// Channels returns channels with a subscriber on this node that match. Too many are an error.
	Channels func(ctx context.Context, match func(string) bool) (map[string]ChannelInfo, error)
	// Info describes this node.
	Info func() Node
}

// call is one command: a method with its parameters, by a key.
type call struct {
	*request
	h      *Handler
	params []byte
}

// method carries out a call.
type method func(ctx context.Context, c *call) (result any, err error)

// methods are the methods by name, except for batch, which is a list of these.
var methods = map[string]method{
	"publish": publish, "broadcast": broadcast, "subscribe": subscribe, "unsubscribe": unsubscribe,
	"disconnect": disconnect, "refresh": refresh, "history": history, "channels": channels, "info": info,
	"history_remove": notAvailable, "presence": notAvailable, "presence_stats": notAvailable, "rpc": notAvailable,
}

// decode reads the parameters of a call.
func decode[T any](c *call) (*T, error) {
	r := new(T)
	if len(c.params) == 0 {
		return r, nil
	}
	err := json.Unmarshal(c.params, r)
	if many, ok := errors.AsType[*tooMany](err); ok {
		return nil, errorOf(proto.ErrLimitExceeded, many.Error())
	}
	if err != nil {
		return nil, badRequest(err.Error())
	}
	return r, nil
}

var errChannelMissing = badRequest("name a channel")

// mayHave returns an error if the key is not for a channel.
func (c *call) mayHave(channel string) error {
	switch {
	case channel == "":
		return errChannelMissing
	case len(channel) > commands.ChannelMax:
		return badRequest(fmt.Sprintf("the channel's name has %d bytes, at most %d are allowed", len(channel),
			commands.ChannelMax))
	case !c.key.AllowsChannel(channel):
		return errorOf(proto.ErrPermissionDenied, "the key is not for this channel (api.keys)")
	}
	return nil
}

// dataOf returns the data of a request, which has them as JSON or in base64.
func dataOf(raw json.RawMessage, b64 string) ([]byte, error) {
	if b64 == "" {
		return raw, nil
	}
	data, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return nil, badRequest("b64data is not base64")
	}
	return data, nil
}

func publish(ctx context.Context, c *call) (any, error) {
	r, err := decode[PublishRequest](c)
	if err != nil {
		return nil, err
	}
	if err := c.mayHave(r.Channel); err != nil {
		return nil, err
	}
	data, err := c.toPublish(r.Data, r.B64Data)
	if err != nil {
		return nil, err
	}
	if err := c.publishes(1); err != nil {
		return nil, err
	}
	list := c.publishAll(ctx, []string{r.Channel}, Publish{Data: data, Tags: r.Tags, Key: r.IdempotencyKey})
	if list[0].Error != nil {
		return nil, list[0].Error
	}
	return list[0].Result, nil
}

// toPublish returns the data of a publication. JSON that is nested deeper than clients get it is refused.
func (c *call) toPublish(raw json.RawMessage, b64 string) ([]byte, error) {
	data, err := dataOf(raw, b64)
	if err != nil || b64 != "" || len(data) == 0 {
		return data, err
	}
	if _, err := proto.CompactJSON(nil, data, c.h.o.JSONDepth); err != nil {
		return nil, badRequest(fmt.Sprintf("clients do not get such data: at most %d levels (kafka.json_depth_max), "+
			"and numbers of at most %d digits", c.h.o.JSONDepth, proto.NumberBytesMax))
	}
	return data, nil
}

func broadcast(ctx context.Context, c *call) (any, error) {
	r, err := decode[BroadcastRequest](c)
	if err != nil {
		return nil, err
	}
	if len(r.Channels) == 0 {
		return nil, badRequest("name channels")
	}
	data, err := c.toPublish(r.Data, r.B64Data)
	if err != nil {
		return nil, err
	}
	if err := c.publishes(len(r.Channels)); err != nil {
		return nil, err
	}
	list := c.publishAll(ctx, r.Channels, Publish{Data: data, Tags: r.Tags, Key: r.IdempotencyKey})
	return BroadcastResult{Responses: list}, nil
}

// publishAll publishes the same to all channels, and returns the response for each.
func (c *call) publishAll(ctx context.Context, names []string, p Publish) []response {
	var (
		mu   sync.Mutex
		list = make([]response, len(names))
		left = len(names)
		done = make(chan struct{})
	)
	answer := func(i int, at Position, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			list[i].Error = c.h.errorFor("publish", err)
		} else {
			list[i].Result = at
		}
		if left--; left == 0 {
			close(done)
		}
	}
	for i, name := range names {
		err := c.mayHave(name)
		switch {
		case err != nil:
		case c.h.o.Backend.Publish == nil:
			err = errPublishOff
		case len(p.Data) == 0:
			err = badRequest("there is no data")
		case ctx.Err() != nil:
			err = errNotBegun
		default:
			c.h.o.Backend.Publish(ctx, Publish{Channel: name, Data: p.Data, Tags: p.Tags, Key: p.Key},
				func(at Position, err error) { answer(i, at, err) })
			continue
		}
		answer(i, Position{}, err)
	}
	select {
	case <-done:
		return list
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	late := slices.Clone(list) // Answers may still come.
	for i := range late {
		if late[i].Error == nil && late[i].Result == nil {
			late[i].Error = errTimeout
		}
	}
	return late
}

var (
	errPublishOff = errorOf(proto.ErrNotAvailable, "publishing is off (publish)")
	errTimeout    = errorOf(proto.ErrInternal, "not done within api.timeout; it may be done later")
	errNotBegun   = errorOf(proto.ErrInternal, "not begun within api.timeout")
	errSession    = errorOf(proto.ErrNotAvailable, "clients of wsd have no session: name a user or a client")
)

// command gives a command to the backend.
func (c *call) command(ctx context.Context, command *commands.Command, session string) (any, error) {
	if session != "" {
		return nil, errSession
	}
	if command.Channel != "" {
		if err := c.mayHave(command.Channel); err != nil {
			return nil, err
		}
	}
	if err := command.Check(); err != nil {
		return nil, badRequest(err.Error())
	}
	scope, err := c.h.o.Backend.Command(ctx, command)
	if err != nil {
		return nil, err
	}
	return CommandResult{Scope: scope}, nil
}

// beyondChannels returns an error if a method that acts on whole clients, or on the node, is not for the key: a key for
// certain channels has to name it.
func (c *call) beyondChannels(name string) error {
	if c.key.AllChannels() || c.key.NamesMethod(name) {
		return nil
	}
	return errorOf(proto.ErrPermissionDenied, "the key is for certain channels, and "+name+" is not about one: name "+
		"it in methods= (api.keys)")
}

func subscribe(ctx context.Context, c *call) (any, error) {
	r, err := decode[SubscribeRequest](c)
	if err != nil {
		return nil, err
	}
	data, err := dataOf(r.Data, r.B64Data)
	if err != nil {
		return nil, err
	}
	return c.command(ctx, &commands.Command{
		Do: commands.Subscribe, User: r.User, Client: r.Client, Channel: r.Channel, Data: data, Since: r.RecoverSince,
		ExpireAt: r.ExpireAt,
	}, r.Session)
}

func unsubscribe(ctx context.Context, c *call) (any, error) {
	r, err := decode[UnsubscribeRequest](c)
	if err != nil {
		return nil, err
	}
	if r.Channel == "" && !c.key.AllChannels() {
		return nil, errorOf(proto.ErrPermissionDenied, "the key is not for all channels (api.keys): name one")
	}
	return c.command(ctx, &commands.Command{
		Do: commands.Unsubscribe, User: r.User, Client: r.Client, Channel: r.Channel,
	}, r.Session)
}

func disconnect(ctx context.Context, c *call) (any, error) {
	r, err := decode[DisconnectRequest](c)
	if err != nil {
		return nil, err
	}
	if err := c.beyondChannels("disconnect"); err != nil {
		return nil, err
	}
	command := &commands.Command{Do: commands.Disconnect, User: r.User, Client: r.Client, Keep: r.Whitelist}
	if d := r.Disconnect; d != nil {
		command.Code, command.Reason = d.Code, d.Reason
	}
	return c.command(ctx, command, r.Session)
}

func refresh(ctx context.Context, c *call) (any, error) {
	r, err := decode[RefreshRequest](c)
	if err != nil {
		return nil, err
	}
	if err := c.beyondChannels("refresh"); err != nil {
		return nil, err
	}
	return c.command(ctx, &commands.Command{
		Do: commands.Refresh, User: r.User, Client: r.Client, Expired: r.Expired, ExpireAt: r.ExpireAt,
	}, r.Session)
}

func history(ctx context.Context, c *call) (any, error) {
	r, err := decode[HistoryRequest](c)
	if err != nil {
		return nil, err
	}
	if err := c.mayHave(r.Channel); err != nil {
		return nil, err
	}
	result, err := c.h.o.Backend.History(ctx, *r)
	if err != nil {
		return nil, err
	}
	if result.Publications == nil {
		result.Publications = []Publication{} // Clients expect a list.
	}
	return c.finds(result)
}

func channels(ctx context.Context, c *call) (any, error) {
	r, err := decode[ChannelsRequest](c)
	if err != nil {
		return nil, err
	}
	fits, err := globOf(r.Pattern)
	if err != nil {
		return nil, badRequest(err.Error())
	}
	list, err := c.h.o.Backend.Channels(ctx, func(name string) bool { return c.key.AllowsChannel(name) && fits(name) })
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = map[string]ChannelInfo{}
	}
	return c.finds(ChannelsResult{Channels: list, Scope: ScopeNode})
}

func info(_ context.Context, c *call) (any, error) {
	if err := c.beyondChannels("info"); err != nil {
		return nil, err
	}
	return InfoResult{Nodes: []Node{c.h.o.Backend.Info()}, Scope: ScopeNode}, nil
}

func notAvailable(context.Context, *call) (any, error) {
	return nil, errorOf(proto.ErrNotAvailable, "")
}

// errorFor returns the error that a client gets for any error. One that is not the client's fault is logged.
func (h *Handler) errorFor(name string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return errTimeout
	}
	h.problem(name, err)
	return errorOf(proto.ErrInternal, "")
}
