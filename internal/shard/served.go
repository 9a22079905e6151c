package shard

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/centrifugal/protocol"

	"wsd/internal/bus"
)

// A connection token may name channels, to which the server subscribes the client: the reply to the connect command has
// the results. A client may name others in that command (subs), such as those that the server API subscribed it to
// before; it gets those that it may have. A client that comes back says there where it was, and recovers as it would by
// itself. Its reply waits until the first answers for all channels that have to ask are there. Nothing of these
// channels may reach the client before the reply: records of those that asked are parked, and the others are subscribed
// to at the end, in the same turn as the reply. The client is held meanwhile.
//
// The SDKs do not subscribe to such a channel again by themselves. So what would end another subscription ends the
// connection, after which they reconnect and recover.

// serverJoin is a connect command whose reply waits for what the client missed.
type serverJoin struct {
	command  uint32
	names    []string                              // Channels that the client gets.
	requests map[string]*protocol.SubscribeRequest // What the client says of its channels.
	asked    map[string]*joinAsked                 // Channels that have asked.
	waiting  int                                   // How many of them have no answer yet.
	bytes    int                                   // Of publications that the reply is to have; at most replyBytes.

	requestBytes int // Memory that requests takes.
}

// joinAsked is a channel that has asked what the client missed.
type joinAsked struct {
	rec     *recovery
	answer  *result
	partial bool // The reply has none of it; it is streamed.
}

// serveChannels subscribes c, which has just said who it is, to the channels that its token names, and then sends the
// reply to its connect command, in this turn or later.
func (s *Shard) serveChannels(c *conn, command uint32, r *protocol.ConnectRequest, names []string) {
	j := &serverJoin{
		command: command, names: names, requests: make(map[string]*protocol.SubscribeRequest),
		asked: make(map[string]*joinAsked),
	}
	for _, name := range names {
		j.requestBytes += joinNameBytes + len(name)
		if sub := r.Subs[name]; sub != nil && sub.Recover {
			// Other flags are not for these.
			j.requests[name] = &protocol.SubscribeRequest{Recover: true, Epoch: sub.Epoch, Offset: sub.Offset}
			j.requestBytes += joinRequestBytes + len(sub.Epoch)
		}
	}
	s.identities.beginJoin(c, j)
	s.identities.bytes += int64(j.requestBytes)
	s.advanceJoin(c)
}

// beginJoin notes that c's connect command waits.
func (ids *identities) beginJoin(c *conn, j *serverJoin) {
	if ids.joins == nil {
		ids.joins = make(map[uint32]struct{})
	}
	ids.joins[c.slot] = struct{}{}
	ids.joining.Store(true)
	ids.of(c).join = j
}

// endJoin notes that c's connect command, if it did, waits no longer.
func (ids *identities) endJoin(c *conn) {
	if len(ids.joins) > 0 {
		if delete(ids.joins, c.slot); len(ids.joins) == 0 {
			ids.joins = nil // It may have been large, after a restart.
			ids.joining.Store(false)
		}
	}
}

// joinRequestBytes is what a channel that a client wants to recover takes while its connect command waits, beside its
// epoch, and joinNameBytes what its name takes beside the text.
const (
	joinRequestBytes = 512
	joinNameBytes    = 16
)

// joinNames returns the channels that a connect command subscribes a client to: those that the token names, and those
// that the command names and that the client may have. Names are in order, so that they are alike each time.
func (s *Shard) joinNames(who *Identity, r *protocol.ConnectRequest) []string {
	if len(r.Subs) == 0 {
		return who.Channels
	}
	names := slices.Clone(who.Channels)
	named := make(map[string]bool, len(names))
	for _, name := range names {
		named[name] = true
	}
	s.work.spend(len(r.Subs))
	for _, name := range slices.Sorted(maps.Keys(r.Subs)) {
		if !named[name] && utf8.ValidString(name) &&
			(!s.opts.Auth.on() || s.opts.Auth.Authority.Allows(who, name, false)) {
			names = append(names, strings.Clone(name))
		}
	}
	return names
}

// servedNames returns those of a connect command's channels that anything can feed.
func (s *Shard) servedNames(channels []string) (names []string) {
	for _, name := range channels {
		if s.opts.Limits.allowName(name) && (s.opts.CanFeed == nil || s.opts.CanFeed(name)) {
			names = append(names, name)
		}
	}
	return names
}

// serveChannel subscribes c to a channel as its token has it.
func (s *Shard) serveChannel(c *conn, name string) *protocol.SubscribeResult {
	result := s.recoveries.subscribed(s.channels.subscribe(c, name))
	s.identities.serve(c, c.subs[len(c.subs)-1].channel)
	return result
}

// advanceJoin goes on with c's connect command: it asks for what was missed, or sends the reply when there is nothing
// to ask or everything is answered.
func (s *Shard) advanceJoin(c *conn) {
	id := s.identities.of(c)
	j := id.join
	results := make(map[string]*protocol.SubscribeResult)
	names := s.servedNames(j.names)
	s.work.spendPart(unitsCommand * len(names))
	for _, name := range names {
		r := j.requests[name]
		if r == nil || j.asked[name] != nil {
			continue
		}
		reply := s.recoveries.beginRecovery(c, 0, r, s.serveChannel(c, name))
		switch {
		case reply == nil:
			rec := s.recoveries.of(c, c.subs[len(c.subs)-1].channel)
			rec.join = j
			j.asked[name] = &joinAsked{rec: rec}
			j.waiting++
		case reply.Error != nil:
			s.outlet.failFor(c, ReasonInsufficientState)
			return
		default:
			results[name] = reply.Subscribe
		}
	}
	if j.waiting > 0 {
		for name := range results { // Records must not come before the reply. They are asked for again then.
			s.channels.unsubscribe(c, s.channels.find(c, name), false)
		}
		s.hold(c)
		return
	}
	for _, name := range names {
		if results[name] == nil && j.asked[name] == nil {
			results[name] = s.serveChannel(c, name)
		}
	}
	s.finishJoin(c, id, results)
}

// answerJoin notes the first answer for a channel, and goes on when it was the last one that was missing.
func (s *Shard) answerJoin(c *conn, rec *recovery, r *result, room bool) {
	j := rec.join
	switch {
	case r.Result == bus.ResultOverload, r.Result == bus.ResultShare, r.Result == bus.ResultTimeout && !rec.cache:
		s.recoveries.failRecovery(c, rec, rec.origin) // It comes back, and has not lost what it missed.
		return
	}
	rec.asked = true // What the bus brings is parked until the reply.
	asked := j.asked[s.channels.list[rec.key.channel].name]
	asked.answer = r
	if asked.partial = r.More || !room || j.bytes+r.size > replyBytes; asked.partial {
		r.subscribe, r.size = nil, 0
	}
	j.bytes += r.size
	s.identities.bytes += int64(r.size)
	s.identities.answers += int64(r.size)
	if j.waiting--; j.waiting == 0 {
		if s.unhold(c); c.state == stateFree {
			return
		}
		s.advanceJoin(c)
		if c.isClient() {
			s.goOnHeld(c)
		}
	}
}

// finishJoin sends the reply to c's connect command. From then on c gets what the bus brings.
func (s *Shard) finishJoin(c *conn, id *identity, results map[string]*protocol.SubscribeResult) {
	j := id.join
	var live, streamed []*recovery
	for name, asked := range j.asked {
		rec, r := asked.rec, asked.answer
		switch {
		case r.Result != bus.ResultOK || rec.empty && r.empty || rec.cache && asked.partial:
			s.stats.Unrecovered[rec.origin].Add(1)
			s.recoveries.drop(rec)
			results[name] = s.recoveries.restart(c, s.channels.find(c, name))
			results[name].WasRecovering = true
		case asked.partial:
			results[name] = recoveredReply(c.speaks(), rec, nil).Subscribe
			streamed = append(streamed, rec)
		default:
			results[name] = r.subscribe
			rec.after = max(rec.after, rec.upTo)
			if rec.full {
				streamed = append(streamed, rec)
			} else {
				live = append(live, rec)
			}
		}
		rec.join = nil
	}
	s.identities.bytes -= int64(j.bytes + j.requestBytes)
	s.identities.answers -= int64(j.bytes)
	id.join = nil
	s.identities.endJoin(c)
	for name, data := range id.who.SubData {
		if r := results[name]; r != nil {
			r.Data = data
		}
	}
	result := s.connectResult(c)
	result.Subs = results
	s.outlet.sendAnswer(c, &protocol.Reply{Id: j.command, Connect: result})
	if !c.isClient() {
		return // The reply was too much for it.
	}
	for _, rec := range live {
		s.stats.Recovered[rec.origin].Add(1)
		s.recoveries.joinLive(c, rec)
	}
	for _, rec := range streamed {
		s.recoveries.stream(c, s.flows.of(c), rec)
	}
	s.flows.release(c)
}

// tooManyServed reports whether a client would get more channels with its connect command than a connection may have,
// or than there is room for.
func (s *Shard) tooManyServed(names []string) bool {
	if s.overSubscriptions(len(names)) {
		return true
	}
	_, ok := s.admitsChannels(names)
	return !ok
}

// recovering returns how many of the channels that the server is to subscribe c to it wants to recover, and whether the
// streams of all of them are known.
func (s *Shard) recovering(r *protocol.ConnectRequest, names []string) (n int, settled bool) {
	settled = true
	for _, name := range names {
		if sub := r.Subs[name]; sub != nil && sub.Recover {
			n++
			settled = settled && (s.opts.Recovery.Recoverer == nil || s.channels.settled(name))
		}
	}
	return n, settled
}
