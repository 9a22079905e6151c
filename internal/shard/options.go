package shard

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"wsd/internal/bus"
	"wsd/internal/routing"
)

// LoadReporter passes the shard's load on to the steering program in the kernel. The shard's goroutine calls it, three
// times a turn at most; each method must be as cheap as a few atomic stores.
type LoadReporter interface {
	// BeginTurn stores when the current turn began, in CLOCK_MONOTONIC nanoseconds; 0 means that the shard waits.
	BeginTurn(monotonicNanos uint64)
	// EndTurn reports how many connections the turn accepted, how many it closed, and how many nanoseconds it was busy.
	EndTurn(accepted, closed, nanos uint64)
}

// Positions knows how far a channel's stream has been routed. Any shard's goroutine calls it.
type Positions interface {
	// Position returns the offset (Kafka's + 1) of the last record routed from the one partition that feeds channel,
	// and the epoch that names the stream. ok is false when no single partition is known to feed it.
	Position(channel string) (offset uint64, epoch string, ok bool)
	// Settled reports whether a channel without a position has none at all, rather than one that is not known yet.
	Settled(channel string) bool
}

// Limits bounds what one connection may take. Every field must be positive.
type Limits struct {
	OutboundMax       int           // Bytes that may wait for the kernel after the message being sent.
	MessageMax        int           // Bytes of one message from a client.
	FirstMessageMax   int           // The same before its connect command.
	MessageOutMax     int           // Bytes of a message to a client with several publications; alike in all shards.
	HeadMax           int           // Bytes of an upgrade request.
	ChannelsMax       int           // Subscriptions of one connection.
	ChannelLengthMax  int           // Bytes of a channel name.
	HandshakeTimeout  time.Duration // From accept to a complete upgrade request.
	StaleCloseDelay   time.Duration // From upgrade to the connect command.
	FrameTimeout      time.Duration // From the first byte of a message to its last.
	PingInterval      time.Duration // From one ping to the next.
	PongTimeout       time.Duration // From a ping to its pong.
	CloseGrace        time.Duration // From the close frame to the peer's; then the connection is reset.
	BatchBytesPerTurn int           // Bytes of values gathered in a turn; the last batch may exceed it.
	PinnedMax         int           // Bytes that all shards' connections may hold of batches that left the ring.

	Rates RateLimits // Zero values limit nothing.
}

// allowName reports whether a command may name the channel. That it is valid UTF-8 was checked for the whole command.
func (l *Limits) allowName(channel string) bool {
	return channel != "" && len(channel) <= l.ChannelLengthMax
}

// Options is what a shard is built from.
type Options struct {
	ID        routing.ShardID
	Listeners []int // Non-blocking listening descriptors, one an address. The shard closes them, also when New fails.
	Cursor    *bus.Cursor
	Head      func() uint64 // Returns the sequence that the bus gives to its next batch.
	Interest  *routing.Interest
	Positions Positions
	// CanFeed reports whether anything can ever feed the channel; others are refused. Nil: all are accepted. Any
	// shard's goroutine calls it.
	CanFeed func(channel string) bool
	Load    LoadReporter
	Serving *atomic.Bool // Whether GET /healthz answers 200; shared by all shards.

	Descriptors *Descriptors // Shared by all shards.
	Memory      *Memory      // Shared by all shards.
	Quotas      *Quotas      // Shared by all shards.
	Admission   *Admission   // Shared by all shards; nil: every new client may come in.
	Drain       *Drain       // Shared by all shards.
	Limits      Limits
	Slow        []SlowPolicy // The first whose pattern fits a channel applies; none: PolicyDisconnect.
	Deflate     Deflate
	TLS         TLS
	Proxies     Proxies
	Late        *Late // Shared by all shards; nil: late deliveries are not noted.
	Recovery    RecoveryOptions
	Auth        AuthOptions
	Calls       CallOptions
	Publish     PublishOptions

	// AllowsOrigin reports whether pages of an origin may connect to a host, as the request names both. Clients that
	// are not browsers send no origin, and are not asked about. Nil: all may. Any shard's goroutine calls it.
	AllowsOrigin func(origin, host string) bool

	PathPrefix  string             // What a proxy may leave before the paths of the client port; may be empty.
	Version     string             // In the connect result of protocol clients.
	ClientIDs   *routing.ClientIDs // Makes the ids of clients.
	ShardHeader bool               // Put the shard into an X-Wsd-Shard header of the 101.
	Logger      *slog.Logger

	// TokenIgnored, if not nil, is called for each token that a client sends although there is no Auth.Authority. Any
	// shard's goroutine.
	TokenIgnored func()
}

// listenersMax is how many a connection can tell apart.
const listenersMax = 256

func (o Options) validate() error {
	switch {
	case o.Cursor == nil || o.Head == nil || o.Interest == nil || o.Positions == nil || o.Load == nil ||
		o.Serving == nil || o.Descriptors == nil || o.Memory == nil || o.Quotas == nil ||
		o.Drain == nil || o.ClientIDs == nil ||
		o.Logger == nil:
		return errors.New("BUG: shard options with a nil dependency")
	case int(o.ID) >= routing.ShardsMax:
		return fmt.Errorf("BUG: shard id %d, at most %d", o.ID, routing.ShardsMax-1)
	case len(o.Listeners) == 0 || len(o.Listeners) > listenersMax:
		return fmt.Errorf("BUG: shard with %d listeners, want 1 to %d", len(o.Listeners), listenersMax)
	}
	if t := o.TLS; t.Handshakes != nil && (t.From < 0 || t.From >= len(o.Listeners)) {
		return fmt.Errorf("BUG: TLS from listener %d on, of %d", t.From, len(o.Listeners))
	}
	for _, p := range o.Slow {
		if p.Policy >= policyCount {
			return fmt.Errorf("BUG: slow policy %d for %q", p.Policy, p.Pattern)
		}
	}
	if d := o.Deflate; d.Deflater != nil && (d.Least < 1 || d.Inline < 0) {
		return fmt.Errorf("BUG: shard compresses from %d bytes on, up to %d by itself", d.Least, d.Inline)
	}
	if r := o.Recovery; r.Recoverer != nil && min(r.PublicationsMax, r.HistoryMax, r.BytesMax) < 1 {
		return fmt.Errorf("BUG: shard recovers %d publications at most, with a history of %d and %d bytes",
			r.PublicationsMax, r.HistoryMax, r.BytesMax)
	}
	if c := o.Calls; c.Backend != nil && c.Max < 1 {
		return fmt.Errorf("BUG: shard with a backend and %d calls for each connection", c.Max)
	}
	l := o.Limits
	for name, v := range map[string]int64{
		"OutboundMax": int64(l.OutboundMax), "MessageMax": int64(l.MessageMax),
		"FirstMessageMax": int64(l.FirstMessageMax), "MessageOutMax": int64(l.MessageOutMax),
		"HeadMax": int64(l.HeadMax), "ChannelsMax": int64(l.ChannelsMax), "ChannelLengthMax": int64(l.ChannelLengthMax),
		"HandshakeTimeout": int64(l.HandshakeTimeout), "StaleCloseDelay": int64(l.StaleCloseDelay),
		"FrameTimeout": int64(l.FrameTimeout),
		"PingInterval": int64(l.PingInterval), "PongTimeout": int64(l.PongTimeout), "CloseGrace": int64(l.CloseGrace),
		"BatchBytesPerTurn": int64(l.BatchBytesPerTurn), "PinnedMax": int64(l.PinnedMax),
	} {
		if v <= 0 {
			return fmt.Errorf("BUG: shard limit %s is %d, must be positive", name, v)
		}
	}
	return nil
}
