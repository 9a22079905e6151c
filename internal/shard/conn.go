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
	stateRaw                      // Upgraded on /ws.
	stateJoining                  // Upgraded on /connection/websocket, no connect command yet.
	stateJoined                   // Connected client of the protocol.
	stateClosing                  // The last bytes are queued or sent; what comes in is discarded.
	stateDoomed                   // Ends when the current part of the turn is over, see Shard.doom.
)

// conn is one connection. It is plain data that could be written to a socket: no closure, no channel, no pointer into the shard
// (design.md §6). Every field belongs to the shard's goroutine.
type conn struct {
	fd         int32
	generation uint32 // Of the slot: tells a late event for an earlier connection from one for this one.
	slot       uint32

	// Timer: position in the wheel and the deadlines behind it, in ticks; 0 means none.
	timerNext, timerPrev int32
	timerAt              uint32 // Where the wheel holds the connection; at or before the earliest deadline.
	pingAt               uint32 // Next ping, or the pong's deadline while one is awaited.
	deadline             uint32 // End of the state: handshake, connect command, close.
	frameAt              uint32 // End of the incomplete message.

	state        connState
	variant      bus.Variant // That the connection reads.
	reason       Reason
	protocol     bool // Speaks the client protocol, whatever its state.
	deflate      bool // Has negotiated permessage-deflate.
	nativePing   bool // Pinged by WebSocket ping frames rather than in-band.
	awaitingPong bool
	user         bool  // It has a user, whose entry is the first of subs.
	dirty        bool  // In Shard.dirty.
	wantWritable bool  // Watched for EPOLLOUT.
	writeClosed  bool  // stateClosing: everything is sent and our side is shut.
	hasPutOff    bool  // It has answers in Shard.putOff.
	histories    uint8 // History commands whose answer is still to come; at most historyMax.

	recall uint32 // One more than its index in Shard.recalls; 0: it has nothing to be told.

	wrote uint32 // Bytes that the kernel has taken in this turn, while more is to be sent in it; at most writePerTurn.

	reader wire.Reader    // Fragmented message under way.
	in     *incomplete    // Bytes of an incomplete request or frame; nil otherwise.
	out    []chunk        // What the kernel has not taken; nil when empty.
	outOff uint32         // Bytes of out[0] already taken.
	behind uint32         // 0, or the pacing.moment in which it fell behind.
	outLen int            // Cost of what is in out, bytes taken included, and in merge.
	merge  *merge         // What waits behind out of channels with PolicyConflate; nil: c does not conflate.
	subs   []subscription // What the connection is subscribed to.
}

// incomplete is what a connection has sent of a request or frame.
type incomplete struct {
	bytes    []byte
	headSeen int // Of a request: bytes already searched for its end.
}

// chunk is a run of bytes to send, usually shared with many connections. It ends at a frame boundary.
type chunk struct {
	bytes        []byte
	publications uint32
	pin          uint32 // Index into Shard.pins of what holds bytes; 0: nothing, they are the shard's own.
	pong         bool   // A later pong may take its place.
	waits        bool   // Not to be sent before it is compressed, see deflate.go.
	of           uint32 // Index into Shard.channels, plus 1, of the publications; 0: it is something else.
}

// chunkOverhead is what a chunk takes in the queue beside its bytes. It counts as bytes that wait: a million answers of two bytes
// must not pass for two megabytes.
const chunkOverhead = 64

func (k *chunk) cost() int { return len(k.bytes) + chunkOverhead }

// subscription is one entry of a connection's list.
type subscription struct {
	channel uint32 // Index into Shard.channels.
	at      uint32 // Index into that channel's subscribers.
	start   uint64 // Publications up to this offset were routed before the subscription and are not for it; 0: no such bound.
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

// find returns the connection that has the slot with that generation, nil when there is none any more.
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
