package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// SurveyMax bounds the clients or channels that a survey describes.
const SurveyMax = 1000

// surveyDefault is how many a survey describes unless it is told.
const surveyDefault = 100

// ClientsQuery says which clients to describe. Empty fields leave none out.
type ClientsQuery struct {
	Client  string // Id of one client, as its connect reply has it: it is described with its channels.
	User    string
	Channel string // One of its channels.
	Waiting bool   // Bytes wait to be sent to it.
	Max     int    // How many to describe, those with the most bytes waiting: 1 to SurveyMax.
}

// ClientsState describes clients, those with the most bytes waiting first.
type ClientsState struct {
	Total   int           `json:"total"`              // How many there are, also beyond those described.
	AtLeast bool          `json:"at_least,omitempty"` // There may be more than Total: some shards gave no answer.
	Clients []ClientState `json:"clients"`            // In order.
	Unheard
}

// Unheard are the shards that gave no answer.
type Unheard struct {
	Missing []int `json:"missing"` // Shards that did not answer in time, or have ended.
	Busy    []int `json:"busy"`    // Shards of which too many surveys were asked at the same time.
}

// Any returns whether a shard gave no answer.
func (u Unheard) Any() bool { return len(u.Missing)+len(u.Busy) > 0 }

// Or returns the shards that gave no answer to one or the other of two surveys, in order and each once.
func (u Unheard) Or(other Unheard) Unheard {
	union := func(a, b []int) []int {
		all := append(append([]int{}, a...), b...) // Not nil, which is null in JSON.
		slices.Sort(all)
		return slices.Compact(all)
	}
	return Unheard{Missing: union(u.Missing, other.Missing), Busy: union(u.Busy, other.Busy)}
}

// ClientState describes a client.
type ClientState struct {
	Client       string          `json:"client"` // Its id.
	Shard        int             `json:"shard"`
	Address      string          `json:"address"`
	User         string          `json:"user"` // Empty without one.
	Dialect      string          `json:"dialect"`
	TLS          bool            `json:"tls"`
	Compressed   bool            `json:"compressed"` // It takes compressed messages.
	Channels     int             `json:"channels"`
	WaitingBytes int             `json:"waiting_bytes"` // That are to be sent to it.
	Blocked      bool            `json:"blocked"`       // Its socket takes no more for now.
	Behind       bool            `json:"behind"`        // More than half of client.outbound_max waits.
	Subscribed   []ClientInState `json:"subscribed,omitempty"`
}

// ClientInState describes a channel of a client.
type ClientInState struct {
	Channel string `json:"channel"`
	Server  bool   `json:"server"` // The server has subscribed the client.
	Offset  uint64 `json:"offset"` // Of the channel's stream, as far as wsd has read it; 0: it has no positions.
	Epoch   string `json:"epoch"`
}

// ChannelsQuery says which channels to describe.
type ChannelsQuery struct {
	Prefix    string // Of their names.
	ByTraffic bool   // Those with the most deliveries, not those with the most subscribers.
	Max       int    // How many: 1 to SurveyMax.
}

// ChannelsState describes channels.
type ChannelsState struct {
	// How many there are, also beyond those described. A channel with subscribers on several shards counts once.
	Total    int            `json:"total"`
	AtLeast  bool           `json:"at_least,omitempty"` // There may be more than Total: some shards gave no answer.
	Channels []ChannelState `json:"channels"`           // In the order that was asked for.
	Unheard
}

// ChannelState describes a channel.
type ChannelState struct {
	Channel     string `json:"channel"`
	Subscribers int    `json:"subscribers"`
	Shards      int    `json:"shards"`     // How many of them have subscribers.
	Records     uint64 `json:"records"`    // That came since it has had subscribers on a shard.
	Deliveries  uint64 `json:"deliveries"` // Those, times the subscribers that there were.
}

// Surveyor describes clients and channels for the handler. The error is a *Refusal if the query was wrong. Any
// goroutine may call both methods.
type Surveyor interface {
	Clients(ctx context.Context, q ClientsQuery) (ClientsState, error)
	Channels(ctx context.Context, q ChannelsQuery) (ChannelsState, error)
}

// ClientsHandler serves requests for clients by the parameters client, user, channel, waiting and max of their
// addresses.
func ClientsHandler(surveyor Surveyor) http.Handler {
	return survey(func(ctx context.Context, p *parameters) (ClientsState, error) {
		q := ClientsQuery{
			Client: p.text("client"), User: p.text("user"), Channel: p.text("channel"), Waiting: p.flag("waiting"),
			Max: p.max(),
		}
		if err := p.check(); err != nil {
			return ClientsState{}, err
		}
		return surveyor.Clients(ctx, q)
	})
}

// ChannelsHandler serves requests for channels by the parameters prefix, traffic and max of their addresses.
func ChannelsHandler(surveyor Surveyor) http.Handler {
	return survey(func(ctx context.Context, p *parameters) (ChannelsState, error) {
		q := ChannelsQuery{Prefix: p.text("prefix"), ByTraffic: p.flag("traffic"), Max: p.max()}
		if err := p.check(); err != nil {
			return ChannelsState{}, err
		}
		return surveyor.Channels(ctx, q)
	})
}

func survey[T any](ask func(ctx context.Context, p *parameters) (T, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		values, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			Answer(w, nil, &Refusal{Status: http.StatusBadRequest,
				Text: "the query of the address is not valid: " + err.Error()})
			return
		}
		state, err := ask(r.Context(), &parameters{values: values})
		Answer(w, state, err)
	})
}

// parameters are those of a request. Each may be given once.
type parameters struct {
	values url.Values
	known  []string
	err    error
}

func (p *parameters) text(name string) string {
	p.known = append(p.known, name)
	if len(p.values[name]) > 1 && p.err == nil {
		p.err = fmt.Errorf("%s is given %d times: give it once", name, len(p.values[name]))
	}
	return p.values.Get(name)
}

func (p *parameters) flag(name string) bool {
	text := p.text(name)
	if text == "" {
		return false
	}
	on, err := strconv.ParseBool(text)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%s=%q: must be true or false", name, text)
	}
	return on
}

func (p *parameters) max() int {
	text := p.text("max")
	if text == "" {
		return surveyDefault
	}
	n, err := strconv.Atoi(text)
	if (err != nil || n < 1 || n > SurveyMax) && p.err == nil {
		p.err = fmt.Errorf("max=%q: must be from 1 to %d", text, SurveyMax)
	}
	return n
}

// check returns what is wrong with the parameters.
func (p *parameters) check() error {
	for name := range p.values {
		if !slices.Contains(p.known, name) && p.err == nil {
			p.err = fmt.Errorf("unknown parameter %q: %v are known", name, p.known)
		}
	}
	if p.err != nil {
		return &Refusal{Status: http.StatusBadRequest, Text: p.err.Error()}
	}
	return nil
}

// Clients requests a description of clients from the wsd that serves on the socket. Its errors are those of Steering.
func Clients(ctx context.Context, socketPath string, q ClientsQuery) (state ClientsState, err error) {
	values := url.Values{"max": {strconv.Itoa(q.Max)}, "waiting": {strconv.FormatBool(q.Waiting)}}
	for name, text := range map[string]string{"client": q.Client, "user": q.User, "channel": q.Channel} {
		if text != "" {
			values.Set(name, text)
		}
	}
	err = ask(ctx, socketPath, http.MethodGet, ClientsPath+"?"+values.Encode(), nil, &state)
	return state, err
}

// Channels requests a description of channels from the wsd that serves on the socket. Its errors are those of Steering.
func Channels(ctx context.Context, socketPath string, q ChannelsQuery) (state ChannelsState, err error) {
	values := url.Values{
		"max": {strconv.Itoa(q.Max)}, "traffic": {strconv.FormatBool(q.ByTraffic)}, "prefix": {q.Prefix},
	}
	err = ask(ctx, socketPath, http.MethodGet, ChannelsPath+"?"+values.Encode(), nil, &state)
	return state, err
}
