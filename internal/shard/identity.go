package shard

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"wsd/internal/shrink"
)

// identities are who the clients of a shard are, and what follows from that for each connection, by slot. There is none
// without an Authority.
type identities struct {
	bySlot map[uint32]*identity
	bytes  int64 // Memory that they take.

	answers int64 // Of that, publications that replies to connect commands wait with.

	joins map[uint32]struct{} // Slots of connections with a join.
	// Whether there are any, for other goroutines.
	joining atomic.Bool
}

// identity is what is known of one connection.
type identity struct {
	who     *Identity    // Nil before the client has said who it is.
	refused bool         // Its connect command was refused: nothing more is acted on.
	answer  *TokenAnswer // Of a raw client: what became of its token, until its request is looked at again.
	counted bool         // It counts as a connection of its user in Quotas.
	ends    expiry       // Of the connection.
	granted map[uint32]*grant
	server  map[uint32]bool // Channels, by index, that the server subscribed the client to.
	join    *serverJoin     // Its connect command waits for what it missed; nil: none does.

	infoBytes               int // Of infos in granted.
	grantedPeak, serverPeak int // See shrink.Map.
}

// grant is what a client has a channel by.
type grant struct {
	expiry
	info []byte // What others may know of the client in the channel, as JSON; nil: nothing.
}

// expiry is when a connection or subscription has expired, and until when it goes on.
type expiry struct {
	at  time.Time // Zero: never.
	end uint32    // Tick at which it ends, or is looked at again; 0: never.
}

// identityBytes is what an identity takes beside Identity.Bytes.
const identityBytes = 256

// of returns what is known of c, made if there is nothing.
func (ids *identities) of(c *conn) *identity {
	if c.known&knownIdentity == 0 {
		if ids.bySlot == nil {
			ids.bySlot = make(map[uint32]*identity)
		}
		ids.bySlot[c.slot] = &identity{}
		ids.bytes += identityBytes
		c.known |= knownIdentity
	}
	return ids.bySlot[c.slot]
}

// find returns what is known of c, nil if there is nothing.
func (ids *identities) find(c *conn) *identity {
	if c.known&knownIdentity == 0 {
		return nil
	}
	return ids.bySlot[c.slot]
}

// who returns what is known of the client of c.
func (s *Shard) who(c *conn) *Identity {
	if id := s.identities.find(c); id != nil && id.who != nil {
		return id.who
	}
	return &nobody
}

// nobody is a client that has no token.
var nobody Identity

// memory returns how much of the sum is c's.
func (ids *identities) memory(c *conn) (n int64) {
	id := ids.find(c)
	if id == nil {
		return 0
	}
	if id.join != nil {
		n += int64(id.join.bytes + id.join.requestBytes)
	}
	return n + identityBytes + id.who.memory() + int64(len(id.granted)+len(id.server))*identityGrantBytes +
		int64(id.infoBytes)
}

// identityGrantBytes is what an entry of identity.granted or identity.server takes.
const identityGrantBytes = 64

func (who *Identity) memory() int64 {
	if who == nil {
		return 0
	}
	return int64(who.Bytes)
}

// set says who the client of id is.
func (ids *identities) set(id *identity, who *Identity) {
	ids.bytes += who.memory() - id.who.memory()
	id.who = who
}

// grant notes that c has a channel by a token of its own, which expires, and what others may know of it there.
func (ids *identities) grant(c *conn, channel uint32, e expiry, info []byte) {
	id := ids.of(c)
	if id.granted == nil {
		id.granted = make(map[uint32]*grant)
	}
	more := len(info)
	if before := id.granted[channel]; before == nil {
		ids.bytes += identityGrantBytes
	} else {
		more -= len(before.info)
	}
	id.infoBytes += more
	ids.bytes += int64(more)
	id.granted[channel] = &grant{e, info}
}

// channelInfo returns what others may know of c in a channel, nil if that is nothing.
func (s *Shard) channelInfo(c *conn, channel string) []byte {
	id := s.identities.find(c)
	if id == nil || id.infoBytes == 0 {
		return nil
	}
	i := s.channels.find(c, channel)
	if i < 0 || id.granted[c.subs[i].channel] == nil {
		return nil
	}
	return id.granted[c.subs[i].channel].info
}

// serve notes that the server has subscribed c to a channel.
func (ids *identities) serve(c *conn, channel uint32) {
	id := ids.of(c)
	if id.server == nil {
		id.server = make(map[uint32]bool)
	}
	if !id.server[channel] {
		ids.bytes += identityGrantBytes
	}
	id.server[channel] = true
}

// serves reports whether the server has subscribed c to a channel, so that only a reconnect subscribes it again.
func (ids *identities) serves(c *conn, channel uint32) bool {
	id := ids.find(c)
	return id != nil && id.server[channel]
}

// left notes that c has left a channel.
func (ids *identities) left(c *conn, channel uint32) {
	id := ids.bySlot[c.slot]
	if g := id.granted[channel]; g != nil {
		id.infoBytes -= len(g.info)
		ids.bytes -= int64(len(g.info))
		id.grantedPeak = max(id.grantedPeak, len(id.granted))
		delete(id.granted, channel)
		shrink.Map(&id.granted, &id.grantedPeak, channelsKept)
		ids.bytes -= identityGrantBytes
	}
	if id.server[channel] {
		id.serverPeak = max(id.serverPeak, len(id.server))
		delete(id.server, channel)
		shrink.Map(&id.server, &id.serverPeak, channelsKept)
		ids.bytes -= identityGrantBytes
	}
}

// channelsKept is how many channels the maps of an identity may once have had without being made anew.
const channelsKept = 64

// answersOf returns how much of answers is c's.
func (ids *identities) answersOf(c *conn) int64 {
	if id := ids.find(c); id != nil && id.join != nil {
		return int64(id.join.bytes)
	}
	return 0
}

// forgetIdentity drops what is known of c, as it ends. It must have left its channels.
func (s *Shard) forgetIdentity(c *conn) {
	if c.input == inputHeld {
		s.inbound.release(c)
		c.input = inputNone
	}
	id := s.identities.find(c)
	if id == nil {
		return
	}
	if id.counted {
		s.opts.Quotas.users.add(id.who.User, -1)
	}
	s.identities.endJoin(c)
	s.identities.bytes -= s.identities.memory(c)
	s.identities.answers -= s.identities.answersOf(c)
	delete(s.identities.bySlot, c.slot)
	c.known &^= knownIdentity
}

// endsFarMax bounds how far ahead an end is noted, in ticks: about 600 days. What ends later is looked at again then.
const endsFarMax = 1 << 30

// graceSpread is the part of the grace over which ends are spread, so that clients that expire together, and do not
// refresh, are not closed together.
const graceSpread = 4

// expiresAt returns when what expires at a time ends: after the grace, or up to a quarter of it earlier.
func (s *Shard) expiresAt(at time.Time) expiry {
	if at.IsZero() {
		return expiry{}
	}
	grace := s.opts.Auth.Grace
	if spread := grace / graceSpread; spread > 0 {
		grace -= rand.N(spread) //nolint:gosec // It only spreads ends.
	}
	return expiry{at: at, end: s.endTick(at.Add(grace))}
}

// endTick returns the tick of a time, or one before it if that is far.
func (s *Shard) endTick(at time.Time) uint32 {
	left := min(time.Until(at), endsFarMax*tickLength)
	return s.tick + ticks(max(left, tickLength))
}

// expired reports whether what e stands for has ended. One that was noted for a tick before its end, because that is
// far, gets another tick.
func (s *Shard) expired(e *expiry) bool {
	if e.end == 0 || s.tick < e.end {
		return false
	}
	if earliest := e.at.Add(s.opts.Auth.Grace * (graceSpread - 1) / graceSpread); time.Now().Before(earliest) {
		e.end = s.endTick(earliest)
		return false
	}
	return true
}

// ttlOf returns after how many seconds a client is to refresh what expires at a time: up to a tenth earlier, at random,
// so that clients whose tokens were made together do not all come at once.
func ttlOf(at time.Time) uint32 {
	left := time.Until(at)
	if spread := left / 10; spread > 0 {
		left -= rand.N(spread) //nolint:gosec // It only spreads refreshes.
	}
	return uint32(min(max(left/time.Second, 1), ttlMax))
}

// ttlMax is the longest time to live that clients are told, in seconds: timers of JavaScript end at 2^31 milliseconds.
// A client that refreshes then has lost nothing.
const ttlMax = 1<<31/1000 - 1

// next returns the earliest tick at which something of id ends; 0: none does.
func (id *identity) next() uint32 {
	at := id.ends.end
	for _, e := range id.granted {
		if e.end != 0 && (at == 0 || e.end < at) {
			at = e.end
		}
	}
	return at
}
