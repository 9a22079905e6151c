package client

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

// Disturb is clients that behave like bad clients on bad networks: they read slowly or not at all, reset their
// connections at any time, and come back. What they do receive must still be every record, once and in order.
type Disturb struct {
	Count       int           // Number of disturbing clients, which have one connection each at a time; 0: none.
	Seed        uint64        // Seed of everything random.
	OutboundMax int           // The server's client.outbound_max in bytes.
	StopMax     time.Duration // Maximum time for which a client does not read, or reads slowly; above 200 ms.
	Slow        bool          // Whether clients read slowly at times.
	Stop        bool          // Whether clients do not read at times.
	Reset       bool          // Whether connections are reset, also before they are upgraded.
}

func (d *Disturb) check() error {
	if d.Count < 0 || d.Count > 0 && (d.StopMax <= shortestStop || d.OutboundMax < 1) {
		return errors.New("disturbing clients need a limit, and a StopMax above 200 ms")
	}
	return nil
}

// disturber returns what client i does.
func (d *Disturb) disturber(i int) *disturber {
	return &disturber{chance: rand.New(rand.NewPCG(d.Seed, uint64(i)))}
}

// Probabilities and times of what disturbing clients do.
const (
	shortestStop = 200 * time.Millisecond
	shortestRead = 200 * time.Millisecond
	readMax      = 5 * time.Second
	pauseMax     = time.Second // Maximum time before reconnecting.
	// Maximum time between a part of the upgrade request and the reset; less than client.handshake_timeout.
	upgradeHoldMax = time.Second
	slowInterval   = 100 * time.Millisecond // Time between two reads of a client that reads slowly.

	chanceUpgradeReset = 0.15 // That a connection is reset before it is upgraded.
	chanceBehindReset  = 0.2  // That a stop or slow reading ends with a reset.
	chanceLeave        = 0.3  // That a connection that is up to date ends with a close frame.
	chanceHalfFrame    = 0.5  // That a reset follows a part of a frame.
	chanceSmallBuffer  = 0.5  // That a connection has a receive buffer of smallBuffer bytes.
	smallBuffer        = 4 << 10
)

// Limits of waiting for the server, and what it may hold.
const (
	catchUpMax = 30 * time.Second
	stuckAfter = 15 * time.Second // Maximum time without a byte for a client that should get some.
	// recordOverhead is what the server needs at least for a record that waits, beside its bytes.
	recordOverhead = 64
	othersMax      = 4 << 10 // What else may wait: pings and answers.
	// sendBufferMax is what the kernel holds at most of a connection on the server's side: twice a
	// client.kernel_send_buffer of 64 KiB.
	sendBufferMax = 128 << 10
	// shortestUnanswered is how long a client must not read before it can be late with a pong: less than
	// client.pong_timeout.
	shortestUnanswered = 5 * time.Second
	// lagMax is how far behind a shard can be without being detached: more than bus.stall_max.
	lagMax = 5 * time.Second
)

// mode is what a disturbing client does at the moment.
type mode uint8

const (
	modeOff     mode = iota // Has no connection.
	modeUpgrade             // Is being upgraded.
	modeAbort               // Waits, and resets before the upgrade is answered.
	modeRead                // Reads all that comes, for a while.
	modeSlow                // Reads slowly, for a while.
	modeStop                // Does not read, for a while.
	modeCatchUp             // Reads until it has all that was produced when it began to.
	modeRest                // Reads until the connection ends.
)

// disturber is what a disturbing client does, and what is known about its connection.
type disturber struct {
	chance *rand.Rand
	on     bool // Whether the client comes back.
	mode   mode
	blind  bool  // Whether epoll reports only the end of the connection.
	until  int64 // When the mode ends; in modeOff: when to connect.
	phases int   // Phases that are left.
	rate   int   // Bytes per read in modeSlow.
	next   int64 // Next read in modeSlow.

	floor      uint64 // Records up to this are not for this connection.
	due        uint64 // What others had got lagMax before the end of a stop or slow reading.
	must       uint64 // Records after this are for this connection.
	last       uint64 // Last record that came; 0: none.
	target     uint64 // Record to wait for in modeCatchUp.
	deliveries uint64
	gotAt      int64 // When anything came last.
	upTo       int64 // When the newest record that came was made: what the server sent before has come.
	tooMuch    bool  // Whether the server should have closed the connection.
	leaving    bool  // Whether the client has sent a close frame.
	whole      bool  // Whether the whole upgrade request was sent.
	silent     bool  // Whether nothing was sent.
}

// rest makes the client read until the connection ends.
func (b *disturber) rest() { b.mode = modeRest }

// has is the last record that came or that was not for this connection.
func (b *disturber) has() uint64 { return max(b.last, b.floor) }

// owed says whether a record up to last must still come. The first records after the subscription may not: others may
// have got them before.
func (b *disturber) owed(last uint64) bool { return b.has() < last && (b.last > 0 || b.must < last) }

// Disturb begins or ends disturbing. After the end, connected clients read the rest and close properly.
func (e *Engine) Disturb(on bool) {
	e.do(func(l *loop) {
		for i := l.good; i < len(l.conns); i++ {
			b := l.conns[i].bad
			if b.on = on; on && b.mode == modeOff {
				b.until = l.now + b.chance.Int64N(int64(pauseMax))
			}
		}
	})
}

// disturb does what is due for a disturbing client.
func (l *loop) disturb(who int32) {
	c := &l.conns[who]
	b := c.bad
	over := l.now >= b.until || !b.on && b.mode != modeAbort
	switch b.mode {
	case modeOff:
		if b.on && l.now >= b.until {
			l.badDial(who)
		}
	case modeAbort:
		if over {
			l.badReset(who, epoll.Reset)
			l.badUnupgraded(b)
			l.badEnd(c)
		}
	case modeUpgrade, modeRest:
		l.badStuck(who)
	case modeRead:
		if over {
			l.nextPhase(who)
		}
	case modeSlow, modeStop:
		if b.due == 0 && b.until-l.now <= int64(lagMax) {
			b.due = l.e.Seen(0)
		}
		switch {
		case over && b.on && l.e.o.Disturb.Reset && b.chance.Float64() < chanceBehindReset:
			l.badAbandon(who)
		case over:
			l.catchUp(who)
		case b.mode == modeSlow && l.now >= b.next:
			b.next = l.now + int64(slowInterval)
			l.readOnce(who, b.rate)
		}
	case modeCatchUp:
		switch {
		case !b.owed(b.target):
			l.bad.CaughtUp++
			if b.tooMuch {
				l.bad.TooLate++
				l.fault(who, fmt.Sprintf("not closed though others had up to %d", b.due))
			}
			l.nextPhase(who)
		case l.now >= b.until: // A small buffer can take so long: one window each time that the other end's timer asks.
			l.nextPhase(who)
		default:
			l.badStuck(who)
		}
	}
}

// badDial begins a connection.
func (l *loop) badDial(who int32) {
	c := &l.conns[who]
	b := c.bad
	*b = disturber{chance: b.chance, on: b.on, floor: l.e.Seen(0), upTo: l.now, gotAt: l.now, mode: modeUpgrade}
	c.state, c.started = stateConnecting, l.now
	buffer := 0
	if b.chance.Float64() < chanceSmallBuffer {
		// Before connecting, because the window that the kernel announces depends on it.
		buffer = smallBuffer
	}
	if err := l.open(who, buffer); err != nil {
		l.badRefused(who, err.Error())
	}
}

// badUpgrade reports whether the client goes on with the upgrade. Else it sends a part of the request, or all of it,
// and will reset without reading.
func (l *loop) badUpgrade(who int32) bool {
	c := &l.conns[who]
	b := c.bad
	if !l.e.o.Disturb.Reset || b.chance.Float64() >= chanceUpgradeReset {
		b.whole = true
		return true
	}
	request := l.request(who)
	part := request[:b.chance.IntN(len(request)+1)]
	b.whole, b.silent = len(part) == len(request), len(part) == 0 && c.tls == nil
	b.mode, b.until = modeAbort, l.now+b.chance.Int64N(int64(upgradeHoldMax))
	if len(part) > 0 && !l.send(who, part) {
		return false
	}
	l.watch(who, false)
	return false
}

// badHeld begins the phases of an upgraded connection.
func (l *loop) badHeld(who int32, produced uint64) {
	b := l.conns[who].bad
	b.must, b.phases = produced, 2+b.chance.IntN(3)
	l.nextPhase(who)
}

// nextPhase chooses what the client does next, or ends the connection.
func (l *loop) nextPhase(who int32) {
	b, d := l.conns[who].bad, &l.e.o.Disturb
	if b.phases--; b.phases <= 0 || !b.on {
		if !b.on || !d.Reset || b.chance.Float64() < chanceLeave {
			l.badLeave(who)
		} else {
			l.badAbandon(who)
		}
		return
	}
	hold := int64(spread(b.chance, shortestStop, d.StopMax))
	b.rate, b.due = (512+b.chance.IntN(8<<10))/10, 0
	switch kind := b.chance.IntN(3); {
	case kind == 1 && d.Slow:
		l.bad.Slows++
		b.mode, b.until = modeSlow, l.now+hold
		l.watch(who, false)
	case kind == 2 && d.Stop:
		l.bad.Stops++
		b.mode, b.until = modeStop, l.now+hold
		l.watch(who, false)
	default:
		b.mode, b.until = modeRead, l.now+int64(spread(b.chance, shortestRead, readMax))
	}
}

// catchUp reads until everything has come that was produced when it began.
func (l *loop) catchUp(who int32) {
	b := l.conns[who].bad
	// What the server must hold if it has not closed the connection: what others have got and this one not.
	waiting := (b.due - min(b.due, b.has())) * uint64(l.frameBytes())
	b.tooMuch = waiting > uint64(l.e.o.Disturb.OutboundMax+sendBufferMax+l.receiveBuffer(who)+l.frameBytes())
	b.target, b.gotAt, b.mode = l.e.o.Channels[0].Produced(), l.now, modeCatchUp
	b.until = l.now + int64(catchUpMax)
	l.watch(who, true)
}

// badLeave sends a close frame.
func (l *loop) badLeave(who int32) {
	b := l.conns[who].bad
	b.leaving, b.gotAt, b.mode = true, l.now, modeRest
	l.send(who, appendClose(nil))
}

// badAbandon resets an upgraded connection, perhaps after a part of a frame.
func (l *loop) badAbandon(who int32) {
	c := &l.conns[who]
	b := c.bad
	if b.chance.Float64() < chanceHalfFrame {
		frame := wire.AppendMasked(nil, ws.OpText, make([]byte, 100), mask)
		if !l.send(who, frame[:1+b.chance.IntN(len(frame)-1)]) {
			if c.fd >= 0 && b.blind {
				l.watch(who, true)
			}
			return
		}
		l.bad.HalfFrames++
	}
	buffer := l.badReset(who, epoll.Reset)
	slow, late := l.causes(b) // Now, because records may have been made in between.
	if slow || late {
		l.bad.ResetBehind++
		l.countCauses(slow, late)
	} else {
		l.bad.ResetClear++
	}
	l.unread(b, true, buffer)
	l.badEnd(c)
}

// badStuck resets a connection on which nothing comes although something should.
func (l *loop) badStuck(who int32) {
	c := &l.conns[who]
	b := c.bad
	if l.now-b.gotAt < int64(stuckAfter) {
		return
	}
	l.bad.Stuck++
	l.fault(who, fmt.Sprintf("nothing came for %s", stuckAfter))
	upgraded, connected := c.state == stateHeld, c.state != stateConnecting
	buffer := l.badReset(who, epoll.Reset)
	switch {
	case upgraded:
		l.bad.ResetBehind++
		l.unread(b, true, buffer)
	case connected:
		l.badUnupgraded(b)
	}
	l.badEnd(c)
}

// badReset closes the socket and returns what the kernel held at most of the connection on our side.
func (l *loop) badReset(who int32, how func(int)) (buffer int) {
	buffer = l.receiveBuffer(who)
	if c := &l.conns[who]; c.fd >= 0 {
		l.drop(c, how)
	}
	return buffer
}

// badUnupgraded counts a connection that ended before the answer to the upgrade request was read.
func (l *loop) badUnupgraded(b *disturber) {
	l.bad.ResetUpgrade++
	if b.whole {
		l.bad.ResetWhole++
		l.unread(b, true, 0)
	}
	if b.silent {
		l.bad.ResetSilent++
	}
}

// badRefused ends a connection that was not upgraded.
func (l *loop) badRefused(who int32, reason string) {
	c := &l.conns[who]
	if c.state == stateConnecting {
		count(&l.bad.NotDialed, reason)
	} else {
		count(&l.bad.NotUpgraded, reason)
		l.bad.Refused++
	}
	l.badReset(who, epoll.Close)
	l.badEnd(c)
}

// badCut ends a connection that the server or the network has ended without a close frame.
func (l *loop) badCut(who int32) {
	c := &l.conns[who]
	b := c.bad
	buffer := l.receiveBuffer(who)
	slow, late := l.causes(b)
	l.bad.Cut++
	l.countCauses(slow, late)
	if !slow && !late && b.mode != modeAbort {
		l.bad.Unexplained++
		l.fault(who, "cut by the server")
	}
	l.unread(b, true, buffer)
	l.badReset(who, epoll.Close)
	l.badEnd(c)
}

// closedSlow says whether a close frame is the server's for a client that does not keep up.
func closedSlow(reason string) bool { return reason == "1008 slow" || reason == "3008 slow" }

// badClosed ends a connection after the server's close frame.
func (l *loop) badClosed(who int32, code uint16, reason string) {
	c := &l.conns[who]
	b := c.bad
	if b.leaving && code == uint16(ws.StatusNormalClosure) {
		l.bad.Left++
	} else {
		count(&l.bad.Frames, reason)
		if slow, _ := l.causes(b); closedSlow(reason) && !slow {
			l.bad.TooEarly++
			l.fault(who, "closed with "+reason)
		}
		l.unread(b, false, 0) // All that the kernel took has come, with the close frame behind it.
	}
	l.badReset(who, epoll.Close)
	l.badEnd(c)
}

// badEnd lets the client come back later.
func (l *loop) badEnd(c *conn) {
	b := c.bad
	c.state, b.mode, b.blind = stateIdle, modeOff, false
	b.until = l.now + b.chance.Int64N(int64(pauseMax))
}

// badRecord checks one record.
func (l *loop) badRecord(who int32, seq uint64, made int64) {
	b := l.conns[who].bad
	l.bad.Deliveries++
	b.deliveries++
	next := b.last + 1
	if b.last == 0 {
		next = b.must + 1
	}
	switch {
	case b.last == 0 && seq <= b.floor || b.last > 0 && seq < next:
		l.bad.Records.Duplicates++
		l.fault(who, fmt.Sprintf("record %d came again", seq))
	case seq > next:
		l.bad.Records.Lost += int64(seq - next)
		l.fault(who, fmt.Sprintf("record %d came instead of %d", seq, next))
	}
	b.last, b.upTo = max(b.last, seq), max(b.upTo, made)
}

// frameBytes is what a record takes on the wire at least.
func (l *loop) frameBytes() int {
	size := l.e.o.Channels[0].Format.Size()
	return size + len(wire.AppendHeader(nil, ws.OpText, size))
}

// behind is how many records may have been published for the connection and have not come.
func (l *loop) behind(b *disturber) uint64 {
	produced := l.e.o.Channels[0].Produced()
	return produced - min(produced, b.has())
}

// causes says which reasons the server may have to end the connection now: more than the limit may wait, or a pong may
// be late, because of what the server sent before shortestUnanswered not all has come.
func (l *loop) causes(b *disturber) (slow, late bool) {
	behind, overhead := l.behind(b), recordOverhead
	if l.e.o.Protocol != Raw {
		overhead += recordOverhead + len(l.e.o.Channels[0].Name) // An envelope.
	}
	slow = behind*uint64(l.frameBytes()+overhead)+othersMax > uint64(l.e.o.Disturb.OutboundMax)
	return slow, behind > 0 && l.e.o.Now()-b.upTo >= int64(shortestUnanswered)
}

func (l *loop) countCauses(slow, late bool) {
	if slow {
		l.bad.MayBeSlow++
	}
	if late {
		l.bad.MayBeLate++
	}
}

// unread counts what may have been published for a connection that has ended and did not come. lossy says that the
// kernel may have taken some of it.
func (l *loop) unread(b *disturber, lossy bool, buffer int) {
	behind := l.behind(b)
	l.bad.UnreadMax += behind
	l.bad.Unread++
	if !lossy {
		return
	}
	l.bad.InKernel++
	l.bad.InKernelMax += min(behind, uint64((sendBufferMax+buffer)/l.frameBytes()+1))
	if behind > 0 {
		// A part of a batch can have come only if the rest has not; a batch has at most half of what may wait.
		l.bad.PartialMax += min(b.deliveries, uint64(l.e.o.Disturb.OutboundMax/2/l.frameBytes()+1))
	}
}

// receiveBuffer is what the kernel holds at most of a connection on our side.
func (l *loop) receiveBuffer(who int32) int {
	n, err := unix.GetsockoptInt(int(l.conns[who].fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0
	}
	return n
}

// fault notes what was wrong with a connection.
func (l *loop) fault(who int32, what string) {
	if len(l.bad.Faults) >= faultsMax {
		return
	}
	b := l.conns[who].bad
	l.bad.Faults = append(l.bad.Faults, fmt.Sprintf("%s (last record %d, up to %d before it connected, up to %d "+
		"before it was upgraded; others have %d, Kafka was given %d)",
		what, b.last, b.floor, b.must, l.e.Seen(0), l.e.o.Channels[0].Produced()))
}

// spread returns a random time between shortest and longest. Its logarithm is evenly distributed, so that short times
// are as frequent as long ones.
func spread(chance *rand.Rand, shortest, longest time.Duration) time.Duration {
	return time.Duration(float64(shortest) * math.Pow(float64(longest)/float64(shortest), chance.Float64()))
}
