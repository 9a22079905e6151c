package shard

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// What a connection recovers beyond a small reply goes to it as a stream of portions (stream.go). A flow is what its
// streams share: they take turns, and together have at most a window of bytes in flight. A ping follows each portion;
// its pong says that the client has handled all that came before, as SDKs answer pings in their turn. The window
// grows while pongs come soon and shrinks when they come late, so that a slow link is never filled with more than it
// carries in about a second: a reply or a ping behind a portion must not come too late for the client.
const (
	windowMin  = 16 << 10
	windowMax  = 256 << 10
	ackSoon    = 200 * time.Millisecond // A pong that comes sooner doubles the window,
	ackLate    = time.Second            // and one that comes later halves it.
	inFlight   = 8                      // Portions in flight at most.
	portionMin = 8 << 10                // Bytes that a portion may at least have,
	portionMax = 64 << 10               // and at most.

	// firstQueries bounds the first queries of a connection's subscriptions that are under way together. Portions are
	// asked for one at a time.
	firstQueries = 8
	// pongPatience is how long a pong may take that was asked for by a portion: the client may handle publications
	// slowly.
	pongPatience = 30 * time.Second
)

// flow is what the recoveries and history commands of a connection share.
type flow struct {
	first   []*recovery // Want to ask for the first time.
	streams []*recovery // Want a portion, in turn.
	asking  int         // Queries under way.
	portion bool        // One of them is for a portion.
	window  int
	bytes   int            // In flight.
	pings   []pingInFlight // Sent and not answered, oldest first.
	gone    *atomic.Bool   // Set when the connection ends: queries for it are canceled.
	network netip.Addr     // Of the client, see proxied.network.
	listed  bool           // In flows.ready.
	pauses  int            // Entries of the connection in flows.pauses.
}

// pingInFlight is a ping that has not been answered.
type pingInFlight struct {
	tick  uint32 // When it was queued.
	bytes int    // Of the portion before it; 0: an ordinary ping.

	recovered RecoveryOrigin // Not RecoveryNone: the portion was the last one of a recovery from there.
}

// flows are the flows of a shard's connections, by slot.
type flows struct {
	bySlot map[uint32]*flow
	ready  []connRef // Connections that are to ask, in this turn or the next.
	pauses pauses

	proxied *proxied
}

// of returns c's flow, made if there is none.
func (fs *flows) of(c *conn) *flow {
	if c.hasFlow {
		return fs.bySlot[c.slot]
	}
	f := &flow{
		window: windowMin, gone: new(atomic.Bool), network: fs.proxied.network(c), pings: make([]pingInFlight, c.pings),
	}
	fs.bySlot[c.slot] = f
	c.hasFlow = true
	return f
}

// add has a recovery of c ask for the first time, in this turn.
func (fs *flows) add(c *conn, rec *recovery) {
	f := fs.of(c)
	f.first = append(f.first, rec)
	fs.list(c, f)
}

// list has what waits in f ask in this turn, as far as it may.
func (fs *flows) list(c *conn, f *flow) {
	if !f.listed {
		f.listed = true
		fs.ready = append(fs.ready, connRef{c.slot, c.generation})
	}
}

// forget cancels what c has under way, as it ends.
func (fs *flows) forget(c *conn) {
	if c.hasFlow {
		fs.bySlot[c.slot].gone.Store(true)
		delete(fs.bySlot, c.slot)
		c.hasFlow = false
	}
}

// idle reports whether nothing of f is under way.
func (f *flow) idle() bool {
	return f.asking == 0 && len(f.first) == 0 && len(f.streams) == 0 && f.bytes == 0 && f.pauses == 0
}

// release forgets c's flow when nothing is under way.
func (fs *flows) release(c *conn) {
	if f := fs.bySlot[c.slot]; f != nil && f.idle() && c.histories == 0 {
		fs.forget(c)
	}
}

// pause has rec go on after a pause of a kind.
func (fs *flows) pause(c *conn, f *flow, rec *recovery, kind pauseKind, now uint32) {
	f.pauses++
	fs.pauses.add(kind, now, pause{conn: connRef{c.slot, c.generation}, rec: rec})
}

// room returns how many bytes the next portion may have; 0: it waits for a pong.
func (f *flow) room() int {
	room := min(f.window-f.bytes, portionMax)
	if f.portion || room < portionMin || len(f.pings) >= inFlight {
		return 0
	}
	return room
}

// pinged notes that a ping was queued for c.
func (fs *flows) pinged(c *conn, p pingInFlight) {
	if c.hasFlow {
		f := fs.bySlot[c.slot]
		f.pings = append(f.pings, p)
		f.bytes += p.bytes
	}
}

// ponged notes that the oldest ping of f was answered, and returns what it was.
func (f *flow) ponged(tick uint32) (p pingInFlight) {
	if len(f.pings) == 0 {
		return p
	}
	p = f.pings[0]
	f.pings = f.pings[1:]
	f.bytes -= p.bytes
	if p.bytes > 0 {
		switch took := tick - p.tick; {
		case took <= ticks(ackSoon):
			f.window = min(2*f.window, windowMax)
		case took >= ticks(ackLate):
			f.window = max(f.window/2, windowMin)
		}
	}
	return p
}
