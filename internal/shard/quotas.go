package shard

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wsd/internal/shrink"
	"wsd/internal/stats"
	"wsd/internal/wire"
)

// Quota is a limit of what clients take together, an address takes, or of how long a client stays.
type Quota uint8

// The quotas.
const (
	QuotaConnections        Quota = iota // Upgraded connections, until their sockets are closed.
	QuotaAddressConnections              // The same of one client address, see proxied.network.
	QuotaHandshakes                      // Connections whose upgrade request is not complete.
	QuotaAddressHandshakes               // The same of one client address.
	QuotaChannels                        // Channels with a subscriber.
	QuotaChannelsRate                    // Channels that come into being in a second.
	QuotaAge                             // Nanoseconds from accept to close, give or take a tenth.
	QuotaIdle                            // Nanoseconds that a client of the protocol may be without a subscription.

	// Those below are kept by fields of Limits and Memory. Quotas says what the log shows, and whether they run dry:
	// then the field is what may be had in any case.
	QuotaSubscriptions // Subscriptions of one client.
	QuotaHead          // Bytes of an upgrade request.
	QuotaMessage       // Bytes of a message from a client.
	QuotaFirstMessage  // Bytes of a message from a client that is not connected yet.
	QuotaOutbound      // Bytes that wait for one client.
	QuotaMemory        // Bytes that clients hold alone.
	QuotaAnswers       // Bytes of that in histories and recovered publications.
	QuotaPinned        // Bytes of messages that left the ring and that clients still hold.

	QuotaUserConnections // Upgraded connections of one user, by its token.

	QuotaPublishRate     // Publications that one client may send in a second.
	QuotaPublishUnderWay // Publications of one client whose outcome is not known.
	quotaCount
)

// quotas are the names of quotas, which are those of their options and metric labels, and the response to an upgrade
// request that exceeds one.
var quotas = [quotaCount]struct {
	name   string
	status int
	body   string
	group  string // Of the option; empty: limits.
	often  bool   // To reach it is nothing unusual.
}{
	QuotaConnections: {name: "connections", status: 503,
		body: "The server has as many clients as limits.connections allows; try again later."},
	QuotaAddressConnections: {name: "address_connections", status: 429,
		body: "Your address has as many clients here as limits.address_connections allows; close some."},
	QuotaHandshakes: {name: "handshakes", status: 503,
		body: "More upgrade requests are incomplete than limits.handshakes allows; try again later."},
	QuotaAddressHandshakes: {name: "address_handshakes", status: 429,
		body: "More upgrade requests of your address are incomplete than limits.address_handshakes allows; try again " +
			"later."},
	QuotaChannels: {name: "channels", status: 503,
		body: "The server has as many channels as limits.channels allows; try again later."},
	QuotaChannelsRate: {name: "channels_rate", status: 503,
		body: "More new channels were subscribed to in this second than limits.channels_rate allows; try again later."},
	QuotaAge:             {name: "age", often: true},
	QuotaIdle:            {name: "idle", often: true},
	QuotaSubscriptions:   {name: "channels_max", group: "client", often: true},
	QuotaHead:            {name: "head_max", group: "client", often: true},
	QuotaMessage:         {name: "message_max", group: "client", often: true},
	QuotaFirstMessage:    {name: "first_message_max", group: "client", often: true},
	QuotaOutbound:        {name: "outbound_max", group: "client", often: true},
	QuotaMemory:          {name: "memory"},
	QuotaAnswers:         {name: "answers_memory"},
	QuotaPinned:          {name: "pinned_max", group: "bus"},
	QuotaPublishRate:     {name: "publish_rate", often: true},
	QuotaPublishUnderWay: {name: "publish_under_way", often: true},
	QuotaUserConnections: {name: "user_connections", status: 429, often: true,
		body: "Your user has as many clients here as limits.user_connections allows; close some."},
}

// AllQuotas lists every quota.
func AllQuotas() []Quota {
	list := make([]Quota, quotaCount)
	for q := range list {
		list[q] = Quota(q)
	}
	return list
}

// String is the quota's metric label, and what limits.dry_run calls it.
func (q Quota) String() string { return quotas[q].name }

// Option is the key of the quota's option.
func (q Quota) Option() string { return cmp.Or(quotas[q].group, "limits") + "." + quotas[q].name }

// cause is the quota's cause of a refused upgrade request.
func (q Quota) cause() wire.Cause { return wire.Cause(quotas[q].name) }

// QuotaLimit is how much there is of a quota.
type QuotaLimit struct {
	Max    int64 // 0: any number.
	DryRun bool  // Whoever exceeds it is counted and logged, and goes on.
}

// QuotaLimits are the limits of a process, by Quota.
type QuotaLimits [quotaCount]QuotaLimit

// Quotas are the quotas of a process, and what is taken of them. One is shared by all shards. Limits are fixed before
// the first shard starts. The zero value limits nothing. Any goroutine may use it.
type Quotas struct {
	Limits QuotaLimits

	connections, handshakes atomic.Int64
	addresses               addresses
	users                   users
	created                 channelWindow
	logged                  [quotaCount]stats.Seldom

	proxyRefused stats.Seldom // A line about a connection without its PROXY header.
	proxyUnnamed stats.Seldom // A line about a request of a proxy that names no client.
}

// Connections returns how many upgraded connections count; 0 where limits.connections is not set.
func (q *Quotas) Connections() int64 { return q.connections.Load() }

// Handshakes returns how many connections wait for their upgrade request to be complete.
func (q *Quotas) Handshakes() int64 { return q.handshakes.Load() }

// exceeded counts and logs that a quota is exceeded, and reports whether that has consequences. Any goroutine.
func (s *Shard) exceeded(quota Quota) bool {
	s.stats.Exceeded[quota].Add(1)
	q := s.opts.Quotas
	limit := q.Limits[quota]
	if q.logged[quota].Allows() {
		level := slog.LevelWarn
		switch {
		case quotas[quota].often && limit.DryRun:
			level = slog.LevelInfo
		case quotas[quota].often:
			level = slog.LevelDebug
		}
		s.opts.Logger.Log(context.Background(), level, "a limit is exceeded", "limit", quota.Option(),
			"value", limit.Max, "dry_run", limit.DryRun, "shard", s.opts.ID,
			"metric", "wsd_limit_exceeded_total counts each time; this line comes once a minute at most")
	}
	return !limit.DryRun
}

// retryAfterLeast is after how many seconds who was refused is asked to come back, at least. It is up to twice that, at
// random.
const retryAfterLeast = 5

// rejectOver is the response to an upgrade request that exceeds a quota.
func rejectOver(q Quota) *wire.Reject {
	return rejectForNow(q.cause(), quotas[q].status, quotas[q].body, retryAfterLeast)
}

// addresses counts what client addresses have. An address that has nothing has no entry.
type addresses struct {
	mu     sync.Mutex
	counts map[netip.Addr]addressCount
	peak   int // See shrink.Map.
}

type addressCount struct{ connections, handshakes int32 }

// change adds to the counts of an address and returns them.
func (a *addresses) change(address netip.Addr, connections, handshakes int32) addressCount {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.counts[address]
	n.connections += connections
	n.handshakes += handshakes
	switch {
	case n.connections < 0 || n.handshakes < 0:
		panic("BUG: a client address has less than nothing")
	case n == addressCount{}:
		a.peak = max(a.peak, len(a.counts))
		delete(a.counts, address)
		shrink.Map(&a.counts, &a.peak, shrinkFrom)
	case a.counts == nil:
		a.counts = make(map[netip.Addr]addressCount)
		fallthrough
	default:
		a.counts[address] = n
	}
	return n
}

// len returns how many addresses have something.
func (a *addresses) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.counts)
}

// channelWindow is the second in which new channels are counted.
type channelWindow struct {
	mu      sync.Mutex
	began   time.Time
	created uint64 // Channels that had come into being when it began.
}

// over reports whether n more channels would be too many for the second that now is in. The first ones in a second
// never are, so that a client that names many at once has a chance.
func (w *channelWindow) over(now time.Time, created uint64, n, most int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.began) >= time.Second {
		w.began, w.created = now, created
	}
	since := int64(created - w.created) // Negative if another shard came first.
	return since > 0 && since+n > most
}

// admitsChannels reports whether clients may subscribe to channels of these names, and if not, which quota has none
// left. Channels that exist are no question. Shards that ask at the same moment may exceed a quota by what each asks
// for.
func (s *Shard) admitsChannels(names []string) (exceeded Quota, ok bool) {
	q := s.opts.Quotas
	most, rate := q.Limits[QuotaChannels].Max, q.Limits[QuotaChannelsRate].Max
	if most == 0 && rate == 0 {
		return 0, true
	}
	var fresh int64
	for _, name := range names {
		if _, known := s.channels.byName.Get(name); !known {
			fresh++
		}
	}
	now := s.start.Add(time.Duration(s.tick) * tickLength)
	full := func() bool { return most > 0 && int64(s.opts.Interest.Len())+fresh > most }
	fast := func() bool { return rate > 0 && q.created.over(now, s.opts.Interest.Created(), fresh, rate) }
	if fresh == 0 || !full() && !fast() {
		return 0, true
	}
	fresh = 0 // Another shard may have them.
	for _, name := range names {
		if _, known := s.opts.Interest.Lookup([]byte(name)); !known {
			fresh++
		}
	}
	switch {
	case fresh == 0:
	case full() && s.exceeded(QuotaChannels):
		return QuotaChannels, false
	case fast() && s.exceeded(QuotaChannelsRate):
		return QuotaChannelsRate, false
	}
	return 0, true
}
