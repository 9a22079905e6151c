package shard

import (
	"wsd/internal/bus"
	"wsd/internal/wire"
)

// connState is where a connection is in its life.
type connState uint8

const (
	stateFree    connState = iota // The slot is empty.
	stateHead                     // Waiting for a complete upgrade request.
	stateJoining                  // Upgraded, but the connect command of its dialect has not come yet.
	stateJoined                   // A client that has said whatever it must say first.
	stateClosing                  // The last bytes are queued or sent; what comes in is discarded.
	stateFailed                   // Ends at the end of the turn, see outlet.fail.
	stateCount
)

func (s connState) String() string {
	return [...]string{"free", "head", "joining", "joined", "closing", "failed"}[s]
}

// conn is one connection. It is plain data, with no closure, channel or pointer into the shard, so that a connection
// could be written to a socket and go on in another process. Every field belongs to the shard's goroutine.
type conn struct {
	transport
	generation uint32 // Of the slot: tells a late event for an earlier connection from one for this one.
	slot       uint32

	// Timer: links of the wheel's list, and deadlines in ticks; 0 means none.
	timerNext, timerPrev int32
	timerAt              uint32 // Where the wheel holds the connection: at or before the earliest deadline.
	pingAt               uint32 // Next ping, or the pong's deadline while one is awaited.
	deadline             uint32 // End of the state: handshake, connect command, close.
	frameAt              uint32 // Deadline of the incomplete message.

	state      connState
	variant    bus.Variant // Of the layouts that the connection reads, and so its dialect.
	reason     Reason      // Why it ends.
	nativePing bool        // It is pinged by WebSocket ping frames rather than in-band.
	pings      uint8       // Pings that have not been answered.
	known      known       // What is known of its client.
	recalled   bool        // It has an entry in Shard.recalls.
	emptying   bool        // It has an entry in Shard.emptying.
	hasFlow    bool        // It has an entry in Shard.flows.
	hasPutOff  bool        // It has completions that were put off.
	histories  uint8       // History commands whose reply is still to come; at most historyMax.
	input      inputState  // Whether a turn has put off its input.
	whole      uint32      // When its allowance is whole again, in allowanceUnits since start; it wraps around.

	reader wire.Reader    // Fragmented message under way.
	in     *incomplete    // What came and was not acted on yet; nil for none.
	out    outbox         // What waits to be sent.
	subs   []subscription // What the connection is subscribed to.
}

// isClient reports whether the connection is upgraded and not at its end.
func (c *conn) isClient() bool { return c.state == stateJoining || c.state == stateJoined }

// known is what is known of a connection's client, as bits.
type known uint8

const (
	knownIdentity known = 1 << iota // It has an entry in Shard.identities.
	knownUser                       // It has a user, whose entry is the first of conn.subs.
)

// connRef names a connection, as epoll events do.
type connRef struct{ slot, generation uint32 }

// subscription is one entry of a connection's list.
type subscription struct {
	channel    uint32 // Index into channels.list.
	subscriber uint32 // Index into that channel's subscribers.
	start      uint64 // Records up to this offset were routed before it began, and are not for it; 0: no such bound.
}

// Slots of the slab come in blocks, so that a connection never moves.
const (
	blockBits  = 6 // 10 KiB: small against many shards that have few connections each.
	blockSlots = 1 << blockBits
	slotsMax   = 1 << 24 // A routing.ConnID has 24 bits for the slot.
)

// slab holds the connections of a shard by slot.
type slab struct {
	blocks []*[blockSlots]conn
	free   []uint32
}

// get returns the connection in a slot that has been taken at least once.
func (s *slab) get(slot uint32) *conn { return &s.blocks[slot>>blockBits][slot&(blockSlots-1)] }

// find returns the connection that has the slot with that generation, nil when it has gone.
func (s *slab) find(slot, generation uint32) *conn {
	if slot>>blockBits >= uint32(len(s.blocks)) {
		return nil
	}
	if c := s.get(slot); c.generation == generation && c.state != stateFree {
		return c
	}
	return nil
}

// take returns an empty slot, or nil when all are in use.
func (s *slab) take() *conn {
	if len(s.free) == 0 {
		first := uint32(len(s.blocks)) << blockBits
		if first >= slotsMax {
			return nil
		}
		s.blocks = append(s.blocks, new([blockSlots]conn))
		for i := range uint32(blockSlots) {
			slot := first + blockSlots - 1 - i // So that low slots are taken first.
			c := s.get(slot)
			c.slot, c.timerNext, c.timerPrev = slot, timerNone, timerNone
			s.free = append(s.free, slot)
		}
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	c := s.get(slot)
	*c = conn{slot: slot, generation: (c.generation + 1) & (1<<24 - 1), timerNext: timerNone, timerPrev: timerNone}
	return c
}

// put empties a slot.
func (s *slab) put(c *conn) {
	*c = conn{slot: c.slot, generation: c.generation, timerNext: timerNone, timerPrev: timerNone}
	s.free = append(s.free, c.slot)
}

// each calls fn for every connection in use. fn may end connections but not take slots.
func (s *slab) each(fn func(*conn)) {
	for _, block := range s.blocks {
		for i := range block {
			if block[i].state != stateFree {
				fn(&block[i])
			}
		}
	}
}
