package shard

import (
	"wsd/internal/bus"
	"wsd/internal/wire"
)

// connState is where a connection is in its life.
type connState uint8

const (
	stateFree    connState = iota // The slot is empty.
	stateProxy                    // A PROXY header is to come first.
	stateTLS                      // Its TLS handshake is under way.
	stateHead                     // Waiting for a complete upgrade request.
	stateJoining                  // Upgraded, but the connect command of its dialect has not come yet.
	stateJoined                   // A client that has said whatever it must say first.
	stateClosing                  // The last bytes are queued or sent; what comes in is discarded.
	stateFailed                   // Ends at the end of this turn or of one of the next, see outlet.fail.
	stateCount
)

func (s connState) String() string {
	return [...]string{"free", "proxy", "tls", "head", "joining", "joined", "closing", "failed"}[s]
}

// conn is one connection. It is plain data, with no closure, channel or pointer into the shard, so that a connection
// could be written to a socket and go on in another process. Every field belongs to the shard's goroutine.
type conn struct {
	transport
	generation uint32 // See slab.generation: tells a late event for an earlier connection from one for this one.

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
	// While it is closing: the bytes that were discarded.

	reader wire.Reader    // Fragmented message under way.
	in     *incomplete    // What came and was not acted on yet; nil for none.
	out    outbox         // What waits to be sent.
	subs   []subscription // What the connection is subscribed to.
}

// isClient reports whether the connection is upgraded and not at its end.
func (c *conn) isClient() bool { return c.state == stateJoining || c.state == stateJoined }

// isComing reports whether the connection's upgrade request is still to come.
func (c *conn) isComing() bool {
	return c.state == stateProxy || c.state == stateTLS || c.state == stateHead
}

// known is what is known of a connection's client, as bits.
type known uint8

const (
	knownIdentity known = 1 << iota // It has an entry in Shard.identities.
	knownProxied                    // Its peer is a proxy: it has an entry in Shard.proxied.
	knownUser                       // It has a user, whose entry is the first of conn.subs.
	knownCalls                      // It has an entry in Shard.calls.
)

// connRef names a connection, as epoll events do.
type connRef struct{ slot, generation uint32 }

// subscription is one entry of a connection's list.
type subscription struct {
	channel    uint32 // Index into channels.list.
	subscriber uint32 // Index into that channel's subscribers.
	start      uint64 // Records up to this offset were routed before it began, and are not for it; 0: no such bound.
}
